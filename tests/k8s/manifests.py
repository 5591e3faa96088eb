"""What kustomize builds of deploy/k8s, as tests ask of it."""

import importlib
from pathlib import Path
from typing import Any, Final

from deploy.k8s import overlay
from deploy.k8s.made import sources
from deploy.k8s.overlay import Manifest, environment, named, workloads
from deploy.local.ports import SERVICES
from mesh.settings import EnvironmentSettings, MeshSettings

OVERLAYS: Final = ("dev", "staging", "prod")
ROOM_OF: Final = {room.replace("_", "-"): room for room in SERVICES}
README: Final = overlay.FOLDER / "README.md"


def objects(folder: str) -> list[Manifest]:
    """Every object of a folder below deploy/k8s."""
    return overlay.objects(overlay.FOLDER / folder)


def mounted(workload: Manifest) -> dict[str, tuple[str, str]]:
    """Every file that Secrets and ConfigMaps put into place -> (object, key); a folder of unnamed keys -> key ""."""
    pod = workload["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    found: dict[str, tuple[str, str]] = {}
    for mount in pod["containers"][0]["volumeMounts"]:
        for (_, name), items in sources(volumes[mount["name"]]):
            if "subPath" in mount:
                (key,) = (item["key"] for item in items if item["path"] == mount["subPath"])
                found[mount["mountPath"]] = (name, key)
                continue
            for item in items:
                path = item["path"]
                if mount.get("subPathExpr") == "$(POD_NAME)":
                    ordinal, _, path = path.partition("/")
                    if not ordinal.endswith("-0"):
                        continue
                found[f"{mount['mountPath']}/{path}"] = (name, item["key"])
            if not items:
                found[mount["mountPath"]] = (name, "")
    return found


def writable(workload: Manifest) -> set[Path]:
    """Folders that are the pod's own to write."""
    pod = workload["spec"]["template"]["spec"]
    own = {volume["name"] for volume in pod["volumes"] if volume.keys() & {"emptyDir", "persistentVolumeClaim"}}
    return {Path(mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"] if mount["name"] in own}


def settings_of(room: str) -> type[MeshSettings]:
    """The settings class of a room: the one of its service."""
    (only,) = (item for item in _classes(room) if issubclass(item, MeshSettings))
    return only


def admin_settings_of(room: str) -> list[type[EnvironmentSettings]]:
    """What commands read that people run in the service's pod."""
    return [item for item in _classes(room) if item.__name__ == "AdminSettings"]


def _classes(room: str) -> list[type[Any]]:
    module = importlib.import_module(f"services.{room}.settings")
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, EnvironmentSettings) and item.__module__ == module.__name__
    ]


__all__ = [
    "OVERLAYS",
    "README",
    "ROOM_OF",
    "Manifest",
    "admin_settings_of",
    "environment",
    "mounted",
    "named",
    "objects",
    "settings_of",
    "workloads",
    "writable",
]
