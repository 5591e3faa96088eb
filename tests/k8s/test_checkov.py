"""What checkov, the others' collection of rules, says of the manifests of production."""

import json
import os
import subprocess
from pathlib import Path

import yaml

from deploy.local.bootstrap import CHECKOV
from tests.k8s.manifests import Manifest, objects

# Rule -> why it is not kept.
NOT_KEPT = {
    "CKV_K8S_11": "no CPU limits: they would stall a model in the middle of a frame; requests share a node fairly",
}


def _failed(folder: Path, manifests: list[Manifest]) -> list[str]:
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    command = [str(CHECKOV / "bin" / "checkov"), "--framework", "kubernetes", "--file", str(file)]
    quietly = ["--compact", "--quiet", "--output", "json", "--skip-check", ",".join(NOT_KEPT)]
    # It asks its maker for nothing.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "BC_SKIP_MAPPING": "TRUE", "LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [*command, *quietly], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 10, done.stderr
    assert report["summary"]["parsing_errors"] == 0
    return [f"{item['check_id']} {item['resource']}" for item in report["results"]["failed_checks"]]


def test_nothing_is_refused_and_a_seeded_privilege_is(tmp_path: Path) -> None:
    kinds = {"Deployment", "StatefulSet", "Service", "ServiceAccount", "NetworkPolicy"}
    manifests = [item for item in objects("overlays/prod") if item["kind"] in kinds]
    manifests.append(next(item for item in objects("overlays/prod/migrate") if item["kind"] == "Job"))  # all are alike
    seeded: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "seeded", "namespace": "finid"},
        "spec": {"containers": [{"name": "x", "image": "x:1", "securityContext": {"privileged": True}}]},
    }
    failed = _failed(tmp_path, [*manifests, seeded])
    assert [item for item in failed if "seeded" not in item] == []
    assert "CKV_K8S_16 Pod.finid.seeded" in failed
