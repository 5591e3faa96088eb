"""What `make lint` says of the protos: a breaking change, a bad name and stale stubs each turn it red."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.state import CHECKOUT

AUTH = "proto/finid/auth/v1/auth.proto"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `make lint-proto` looks at; its tools are this checkout's."""
    for name in ("proto", "gen"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "buf.yaml"):
        shutil.copy(CHECKOUT / name, tmp_path)
    return tmp_path


def lint_proto(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "lint-proto", f"BIN={Path(sys.executable).parent}", "PYTHON=true"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)


def change(checkout: Path, file: str, edit: Callable[[str], str]) -> None:
    path = checkout / file
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before


def test_the_protos_are_clean(checkout: Path) -> None:
    done = lint_proto(checkout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_breaking_change_is_red(checkout: Path) -> None:
    change(checkout, AUTH, lambda text: text.replace("string masked_phone = 1;", "bytes masked_phone = 1;"))
    done = lint_proto(checkout)
    assert done.returncode != 0
    assert "masked_phone" in done.stdout + done.stderr


def test_a_name_against_the_style_is_red(checkout: Path) -> None:
    change(checkout, AUTH, lambda text: text + "\nmessage lower_case {}\n")
    done = lint_proto(checkout)
    assert done.returncode != 0
    assert "lower_case" in done.stdout + done.stderr


def test_stubs_that_do_not_say_what_the_protos_say_are_red(checkout: Path) -> None:
    change(checkout, "gen/finid/otp/v1/otp_pb2.pyi", lambda text: text + "# edited by hand\n")
    done = lint_proto(checkout)
    assert done.returncode != 0
    assert "edited by hand" in done.stdout


def test_a_format_error_is_red(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "seeded.py").write_text('"""Seeded."""\n\nVALUES = {  "a":1 }\n')
    ruff = str(Path(sys.executable).with_name("ruff"))
    command = [ruff, "format", "--check", "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "seeded.py" in done.stdout
