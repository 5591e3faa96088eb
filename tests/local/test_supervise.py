"""supervisord of the mesh: what dies is named and restarted, and nothing outlives it, however it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from deploy.local import supervise
from deploy.local.state import CHECKOUT, State
from deploy.local.supervise import Died, Event, GaveUp, Program, Spawned, Supervisor

SLEEPER = (sys.executable, "-c", "print('sleeping', flush=True); import time; time.sleep(600)")
FAILING = (sys.executable, "-c", "import sys, time; print('cannot go on'); sys.exit(78)")


@pytest.fixture
async def supervisor(own_state: State) -> AsyncIterator[Supervisor]:
    made = Supervisor(
        own_state,
        [
            Program("sleeper", "rooms", SLEEPER, {"FINID_PERCENT": "100% sure, 'quoted', a=b"}),
            Program("failing", "rooms", FAILING),
        ],
    )
    await made.start()
    yield made
    await made.stop()


async def next_event(events: AsyncIterator[Event], kind: type[Event]) -> Event:
    async with asyncio.timeout(15):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("no more events")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


async def until_runs(pid: int, command: Sequence[str]) -> None:
    """Return when a process is the command itself: setpriv has told the kernel with whom it ends, and is gone."""
    for _ in range(600):
        if command_of(pid) == [*command]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"process {pid} never became {command[0]}")


async def until_gone(pid: int) -> None:
    for _ in range(200):
        if not is_alive(pid):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")


def environment_of(pid: int) -> list[bytes]:
    return [entry for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if entry]


async def test_nothing_starts_by_itself(supervisor: Supervisor) -> None:
    await asyncio.sleep(0.3)
    assert not supervisor.log_of("sleeper").exists() or not supervisor.last_line_of("sleeper")


async def test_a_killed_process_is_named_with_its_signal_and_restarted(supervisor: Supervisor) -> None:
    events = supervisor.events()
    await supervisor.start_programs(["sleeper"])
    first = await next_event(events, Spawned)
    assert isinstance(first, Spawned)
    await asyncio.sleep(1.2)  # supervisord counts an earlier end as a failed start
    os.kill(first.pid, signal.SIGKILL)
    assert await next_event(events, Died) == Died("sleeper", "terminated by SIGKILL")
    second = await next_event(events, Spawned)
    assert isinstance(second, Spawned)
    assert second.pid != first.pid
    assert is_alive(second.pid)
    assert supervisor.last_line_of("sleeper") == "sleeping"


async def test_a_failing_process_is_named_with_its_exit_status_and_last_words(supervisor: Supervisor) -> None:
    events = supervisor.events()
    await supervisor.start_programs(["failing"])
    assert await next_event(events, Died) == Died("failing", "exit status 78")
    assert supervisor.last_line_of("failing") == "cannot go on"


async def test_an_environment_arrives_as_it_was_given_and_nothing_else_does(supervisor: Supervisor) -> None:
    events = supervisor.events()
    await supervisor.start_programs(["sleeper"])
    spawned = await next_event(events, Spawned)
    assert isinstance(spawned, Spawned)
    await until_runs(spawned.pid, SLEEPER)
    content = environment_of(spawned.pid)
    assert b"FINID_PERCENT=100% sure, 'quoted', a=b" in content
    names = {entry.partition(b"=")[0] for entry in content if not entry.startswith(b"SUPERVISOR_")}
    assert names == {b"FINID_PERCENT", b"PATH", b"LC_ALL", b"TZ", b"HOME"}


async def test_a_stop_leaves_nothing_behind(supervisor: Supervisor) -> None:
    events = supervisor.events()
    await supervisor.start_programs(["sleeper"])
    spawned = await next_event(events, Spawned)
    assert isinstance(spawned, Spawned)
    await supervisor.stop()
    assert not is_alive(spawned.pid)


async def test_a_killed_supervisor_takes_its_processes_with_it(supervisor: Supervisor) -> None:
    events = supervisor.events()
    await supervisor.start_programs(["sleeper"])
    spawned = await next_event(events, Spawned)
    assert isinstance(spawned, Spawned)
    await until_runs(spawned.pid, SLEEPER)
    os.kill(supervisor.pid, signal.SIGKILL)
    assert await supervisor.wait() == -signal.SIGKILL
    await until_gone(spawned.pid)


RUNNER = """
import asyncio, sys
from pathlib import Path
from deploy.local.state import State
from deploy.local.supervise import Program, Spawned, Supervisor

async def main():
    supervisor = Supervisor(State.open(Path(sys.argv[1])), [Program("sleeper", "rooms", ("/bin/sleep", "600"))])
    await supervisor.start()
    await supervisor.start_programs(["sleeper"])
    async for event in supervisor.events():
        if isinstance(event, Spawned):
            print(supervisor.pid, event.pid, flush=True)

asyncio.run(main())
"""


async def test_a_killed_runner_takes_the_supervisor_and_its_processes_with_it(own_state: State) -> None:
    command = [sys.executable, "-c", RUNNER, str(own_state.folder)]
    runner = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE)
    assert runner.stdout is not None
    pids = [int(word) for word in (await runner.stdout.readline()).split()]
    await until_runs(pids[1], ("/bin/sleep", "600"))
    assert all(map(is_alive, pids))
    runner.kill()
    await runner.wait()
    for pid in pids:
        await until_gone(pid)


def test_giving_up_is_told() -> None:
    line = "2026-03-01 10:00:00,000 INFO gave up: otp entered FATAL state, too many start retries too quickly"
    assert supervise._event(line) == GaveUp("otp")
