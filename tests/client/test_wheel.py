"""The wheel of finid-client stands alone: built, installed into an empty environment, used there."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import finid_client
from deploy.local.bootstrap import INSTALLER
from deploy.local.state import CHECKOUT

UV = INSTALLER / "bin" / "uv"
PACKAGE = Path(finid_client.__file__).parent

pytestmark = pytest.mark.skipif(not UV.exists(), reason="set-up's uv is not there")


def uv(*arguments: str, **environment: str) -> None:
    command = [str(UV), *arguments, "--offline", "--directory", str(CHECKOUT)]
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    own = inherited | {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"} | environment
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by way of the source distribution, as a package index's own build would do it."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "client", "--out-dir", str(folder))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, what it depends on by the lock, and nothing else."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    uv(
        "sync", "--locked", "--package", "finid-client", "--extra", "cli", "--no-dev", "--no-install-workspace",
        UV_PROJECT_ENVIRONMENT=str(folder),
    )  # fmt: skip
    found = folder / "bin" / "python"
    uv("pip", "install", "--no-deps", "--no-index", str(wheel), "--python", str(found))
    return found


def run(python: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(python), "-I", *arguments], cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_carries_the_public_stubs_the_pure_modules_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"buf", "finid", "finid_client", "mesh"}
    stubs = {name.split("/")[1] for name in names if name.startswith("finid/") and name.count("/") > 1}
    assert stubs == {"auth", "esign", "factor", "pki"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_it_carries_exactly_the_modules_of_the_mesh_that_it_reaches(wheel: Path) -> None:
    waiting, reached = sorted(PACKAGE.rglob("*.py")), set[Path]()
    while waiting:
        for module in imports_of(waiting.pop()):
            file = CHECKOUT / f"{module.replace('.', '/')}.py"
            if module.startswith("mesh.") and file.exists() and file not in reached:
                reached.add(file)
                waiting.append(file)
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("mesh/") and name.endswith(".py")}
    assert carried == {f"mesh/{file.name}" for file in reached} | {"mesh/__init__.py"}


def test_it_works_alone(python: Path) -> None:
    listed = "import importlib.metadata as m, json; print(json.dumps([item.name for item in m.distributions()]))"
    installed = json.loads(run(python, "-c", listed))
    assert not {"finid", "pydantic", "opentelemetry-sdk", "asyncpg", "protovalidate"} & set(installed)
    program = """
import finid_client
from finid_client import Client, Credentials, Env, KeySet, ProofRefusedError, Purpose, verify_evidence
from finid.auth.v1 import auth_pb2
assert "site-packages" in finid_client.__file__
client = Client("https://localhost:1", Credentials("id", "secret"))
try:
    verify_evidence(auth_pb2.Evidence(), KeySet.parse('{"keys": []}').pins(Env.SANDBOX), purpose=Purpose.SIGN)
except ProofRefusedError as error:
    print(error.reason)
"""
    assert run(python, "-c", program).strip() == "TRANSACTION_INVALID"


def test_its_command_runs_alone(python: Path) -> None:
    finid = python.with_name("finid")
    said = subprocess.run([str(finid), "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "verify" in said


def test_without_the_extra_the_command_says_what_is_missing(python: Path) -> None:
    program = "import sys; sys.modules['click'] = None; import finid_client.command as c; sys.exit(c.main())"
    done = subprocess.run(
        [str(python), "-I", "-c", program], cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 64
    assert "finid-client[cli]" in done.stderr
