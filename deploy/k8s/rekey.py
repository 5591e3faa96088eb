"""The Job that moves a room's pseudonyms to a newer key: `python -m deploy.k8s.rekey OVERLAY WORKLOAD [--reseal]`.

Writes it to standard output, for `kubectl apply --server-side -f -`. docs/sre.md says when. It is what the overlay says
now: image and keys of the workload's next pods, with the owner's secret and under the labels of migrations, which may
reach the database and nothing else. With `--reseal` the Job seals values anew, for a room whose own role may not.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from deploy.k8s import overlay
from deploy.k8s.overlay import Manifest, OverlayError
from deploy.local.state import CHECKOUT

_SECRETS: Final = "/etc/finid/secrets"
_OWNER: Final = "/etc/finid/owner"
_LABELS: Final = {"app.kubernetes.io/name": "migrate", "app.kubernetes.io/part-of": "finid"}
_DAY_S: Final = 86_400


_RESEAL_AS_OWNER: Final = frozenset({"auth_gateway"})


def job(folder: Path, name: str, work: str = "rekey") -> Manifest:
    """Return the Job that does `work`, rekey or reseal, for a workload of an overlay. Raises OverlayError."""
    room = name.replace("-", "_")
    if work == "reseal" and room not in _RESEAL_AS_OWNER:
        raise OverlayError(f"{name} seals anew in its own pods, under its own role")
    if not (CHECKOUT / "services" / room / "rekey.py").is_file():
        raise OverlayError(f"{name} has no pseudonyms to move")
    manifests = overlay.objects(folder)
    workload = overlay.workloads(manifests)[name]
    pod = workload["spec"]["template"]["spec"]
    (service,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = [mount for mount in service["volumeMounts"] if mount["name"] in {"tmp", "secrets", "database-root"}]
    secrets, told = _keys(volumes["secrets"]["secret"], overlay.environment(manifests, workload))
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": "migrate",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod["securityContext"],
        "containers": [
            {
                "name": work,
                "image": service["image"],
                "command": ["/opt/finid/bin/python", "-m", f"services.{room}.{work}"],
                "env": [
                    *({"name": setting, "value": value} for setting, value in told.items()),
                    {"name": "FINID_OWNER_DATABASE_URL_FILE", "value": f"{_OWNER}/database.url"},
                ],
                "resources": {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                "securityContext": service["securityContext"],
                "volumeMounts": [*mounts, {"name": "owner", "mountPath": _OWNER, "readOnly": True}],
            }
        ],
        "volumes": [
            volumes["tmp"],
            {"name": "secrets", "secret": secrets},
            volumes["database-root"],
            {
                "name": "owner",
                "secret": {
                    "secretName": "migrate",
                    "defaultMode": volumes["secrets"]["secret"]["defaultMode"],
                    "items": [{"key": "database.url", "path": "database.url"}],
                },
            },
        ],
    }
    labels = {**_LABELS, "finid/work": work, "finid/room": name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{work}-{name}", "namespace": overlay.namespace(manifests), "labels": labels},
        "spec": {
            # What it refuses, a second attempt would not do either.
            "backoffLimit": 0,
            "activeDeadlineSeconds": _DAY_S,
            "ttlSecondsAfterFinished": _DAY_S,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _keys(secret: dict[str, Any], told: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The Secret's symmetric keys alone, and the settings that name one of them."""
    items = [item for item in secret["items"] if item["path"].endswith(".key")]
    files = [f"{_SECRETS}/{item['path']}" for item in items]
    settings = {name: value for name, value in told.items() if any(file in value for file in files)}
    return {**secret, "items": items}, {"FINID_ENV": told["FINID_ENV"], **settings}


def main() -> None:
    """Print the Job."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s.rekey", description=__doc__)
    parser.add_argument("overlay", type=Path)
    parser.add_argument("workload")
    parser.add_argument("--reseal", action="store_true", help="the Job that seals values anew, after the service runs")
    arguments = parser.parse_args()
    try:
        made = job(arguments.overlay, arguments.workload, "reseal" if arguments.reseal else "rekey")
    except (OverlayError, KeyError) as error:
        sys.exit(f"no Job was made: {error}")
    sys.stdout.write(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
