"""Which Secrets and ConfigMaps pods mount that no manifest brings, and so somebody has to make, and who makes them."""

from collections.abc import Iterator
from typing import Final

from deploy.k8s.overlay import Manifest, workloads

Object = tuple[str, str]
"""Kind and name."""
# By `python -m deploy.k8s.envoy`.
OF_ENVOY: Final = frozenset({("ConfigMap", "envoy"), ("ConfigMap", "envoy-library")})
# Public roots, out of what cert-manager makes in the cluster (docs/sre.md).
OF_ROOTS: Final = frozenset({("ConfigMap", "finid-database-roots"), ("ConfigMap", "finid-mesh-roots")})
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
            for asked, items in sources(volume):
                yield from ((asked, item["key"]) for item in items or [{"key": WHOLE}])


def sources(volume: Manifest) -> Iterator[tuple[Object, list[dict[str, str]]]]:
    """Yield the Secrets and ConfigMaps of a pod's volume, each with its items; [] where it is mounted whole."""
    if "secret" in volume:
        yield ("Secret", volume["secret"]["secretName"]), volume["secret"].get("items", [])
    if "configMap" in volume:
        yield ("ConfigMap", volume["configMap"]["name"]), volume["configMap"].get("items", [])
    for source in volume.get("projected", {}).get("sources", []):
        for field, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
            if field in source:
                yield (kind, source[field]["name"]), source[field]["items"]


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
