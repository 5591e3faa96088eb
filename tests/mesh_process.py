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

    def access_token_when_possible(self, *, timeout_s: float = 30.0) -> str:
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
    output = folder.with_suffix(".log")
    own = {"FINID_STATE": str(folder), "FINID_PORT_BASE": str(ports.free_base())}
    command = [sys.executable, "-m", "deploy.local", "run"]
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=os.environ | own | environment, stdout=file, stderr=file)
    try:
        addresses = _addresses(process, folder / "run" / READY_FILE, output)
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


def _addresses(process: subprocess.Popen[bytes], ready: Path, output: Path) -> dict[str, str]:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the mesh did not start:\n{output.read_text()[-8000:]}")
        time.sleep(0.1)
    addresses: dict[str, str] = json.loads(ready.read_text())
    return addresses
