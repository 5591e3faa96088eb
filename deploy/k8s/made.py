"""Which Secrets and ConfigMaps pods mount that no manifest brings, and so somebody has to make, and who makes them."""

from collections.abc import Iterator
from typing import Final

from deploy.k8s.overlay import Manifest, workloads

Object = tuple[str, str]
"""Kind and name."""
# By `python -m deploy.k8s.envoy`.
OF_ENVOY: Final = frozenset({("ConfigMap", "envoy"), ("ConfigMap", "envoy-library")})
# Public roots, out of what cert-manager makes in the cluster (docs/sre.md).
OF_ROOTS: Final = frozenset({("ConfigMap", "finid-database-roots")})
WHOLE: Final = ""
"""In place of a key: whatever keys there are."""


def wanted(*kustomizations: list[Manifest]) -> dict[Object, frozenset[str]]:
    """Return the objects that somebody has to make, each with the keys that are asked of it."""
    manifests = [item for part in kustomizations for item in part]
    made = {(item["kind"], item["metadata"]["name"]) for item in manifests} | OF_ENVOY | OF_ROOTS
    made |= {("Secret", item["spec"]["secretName"]) for item in manifests if item["kind"] == "Certificate"}
    found: dict[Object, set[str]] = {}
    for asked, key in [*_mounted(manifests), *_of_database(manifests)]:
        if asked not in made:
            found.setdefault(asked, set()).add(key)
    return {asked: frozenset(keys) for asked, keys in sorted(found.items())}


def _mounted(manifests: list[Manifest]) -> Iterator[tuple[Object, str]]:
    for workload in workloads(manifests).values():
        for volume in workload["spec"]["template"]["spec"].get("volumes", []):
            for source, kind, field in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                if source in volume:
                    keys = [item["key"] for item in volume[source].get("items", [])] or [WHOLE]
                    yield from (((kind, volume[source][field]), key) for key in keys)


def _of_database(manifests: list[Manifest]) -> Iterator[tuple[Object, str]]:
    """Logins that CloudNativePG gives its roles, and what its backups need."""
    for item in manifests:
        if item["kind"] == "Cluster":
            names = [role["passwordSecret"]["name"] for role in item["spec"]["managed"]["roles"]]
            (begun,) = item["spec"]["bootstrap"].values()
            for name in [begun["secret"]["name"], *names]:
                yield from ((("Secret", name), key) for key in ("username", "password"))
        if item["kind"] == "ObjectStore":
            for reference in item["spec"]["configuration"]["s3Credentials"].values():
                yield ("Secret", reference["name"]), reference["key"]
