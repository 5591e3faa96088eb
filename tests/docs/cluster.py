"""What the manifests of deploy/k8s hold, for pages that name it."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

K8S = Path(__file__).resolve().parents[2] / "deploy" / "k8s"
Manifest = dict[str, Any]
yaml: Any = importlib.import_module("yaml")


@cache
def manifests() -> tuple[Manifest, ...]:
    """Every document of every file, patches and kustomizations included."""
    files = sorted(K8S.rglob("*.yaml"))
    return tuple(item for file in files for item in yaml.safe_load_all(file.read_text()) if isinstance(item, dict))


def names() -> set[str]:
    """Every object as kubectl names it (`deployment/otp`), also those that others make from the manifests."""
    found = {
        f"{item['kind'].lower()}/{item['metadata']['name']}"
        for item in manifests()
        if "kind" in item and "name" in item.get("metadata", {})
    }
    short = {name.replace("horizontalpodautoscaler/", "hpa/") for name in found}
    made = {f"{kind}/{name}" for item in manifests() for kind, name in _made(item)}
    return found | short | made | _to_be_made()


def _to_be_made() -> set[str]:
    """What the README says has to be made; tests/k8s compares its table with what the manifests mount."""
    rows = re.findall(r"^\| (Secret|ConfigMap) `([a-z0-9-]+)`", (K8S / "README.md").read_text(), re.MULTILINE)
    return {f"{kind.lower()}/{name}" for kind, name in rows}


def _made(item: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """What a manifest mounts, has generated, or has made: Secrets and ConfigMaps that are no manifests themselves."""
    if isinstance(item, dict):
        for name, value in item.items():
            if name == "secretName" and isinstance(value, str):
                yield "secret", value
            if isinstance(value, dict) and isinstance(value.get("name"), str):
                if name in {"configMap", "configMapRef", "configMapKeyRef"}:
                    yield "configmap", value["name"]
                if name in {"secret", "passwordSecret", "secretRef", "secretKeyRef", "target"}:
                    yield "secret", value["name"]
            yield from _made(value, name)
    elif isinstance(item, list):
        for value in item:
            if key in {"configMapGenerator", "secretGenerator"} and isinstance(value, dict) and "name" in value:
                yield key.removesuffix("Generator").lower(), value["name"]
            yield from _made(value, key)


def workloads() -> dict[str, Manifest]:
    """The base's Deployments and StatefulSets by name; their first container is the one that serves."""
    return {
        item["metadata"]["name"]: item
        for file in sorted((K8S / "base").rglob("*.yaml"))
        for item in yaml.safe_load_all(file.read_text())
        if isinstance(item, dict) and item.get("kind") in {"Deployment", "StatefulSet"}
    }


def scalers() -> dict[str, Manifest]:
    """The specs of the base's HorizontalPodAutoscalers, by the name of what they scale."""
    return {
        item["spec"]["scaleTargetRef"]["name"]: item["spec"]
        for file in sorted((K8S / "base").rglob("*.yaml"))
        for item in yaml.safe_load_all(file.read_text())
        if isinstance(item, dict) and item.get("kind") == "HorizontalPodAutoscaler"
    }


def least(name: str) -> int:
    """How many pods of a workload stand at least: its autoscaler's minimum, or its own number."""
    scaler = scalers().get(name)
    return int(scaler["minReplicas"] if scaler else workloads()[name]["spec"]["replicas"])
