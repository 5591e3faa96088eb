"""Operators of ceremonies for tests: their keys and file, their confirmations, and the tool's key."""

import contextlib
import io
import os
import subprocess
import sys
import unittest.mock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mesh import strict_json
from mesh.ceremony import Operator, Operators

OPERATORS = {name: Ed25519PrivateKey.generate() for name in ("anna", "berik", "dana")}
TOOL = Ed25519PrivateKey.generate()
CHECKOUT = Path(__file__).parents[1]


def run_tool(
    main: Callable[[Sequence[str]], None], words: Sequence[object], environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run a tool's main in this process, with nothing but `environment` changed; return exit code and what it said."""
    said = io.StringIO()
    with (
        unittest.mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            # As the interpreter does: a text is said, and the code is 1 then.
            if isinstance(ended.code, str):
                return 1, f"{said.getvalue()}{ended.code}\n"
            return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def write_ceremony_files(folder: Path) -> None:
    """operators.json, one <name>.pem for each operator, tool.pem and tool-public.pem."""
    listed = tuple(
        Operator(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)) for name, key in OPERATORS.items()
    )
    (folder / "operators.json").write_bytes(strict_json.canonical(Operators(2, listed)))
    for name, key in (*OPERATORS.items(), ("tool", TOOL)):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(pem)
    public = TOOL.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "tool-public.pem").write_bytes(public)


def ceremony_command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run `python -m mesh.ceremony`."""
    command = [sys.executable, "-m", "mesh.ceremony", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=CHECKOUT)


def confirm(folder: Path, plan: Path, *names: str) -> list[str]:
    """Have operators confirm a plan; return the arguments that say so."""
    arguments: list[str] = []
    for name in names:
        done = ceremony_command("confirm", plan, name, folder / f"{name}.pem")
        assert done.returncode == 0, done.stderr
        (folder / f"{plan.stem}-{name}.json").write_text(done.stdout)
        arguments += ["--confirmation", str(folder / f"{plan.stem}-{name}.json")]
    return arguments
