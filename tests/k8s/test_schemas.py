"""Manifests against the API's own schemas, unknown fields refused, for the two newest Kubernetes versions."""

import functools
import json

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.k8s.manifests import OVERLAYS, Manifest, objects

VERSIONS = ("1.36", "1.37")
# Kinds of others, whose schemas no package carries: those are checked by tests of what they say only.
FOREIGN = {
    "barmancloud.cnpg.io/v1",
    "cert-manager.io/v1",
    "external-secrets.io/v1",
    "gateway.networking.k8s.io/v1",
    "monitoring.coreos.com/v1",
    "postgresql.cnpg.io/v1",
}
FOLDERS = [
    *(f"overlays/{name}" for name in OVERLAYS),
    *(f"overlays/{name}/{part}" for name in OVERLAYS for part in ("migrate", "postgres")),
    *(f"overlays/{name}/restored" for name in ("staging", "prod")),
    "overlays/dev/sandbox",
    "overlays/prod/secrets",
    "../../tests/k8s/tried/gateway-api",
    "../../tests/k8s/tried/mesh-root-next",
    "../../tests/k8s/tried/sms-routes",
]


@pytest.fixture(autouse=True)
def _schemas_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads 2 MB of definitions anew for every object: 30 ms each."""
    monkeypatch.setattr(utils, "schema_contents", _schema)


_schema = functools.cache(utils.schema_contents)


def _different() -> dict[str, Manifest]:
    """Every object of every folder, each once: overlays have most in common."""
    found: dict[str, Manifest] = {}
    for folder in FOLDERS:
        for item in objects(folder):
            metadata = {key: value for key, value in item["metadata"].items() if key != "namespace"}
            found[json.dumps(item | {"metadata": metadata}, sort_keys=True, default=str)] = item
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_have_no_unknown_field(version: str) -> None:
    checked = set()
    for item in _different().values():
        if item["apiVersion"] not in FOREIGN:
            kubernetes_validate.validate(item, version, strict=True)
            checked.add(item["kind"])
    assert {"Deployment", "StatefulSet", "Job", "NetworkPolicy", "HorizontalPodAutoscaler"} <= checked


def test_an_unknown_field_is_caught() -> None:
    deployment = next(item for item in objects("overlays/staging") if item["kind"] == "Deployment")
    spoiled = deployment | {"spec": deployment["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoiled, VERSIONS[0], strict=True)
