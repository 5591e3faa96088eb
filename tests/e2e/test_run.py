"""`make run`: what it prints works, what dies comes back (test_kills.py: each process), and nothing is left behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.memory import processes_of
from deploy.local.services import ROOMS
from deploy.local.state import CHECKOUT
from tests.mesh_process import RunningMesh, output_of, running_mesh, start_mesh, wait_until_ready
from tests.postgres import running_cluster

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

_SPAWNED = re.compile(r"spawned: '(?P<name>\S+)' with pid (?P<pid>\d+)")


def pid_of(mesh: RunningMesh, name: str) -> int:
    log = (mesh.folder / "log" / "supervisord.log").read_text()
    return [int(found["pid"]) for found in _SPAWNED.finditer(log) if found["name"] == name][-1]


def printed(mesh: RunningMesh, start: str) -> str:
    return next(line for line in mesh.output.read_text().splitlines() if line.startswith(start))


def paste(*lines: str) -> str:
    return subprocess.run(["/bin/bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout


def test_memory_and_time_to_all_ready_are_printed(mesh: RunningMesh) -> None:
    line = printed(mesh, "All are ready after")
    assert re.fullmatch(r"All are ready after [0-9.]+ s; resident memory [0-9]+ MiB\.", line)


def test_the_printed_reference_is_there(mesh: RunningMesh) -> None:
    line = printed(mesh, "  reference")
    with mesh.client() as client:
        assert [client.get(url).status_code for url in re.findall(r"https://[^\s)]+", line)] == [200, 200]


def test_the_printed_rest_call_works_when_pasted(mesh: RunningMesh) -> None:
    answer = paste(printed(mesh, "TOKEN="), printed(mesh, "curl "))
    assert "documents" in json.loads(answer)


def test_the_printed_grpc_call_works_when_pasted(mesh: RunningMesh) -> None:
    grpc_line = next(line for line in mesh.output.read_text().splitlines() if "/buf curl " in line)
    assert isinstance(json.loads(paste(printed(mesh, "TOKEN="), grpc_line)), dict)


def test_secrets_stand_in_files_of_their_owner_and_not_in_the_output(mesh: RunningMesh) -> None:
    output = mesh.output.read_text()
    for path in (mesh.folder / "secrets").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert path.read_text() not in output


def test_all_serve_again_after_supervisord_was_killed(mesh: RunningMesh) -> None:
    supervisor = int((mesh.folder / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    mesh.wait_for_line("supervisord died (terminated by signal 9)")
    mesh.wait_for_line("all are serving again after", timeout_s=120)
    assert mesh.access_token()


def test_a_second_mesh_in_the_same_folder_is_refused(mesh: RunningMesh) -> None:
    done = run_to_its_end(FINID_STATE=str(mesh.folder), FINID_PORT_BASE=str(ports.free_base()))
    assert f"{mesh.folder} is in use by process {mesh.process.pid}" in done.stderr


def test_an_existing_server_is_used_where_database_url_names_one() -> None:
    with running_cluster() as server, running_mesh(DATABASE_URL=server.admin_url) as mesh:
        assert not (mesh.folder / "postgresql").exists()
        headers = {"authorization": f"Bearer {mesh.access_token()}"}
        with mesh.client() as client:
            assert client.get("/v1/documents", headers=headers).status_code == 200


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="finid-tests-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)
    output_of(made).unlink(missing_ok=True)


def run_to_its_end(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.local", "run"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    return done


def test_a_taken_port_is_named_with_the_setting_that_moves_it(folder: Path) -> None:
    base = ports.free_base()
    with socket.create_server(("127.0.0.1", base + 6)):
        done = run_to_its_end(FINID_STATE=str(folder), FINID_PORT_BASE=str(base))
    assert f"port {base + 6} (postgresql) is taken" in done.stderr
    assert "FINID_PORT_BASE" in done.stderr


def test_a_database_that_refuses_is_said(folder: Path) -> None:
    url = "postgresql://nobody:wrong@127.0.0.1:1/postgres"
    done = run_to_its_end(FINID_STATE=str(folder), FINID_PORT_BASE=str(ports.free_base()), DATABASE_URL=url)
    assert "FAILED: the server of DATABASE_URL refused" in done.stderr
    assert "wrong" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("FINID_PORT_BASE", "many"), ("FINID_PORT_BASE", "80"), ("FINID_STATE", "/x" * 50)]
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    assert name in run_to_its_end(**{name: value}).stderr


def wait_until_gone(pids: list[int]) -> None:
    for _ in range(600):
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {[Path(f'/proc/{pid}/cmdline').read_bytes() for pid in alive]}")


def test_killed_while_it_prepares_and_while_it_runs_it_leaves_nothing_and_goes_on_the_next_time(folder: Path) -> None:
    base = str(ports.free_base())
    for seconds in (1.0, 4.0):
        half = start_mesh(folder, FINID_PORT_BASE=base)
        time.sleep(seconds)
        made = processes_of(half.pid)
        half.kill()
        half.wait()
        wait_until_gone(made[1:])
    first = start_mesh(folder, FINID_PORT_BASE=base)
    credentials = wait_until_ready(first, folder)
    running = processes_of(first.pid)
    assert len(running) > len(ROOMS)
    first.kill()
    first.wait()
    wait_until_gone(running[1:])
    second = start_mesh(folder, FINID_PORT_BASE=base)
    assert wait_until_ready(second, folder)["client_secret_file"] == credentials["client_secret_file"]
    running = processes_of(second.pid)
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=60) == 0
    wait_until_gone(running)
