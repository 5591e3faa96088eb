"""gateway.key and client-secrets.key on a cluster: the page's block with their names, and the Jobs that use them."""

import json
import os
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from deploy.k8s import overlay, rekey
from deploy.k8s.overlay import OverlayError, environment, workloads
from services.auth_gateway.settings import RekeySettings as GatewayRekeySettings
from services.portal.settings import RekeySettings as PortalRekeySettings
from tests.k8s.manifests import mounted
from tests.k8s.test_manifests import config_problems, pod_problems
from tests.k8s.test_rekey import BLOCK

PROD = overlay.FOLDER / "overlays" / "prod"
# Workload, setting, key's file without its end, and what the command reads.
KEYS = [
    ("auth-gateway", "GATEWAY_KEY", "gateway", GatewayRekeySettings),
    ("portal", "CLIENT_SECRET_KEY", "client-secrets", PortalRekeySettings),
]
WORK = [(*KEYS[0], "rekey"), (*KEYS[0], "reseal"), (*KEYS[1], "rekey")]


def rotated(folder: Path, name: str, setting: str, file: str) -> Path:
    """The production overlay with the page's block under other names, as an overlay of its own."""
    block = BLOCK.replace("name: registry", f"name: {name}").replace("FIELD_KEY", setting)
    changed = yaml.safe_load(block.replace("field-2.key", f"{file}-2.key").replace("field.key", f"{file}.key"))
    changed["resources"] = [os.path.relpath(PROD, folder)]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "finid", **changed}))
    return folder


@pytest.mark.parametrize(("name", "setting", "file", "settings", "work"), WORK)
def test_the_job_has_the_keys_of_the_overlay_and_the_owners_way_in(
    tmp_path: Path, name: str, setting: str, file: str, settings: type[GatewayRekeySettings], work: str
) -> None:
    folder = rotated(tmp_path, name, setting, file)
    manifests = overlay.objects(folder)
    assert list(config_problems(manifests)) == []
    made = rekey.job(folder, name, work)
    kubernetes_validate.validate(made, "1.37", strict=True)
    assert list(pod_problems([made])) == []
    assert made["metadata"]["labels"]["finid/work"] == work
    told, files = environment([], made), mounted(made)
    assert {key.removeprefix("FINID_").lower() for key in told} == set(settings.model_fields)
    assert files[told[f"FINID_{setting}_FILE"]] == (name, f"{file}-2.key")
    assert [files[path] for path in json.loads(told[f"FINID_EARLIER_{setting}_FILES"])] == [(name, f"{file}.key")]
    assert mounted(workloads(manifests)[name]).items() >= {path: files[path] for path in files if file in path}.items()
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["command"][1:] == ["-m", f"services.{name.replace('-', '_')}.{work}"]
    assert made["metadata"]["name"] == f"{work}-{name}"


def test_a_room_whose_own_role_seals_anew_needs_no_job_for_it() -> None:
    with pytest.raises(OverlayError, match="in its own pods"):
        rekey.job(PROD, "registry", "reseal")
