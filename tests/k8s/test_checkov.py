"""What checkov, the others' collection of rules, says of the manifests of production.

What it is not followed in stands with its reason in the manifests (`checkov.io/skip1`), for whoever runs it.
"""

import json
import os
import subprocess
from pathlib import Path

import yaml

from deploy.local.bootstrap import CHECKOV
from tests.k8s.manifests import Manifest, objects


def _failed(folder: Path, manifests: list[Manifest]) -> list[str]:
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    command = [str(CHECKOV / "bin" / "checkov"), "--framework", "kubernetes", "--file", str(file)]
    quietly = ["--compact", "--quiet", "--output", "json"]
    # It asks its maker for nothing.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "BC_SKIP_MAPPING": "TRUE", "LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [*command, *quietly], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 10, done.stderr
    assert report["summary"]["parsing_errors"] == 0
    return [f"{item['check_id']} {item['resource']}" for item in report["results"]["failed_checks"]]


def test_what_is_skipped_is_one_rule_and_says_why() -> None:
    workloads = [*objects("overlays/prod"), *objects("overlays/prod/migrate")]
    annotations = [item["metadata"].get("annotations", {}) for item in workloads]
    skipped = {value for each in annotations for key, value in each.items() if key.startswith("checkov.io/")}
    assert {value.partition("=")[0] for value in skipped} == {"CKV_K8S_11"}
    assert all(value.partition("=")[2] for value in skipped)


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
