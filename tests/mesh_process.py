"""The whole mesh for e2e tests: `python -m deploy.local run` in a state folder and on ports of this run's own."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.local import ports
from deploy.local.state import CHECKOUT, READY_FILE

_START_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class RunningMesh:
    """How tests reach the mesh; all from what `run` itself writes down."""

    process: subprocess.Popen[bytes]
    folder: Path
    output: Path
    web_url: str
    web_root_file: Path
    pki_url: str
    client_id: str
    client_secret_file: Path
    outbox: Path

    def client(self) -> httpx.Client:
        """An HTTPS client that believes the mesh's root."""
        context = ssl.create_default_context(cafile=str(self.web_root_file))
        return httpx.Client(base_url=self.web_url, verify=context, timeout=60, trust_env=False)

    def access_token(self) -> str:
        """A token of the sandbox's participant."""
        with self.client() as client:
            answer = client.post(
                "/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(self.client_id, self.client_secret_file.read_text()),
            )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def access_token_when_possible(self, *, timeout_s: float = 90.0) -> str:
        """A token, asked for until there is one: what it depends on has just been killed."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.access_token()
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def wait_for_line(self, text: str, *, timeout_s: float = 60.0) -> str:
        """The first line of the mesh's output with this text; AssertionError when none comes."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.output.read_text().splitlines():
                if text in line:
                    return line
            time.sleep(0.1)
        raise AssertionError(f"{text!r} did not appear in:\n{self.output.read_text()[-4000:]}")


@contextmanager
def running_mesh(**environment: str) -> Iterator[RunningMesh]:
    """Start the mesh and wait until all are ready; stop it as Ctrl-C does, and remove what it kept."""
    # Not under pytest's tmp_path: those folders are 0700, and PostgreSQL's user must be able to pass through.
    folder = Path(tempfile.mkdtemp(prefix="finid-tests-", dir="/var/tmp"))
    output = output_of(folder)
    process = start_mesh(folder, FINID_PORT_BASE=str(ports.free_base()), **environment)
    try:
        addresses = wait_until_ready(process, folder)
        yield RunningMesh(
            process=process,
            folder=folder,
            output=output,
            web_url=addresses["web_url"],
            web_root_file=Path(addresses["web_root_file"]),
            pki_url=addresses["pki_url"],
            client_id=addresses["client_id"],
            client_secret_file=Path(addresses["client_secret_file"]),
            outbox=Path(addresses["outbox"]),
        )
    finally:
        process.send_signal(signal.SIGINT)
        exit_code = process.wait(timeout=60)
        written = output.read_text()
        shutil.rmtree(folder)
        output.unlink()
    assert exit_code == 0, written[-4000:]


def start_mesh(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start `make run`'s command; its output goes beside the folder."""
    command = [sys.executable, "-m", "deploy.local", "run"]
    # Not the server that DATABASE_URL may name: the tests' own roles are there, with other passwords.
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    own = inherited | {"FINID_STATE": str(folder)} | environment
    with output_of(folder).open("wb") as output:
        return subprocess.Popen(command, cwd=CHECKOUT, env=own, stdout=output, stderr=output)


def output_of(folder: Path) -> Path:
    """Where `start_mesh` lets the mesh write what it prints."""
    return folder.with_suffix(".log")


def wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """What this process wrote down when all were ready; AssertionError if it ends before or takes too long."""
    ready = folder / "run" / READY_FILE
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready.exists():
            addresses: dict[str, Any] = json.loads(ready.read_text())
            if addresses["pid"] == process.pid:
                return addresses
        time.sleep(0.1)
    raise AssertionError(f"the mesh did not start:\n{output_of(folder).read_text()[-8000:]}")
