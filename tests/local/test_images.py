"""Each image carries what its service imports: the extra of that service in pyproject.toml, and nothing of another."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import SERVICES
from deploy.local.state import CHECKOUT

# Refuses what the image would not have. A distribution that this system does not need is not installed here either.
_PROBE = """
import importlib, importlib.abc, sys

absent = set(sys.argv[2:])

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)

sys.meta_path.insert(0, Absent())
for module in sys.argv[1].split(","):
    importlib.import_module(module)
"""


def locked() -> dict[str, dict[str, Any]]:
    """The packages of uv.lock by name."""
    return {item["name"]: item for item in tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]}


def image_packages(service: str) -> set[str]:
    """What `uv sync --no-default-groups --extra <service> --extra migrate` installs, by the lock."""
    packages = locked()
    finid = packages["finid"]
    extras = finid["optional-dependencies"]
    waiting = [*finid["dependencies"], *extras[service.replace("_", "-")], *extras["migrate"]]
    found: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        package = packages[wanted["name"]]
        for extra in wanted.get("extra", []):
            waiting += package.get("optional-dependencies", {}).get(extra, [])
        if wanted["name"] not in found:
            found.add(wanted["name"])
            waiting += package.get("dependencies", [])
    return found


def modules_of(service: str) -> list[str]:
    """Its main module, and what its workers import: they start from a string."""
    workers = ("model.py", "confined/worker.py")
    files = [CHECKOUT / "services" / service / name for name in ("__main__.py", *workers)]
    return [".".join(path.relative_to(CHECKOUT).with_suffix("").parts) for path in files if path.exists()]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_nothing_its_image_does_not_have(service: str) -> None:
    has = image_packages(service)
    normalised = {
        module: {name.lower().replace("_", "-").replace(".", "-") for name in names}
        for module, names in packages_distributions().items()
    }
    absent = [module for module, names in normalised.items() if not names & has and names != {"finid"}]
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, ",".join([*modules_of(service), "mesh.migrate"]), *absent],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-1500:]


def test_an_image_carries_no_other_services_dependencies() -> None:
    assert "mediapipe" not in image_packages("signer")
    assert "pyhanko" not in image_packages("ca")
    assert "python-pkcs11" not in image_packages("auth_gateway")
    assert "pytest" not in image_packages("liveness")


def test_the_dockerfile_names_files_that_exist() -> None:
    dockerfile = (CHECKOUT / "deploy" / "images" / "Dockerfile").read_text()
    for line in dockerfile.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert Path(CHECKOUT, source.replace("${SERVICE}", "signer")).exists(), source
