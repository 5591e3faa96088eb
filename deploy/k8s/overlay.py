"""An overlay as kustomize builds it, read back."""

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.local.state import CHECKOUT

Manifest = dict[str, Any]
FOLDER: Final = CHECKOUT / "deploy" / "k8s"
_TIMEOUT_S: Final = 60.0


class OverlayError(Exception):
    """kustomize refuses the folder; the message is its own."""


def objects(folder: Path) -> list[Manifest]:
    """Return every object of a folder with a kustomization. Raises OverlayError."""
    return list(yaml.load_all(_built(folder.resolve()), Loader=_LOADER))


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one object of this kind and name. Raises OverlayError when there is none, or several."""
    found = [item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name]
    if len(found) != 1:
        raise OverlayError(f"{kind} {name}: {len(found)} of it")
    return found[0]


def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return what runs pods, by name."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {item["metadata"]["name"]: item for item in manifests if item["kind"] in kinds}


def environment(manifests: list[Manifest], workload: Manifest) -> dict[str, str]:
    """Return the environment of a workload's process, as the kubelet puts it together."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}


def namespace(manifests: list[Manifest]) -> str:
    """Return the namespace that the overlay makes."""
    (name,) = (item["metadata"]["name"] for item in manifests if item["kind"] == "Namespace")
    return str(name)


@cache
def _built(folder: Path) -> str:
    command = [str(Path(sys.executable).parent / "kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)  # noqa: S603  no shell
    if done.returncode:
        raise OverlayError(done.stderr.strip())
    return done.stdout


# libyaml where the wheel has it: ten times as fast.
_LOADER: Final = yaml.CSafeLoader if importlib.util.find_spec("yaml._yaml") else yaml.SafeLoader
