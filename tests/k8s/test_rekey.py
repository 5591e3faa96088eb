"""A field key's rotation on a cluster: the overlay as docs/sre.md changes it, and the Job that moves the rows."""

import importlib.util
import json
import os
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from deploy.k8s import overlay, rekey
from deploy.k8s.overlay import Manifest, OverlayError, environment, workloads
from deploy.local.state import CHECKOUT
from mesh.settings import FieldKeySettings, FieldRekeySettings
from tests.k8s.manifests import mounted, settings_of
from tests.k8s.test_edges import opened
from tests.k8s.test_manifests import config_problems, pod_problems

PAGE = (CHECKOUT / "docs" / "sre.md").read_text(encoding="utf-8")
FIELD_KEYS = PAGE[PAGE.index("### Field keys") :]
BLOCK = re.findall(r"```yaml\n(configMapGenerator.*?)```", FIELD_KEYS, re.DOTALL)[0]
# Workload, its kind, and where its Secret stands among the volumes.
PLACES = [
    ("registry", "Deployment", 1),
    ("documents", "Deployment", 1),
    ("liveness", "Deployment", 1),
    ("ca", "StatefulSet", 2),
]
ROOMS = [place for place in PLACES if issubclass(settings_of(place[0]), FieldKeySettings)]
WITH_PSEUDONYMS = [place for place in ROOMS if place[0] != "liveness"]


def rotated(folder: Path, name: str, kind: str, volume: int) -> Path:
    """The production overlay with the page's block for this room, as an overlay of its own."""
    block = BLOCK.replace("name: registry", f"name: {name}").replace("kind: Deployment", f"kind: {kind}")
    changed = yaml.safe_load(block.replace("/volumes/1/", f"/volumes/{volume}/"))
    changed["resources"] = [os.path.relpath(overlay.FOLDER / "overlays" / "prod", folder)]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "finid", **changed}))
    return folder


@pytest.mark.parametrize(("name", "kind", "volume"), ROOMS)
def test_the_overlay_of_the_page_mounts_what_it_names(tmp_path: Path, name: str, kind: str, volume: int) -> None:
    manifests = overlay.objects(rotated(tmp_path, name, kind, volume))
    workload = workloads(manifests)[name]
    told = environment(manifests, workload)
    assert mounted(workload)[told["FINID_FIELD_KEY_FILE"]] == (name, "field-2.key")
    assert [mounted(workload)[file] for file in json.loads(told["FINID_EARLIER_FIELD_KEY_FILES"])] == [
        (name, "field.key")
    ]
    assert list(config_problems(manifests)) == []


@pytest.mark.parametrize(("name", "kind", "volume"), WITH_PSEUDONYMS)
def test_the_job_has_the_keys_of_the_overlay_and_the_owners_way_in(
    tmp_path: Path, name: str, kind: str, volume: int
) -> None:
    folder = rotated(tmp_path, name, kind, volume)
    made = rekey.job(folder, name)
    kubernetes_validate.validate(made, "1.37", strict=True)
    assert list(pod_problems([made])) == []
    assert made["metadata"]["labels"]["finid/work"] == "rekey"
    told = environment([], made)
    service = workloads(overlay.objects(folder))[name]
    for setting in ("FINID_ENV", "FINID_FIELD_KEY_FILE", "FINID_EARLIER_FIELD_KEY_FILES"):
        assert told[setting] == environment(overlay.objects(folder), service)[setting]
    assert {setting.removeprefix("FINID_").lower() for setting in told} == set(FieldRekeySettings.model_fields)
    files = mounted(made)
    assert files["/etc/finid/owner/database.url"] == ("migrate", "database.url")
    assert set(files) - {"/etc/finid/owner/database.url", "/etc/finid/database/ca.crt"} == {
        told["FINID_FIELD_KEY_FILE"],
        *json.loads(told["FINID_EARLIER_FIELD_KEY_FILES"]),
    }, "no other secret of the service"
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["image"] == service["spec"]["template"]["spec"]["containers"][0]["image"]
    assert importlib.util.find_spec(container["command"][2]) is not None


def test_the_job_reaches_the_database_and_no_service_counts_it_among_its_pods(tmp_path: Path) -> None:
    made = rekey.job(rotated(tmp_path, *ROOMS[0]), "registry")
    labels = made["spec"]["template"]["metadata"]["labels"]
    migrations = overlay.objects(overlay.FOLDER / "overlays" / "prod" / "migrate")
    assert {name for name, _, _ in opened(migrations, "Egress")} == {labels["app.kubernetes.io/name"]}
    services = [item for item in overlay.objects(overlay.FOLDER / "overlays" / "prod") if item["kind"] == "Service"]
    assert not [item for item in services if _selects(item, labels)]


def _selects(service: Manifest, labels: dict[str, str]) -> bool:
    return bool(service["spec"]["selector"].items() <= labels.items())


@pytest.mark.parametrize("name", ["liveness", "facematch", "otp"])
def test_there_is_no_job_for_what_keeps_no_pseudonyms(name: str) -> None:
    with pytest.raises(OverlayError, match="has no pseudonyms"):
        rekey.job(overlay.FOLDER / "overlays" / "prod", name)
