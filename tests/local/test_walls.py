"""The walls of the house hold: a seeded import turns the contract red that forbids it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.state import CHECKOUT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the contracts are about."""
    folder = tmp_path_factory.mktemp("house")
    for package in ("mesh", "services", "deploy"):
        shutil.copytree(CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "client" / "finid_client", folder / "finid_client")
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT_IMPORTS), "--no-cache"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False, timeout=60)


def test_the_contracts_are_kept(house: Path) -> None:
    done = lint_imports(house)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "seeded", "wall"),
    [
        ("services/otp/codes.py", "import services.registry.source", "imports no other service"),
        ("mesh/precondition.py", "import services.signer.signing", "knows no service"),
        ("mesh/precondition.py", "import deploy.local.state", "knows no service"),
        ("services/ca/issue.py", "import deploy.local.state", "knows no deployment"),
        ("services/signer/signing.py", "import services.signer.store", "wired in __main__"),
        ("services/otp/codes.py", "import services.otp.sms", "wired in __main__"),
        ("services/signer/signing.py", "import asyncpg", "asyncpg only there"),
        ("services/signer/signing.py", "import pkcs11", "through mesh.hsm only"),
        ("services/facematch/compare.py", "import onnxruntime", "only in a worker"),
        ("services/documents/preparing.py", "import pyhanko.sign", "known to documents' confined package"),
        ("services/documents/preparing.py", "import services.documents.confined.pdf", "workers load it by name"),
        ("services/otp/codes.py", "import twilio.rest", "known to otp's sms.py or smpp.py only"),
        ("services/otp/codes.py", "import smpp34", "known to otp's sms.py or smpp.py only"),
        ("services/signer/signing.py", "import grpc", "neither gRPC"),
        ("services/signer/signing.py", "from finid.signer.v1 import signer_pb2", "neither gRPC"),
        ("mesh/transaction.py", "import mesh.postgres", "precondition is pure"),
        ("finid_client/evidence.py", "import services.signer.signing", "pure modules of the mesh alone"),
        ("finid_client/evidence.py", "import mesh.status", "pure modules of the mesh alone"),
        ("finid_client/client.py", "import click", "the command alone imports click"),
        ("deploy/demo/walk.py", "import finid_client", "Nothing of FinID imports the client"),
        ("services/registry/release.py", "from google.protobuf import any_pb2", "neither gRPC"),
    ],
)
def test_a_seeded_import_turns_its_contract_red(house: Path, module: str, seeded: str, wall: str) -> None:
    path = house / module
    kept = path.read_text()
    path.write_text(f"{kept}\n{seeded}\n")
    try:
        done = lint_imports(house)
    finally:
        path.write_text(kept)
    assert done.returncode != 0
    broken = done.stdout.partition("Broken contracts")[2]
    assert wall in " ".join(broken.split()), done.stdout
