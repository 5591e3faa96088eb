"""Memory, processor time and storage of each service, at rest and for one authentication: `python -m bench.resources`.

Starts the whole mesh, leaves it alone for a while, lets the sample person authenticate again and again (IDENTIFY, step
by step, in real time), then sign (SIGN on the hosted page, one CAdES B-T document). Memory is resident, summed over a
service and its workers: in a pod nothing is shared with other services. Processor time is what the kernel counted for
them, so that other work on the machine lengthens the run more than the figures; but where frames come late because of
it, liveness refuses, and the person begins anew: attempts are counted, and figures are those of an attempt.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.one_authentication import authenticate
from bench.table import heading, table
from deploy.demo.__main__ import surroundings
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Participant
from deploy.local.memory import processes_of
from deploy.local.services import ROOMS
from deploy.local.state import READY_FILE
from tests.e2e.signer import Signer
from tests.mesh_process import RunningMesh, running_mesh

_SPAWNED = re.compile(r"spawned: '(?P<name>\S+)' with pid (?P<pid>\d+)")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MIB = 1024 * 1024
_TRIES = 4
_PARTS = (*ROOMS, "envoy", "postgresql")


@dataclass(frozen=True, slots=True)
class Seen:
    """One service with its workers: resident bytes, processor seconds so far, threads."""

    resident_bytes: int
    cpu_s: float
    threads: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What PostgreSQL holds and has written: bytes of the database, bytes of its log, and connections."""

    database_bytes: int
    log_bytes: int
    connections: int


def see(pids: Mapping[str, int]) -> dict[str, Seen]:
    """Look at every service."""
    return {name: _of(processes_of(pid)) for name, pid in pids.items()}


def _of(pids: list[int]) -> Seen:
    resident, ticks, threads = 0, 0, 0
    for pid in pids:
        folder = Path("/proc") / str(pid)
        try:
            rollup = (folder / "smaps_rollup").read_text()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        resident += int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Rss:"))) * 1024
        # utime, stime, cutime, cstime; fields count from the state
        ticks += sum(int(fields[index]) for index in (11, 12, 13, 14))
        threads += int(fields[17])
    return Seen(resident, ticks / _TICKS_PER_S, threads)


def stored(url: str) -> Stored:
    """Ask PostgreSQL."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_database_size(current_database())::bigint,"
            " pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,"
            " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())"
        ).fetchone()
    assert row is not None
    return Stored(*row)


def _pids(mesh: RunningMesh) -> dict[str, int]:
    log = (mesh.folder / "log" / "supervisord.log").read_text()
    found = {match["name"]: int(match["pid"]) for match in _SPAWNED.finditer(log)}
    return {name: found[name] for name in _PARTS}


async def _watched(pids: Mapping[str, int], work: Awaitable[tuple[int, int]]) -> tuple[dict[str, int], tuple[int, int]]:
    """Run `work`; return the most memory that each service was seen with, and what it returned."""
    most: dict[str, int] = dict.fromkeys(pids, 0)
    running = asyncio.ensure_future(work)
    while not running.done():
        for name, seen in (await asyncio.to_thread(see, pids)).items():
            most[name] = max(most[name], seen.resident_bytes)
        await asyncio.wait({running}, timeout=1.0)
    return most, await running


async def measure(mesh: RunningMesh, rest_s: float, rounds: int) -> None:
    """Measure, and print."""
    pids = _pids(mesh)
    given = surroundings(mesh.folder, json.loads((mesh.folder / "run" / READY_FILE).read_text()))
    bank = await Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret)
    url = _database_url(mesh)
    signer = Signer(given, bank)

    async def once(work: Callable[[], Awaitable[object]]) -> bool:
        try:
            await work()
        except AssertionError as error:
            print(f"refused: {error}", flush=True)
            return False
        return True

    async def again(work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
        """Until it succeeded `rounds` times, or three times as often was tried; return how often of either."""
        tried = succeeded = 0
        while succeeded < rounds and tried < 3 * rounds:
            tried += 1
            succeeded += await once(work)
        return succeeded, tried

    # The first of its kind pays for what is made once.
    for work in (signer.enrol, lambda: authenticate(given, bank), signer.sign):
        for _ in range(_TRIES):
            if await once(work):
                break
    before = see(pids)
    await asyncio.sleep(rest_s)
    rested = see(pids)
    kept_before = stored(url)
    most, (identified, identify_tried) = await _watched(pids, again(lambda: authenticate(given, bank)))
    authenticated, kept_authenticated = see(pids), stored(url)
    most_signing, (signings, sign_tried) = await _watched(pids, again(signer.sign))
    signed, kept_signed = see(pids), stored(url)
    await bank.close()

    heading(
        f"At rest for {rest_s:.0f} s, then {identify_tried} IDENTIFY of which {identified} succeeded, "
        f"then {sign_tried} SIGN with one document of which {signings} did"
    )
    table(
        ("service", "MiB at rest", "MiB at most", "threads", "cores at rest", "CPU s an IDENTIFY", "CPU s a SIGN"),
        [
            (
                name,
                f"{rested[name].resident_bytes / _MIB:.0f}",
                f"{max(most[name], most_signing[name]) / _MIB:.0f}",
                f"{rested[name].threads}",
                f"{(rested[name].cpu_s - before[name].cpu_s) / rest_s:.3f}",
                f"{(authenticated[name].cpu_s - rested[name].cpu_s) / identify_tried:.2f}",
                f"{(signed[name].cpu_s - authenticated[name].cpu_s) / sign_tried:.2f}",
            )
            for name in pids
        ],
    )
    table(
        ("PostgreSQL", "an IDENTIFY", "a SIGN"),
        [
            (
                "KiB of tables and indexes",
                f"{(kept_authenticated.database_bytes - kept_before.database_bytes) / 1024 / identify_tried:.1f}",
                f"{(kept_signed.database_bytes - kept_authenticated.database_bytes) / 1024 / sign_tried:.1f}",
            ),
            (
                "KiB of write-ahead log",
                f"{(kept_authenticated.log_bytes - kept_before.log_bytes) / 1024 / identify_tried:.1f}",
                f"{(kept_signed.log_bytes - kept_authenticated.log_bytes) / 1024 / sign_tried:.1f}",
            ),
            ("connections, all services", str(kept_authenticated.connections), str(kept_signed.connections)),
        ],
    )


def _database_url(mesh: RunningMesh) -> str:
    return (mesh.folder / "secrets" / "owner.url").read_text()


def main() -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.resources", description=__doc__)
    parser.add_argument("--rest", type=float, default=20.0, help="how many seconds it is left alone")
    parser.add_argument("--rounds", type=int, default=4, help="how many authentications, and signatures")
    asked = parser.parse_args()
    started = time.monotonic()
    with running_mesh() as mesh:
        mesh.access_token_when_possible()
        asyncio.run(measure(mesh, asked.rest, asked.rounds))
    print(f"took {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
