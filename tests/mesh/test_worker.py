"""A worker keeps no way out, and neither its death nor its lies hurt the process that feeds it."""

import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pyseccomp
import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from mesh.worker import WorkerCallFailedError, WorkerLostError, WorkerPool, WorkersBusyError, sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGET = "tests.mesh.worker_targets:serve"


def pool_of(processes: int = 1, *, queue_limit: int = 4, call_timeout_s: float = 5.0) -> WorkerPool:
    return WorkerPool(
        TARGET,
        arguments={"greeting": "hello"},
        processes=processes,
        queue_limit=queue_limit,
        call_timeout_s=call_timeout_s,
        start_timeout_s=20,
    )


@pytest_asyncio.fixture(loop_scope="module")
async def pool() -> AsyncIterator[WorkerPool]:
    """A pool for a test that costs workers their lives."""
    async with pool_of() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def confined() -> AsyncIterator[WorkerPool]:
    """A pool for the tests that leave its worker alive."""
    async with pool_of() as running:
        yield running


async def outcome(pool: WorkerPool, attempt: str, **header: object) -> str:
    result, _ = await pool.call(attempt, header)
    return str(result["outcome"])


async def until(condition: Callable[[], bool], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.01)


# What a worker is for.


async def test_call_carries_json_and_bytes_both_ways(confined: WorkerPool) -> None:
    result, blobs = await confined.call("echo", {"number": 1.5, "text": "тіл"}, [b"\x00\xff" * 500_000, b""])
    assert result["header"] == {"number": 1.5, "text": "тіл"}
    assert result["arguments"] == {"greeting": "hello"}
    assert blobs == [b"\x00\xff" * 500_000, b""]


async def test_time_in_the_worker_is_a_span_of_the_trace_that_asked_for_it(confined: WorkerPool) -> None:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exported = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    with trace.get_tracer("test").start_as_current_span("asking") as asking:
        await confined.call("echo", {"text": "тіл"})
    provider.force_flush()
    exported.shutdown()
    (span,) = (item for item in exported.get_finished_spans() if item.name == "worker echo")
    assert span.parent is not None
    assert span.parent.span_id == asking.get_span_context().span_id
    assert not span.attributes


async def test_prints_of_libraries_do_not_disturb_the_protocol(confined: WorkerPool) -> None:
    assert await confined.call("print_to_stdout", {}) == ({"read": 0}, [])
    result, _ = await confined.call("echo", {"still": "in step"})
    assert result["header"] == {"still": "in step"}


async def test_exception_in_a_worker_fails_the_call_without_its_message_and_costs_no_worker(
    confined: WorkerPool,
) -> None:
    before = confined.worker_pids
    with capture_logs() as lines, pytest.raises(WorkerCallFailedError) as failure:
        await confined.call("raise_error", {})
    assert "secret detail" not in failure.value.message + str(lines)
    (line,) = [line for line in lines if line["event"] != "library line"]  # of what other tests left running
    assert line["error_class"] == "ValueError"
    assert line["where"].startswith("raise_error:")
    assert confined.worker_pids == before


async def test_unknown_method_fails_the_call(confined: WorkerPool) -> None:
    with pytest.raises(WorkerCallFailedError):
        await confined.call("no_such_method", {})


# What a worker has given up.


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"])
async def test_worker_cannot_make_a_socket(confined: WorkerPool, family: str, kind: str) -> None:
    numbers = {"family": int(getattr(socket, family)), "kind": int(getattr(socket, kind))}
    assert await outcome(confined, "open_socket", **numbers) == "EPERM"


@pytest.mark.parametrize("ci", [None, "true"])
async def test_worker_cannot_connect_whether_or_not_ci_is_set(ci: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host, port = listener.getsockname()
        async with pool_of() as pool:
            assert await outcome(pool, "connect", host=host, port=port) == "EPERM"
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        ("open_socket_in_thread", "EPERM"),
        ("open_socket_pair", "EPERM"),
        ("resolve_name", "gaierror"),
        ("set_up_io_uring", "EPERM"),
        ("run_program", "EPERM"),
        ("replace_itself", "EPERM"),
        ("fork", "EPERM"),
        ("signal_parent", "EPERM"),
        ("open_parent", "EPERM"),
        ("read_parent_memory", "EACCES"),
    ],
)
async def test_worker_is_refused(confined: WorkerPool, attempt: str, refusal: str) -> None:
    assert await outcome(confined, attempt) == refusal


async def test_worker_that_calls_through_another_abi_is_killed(pool: WorkerPool) -> None:
    with pytest.raises(WorkerLostError):
        await pool.call("call_through_32_bit_abi", {})


async def test_worker_cannot_write_a_file(confined: WorkerPool, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    assert await outcome(confined, "write_file", path=str(path)) in {"EACCES", "EFBIG"}
    assert _size_bytes(path) == 0


async def test_worker_memory_is_bounded(confined: WorkerPool) -> None:
    assert await outcome(confined, "allocate", bytes=8 * 1024**3) == "MemoryError"


async def test_worker_inherits_no_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINID_DATABASE_URL_FILE", "/somewhere")
    async with pool_of() as pool:
        result, _ = await pool.call("environment", {})
    assert not [name for name in result["environment"] if name.startswith("FINID")]
    assert result["environment"]["ORT_DISABLE_TELEMETRY"] == "1"
    assert result["environment"]["OMP_NUM_THREADS"] == "1"
    assert result["limits"] == {"core": 0}


@pytest.mark.parametrize("step", ["_load_filter", "_drop_capabilities", "_set_limits"])
async def test_confinement_fails_closed(step: str) -> None:
    """In a child of its own, because what is given up is given up for good."""
    program = (
        "import os, sys\n"
        "from mesh.worker import sandbox\n"
        "def refuse(*_): raise OSError(38, 'not on this kernel')\n"
        f"sandbox.{step} = refuse\n"
        "try: sandbox.enter(parent_pid=os.getppid(), max_address_space_bytes=1 << 32)\n"
        "except sandbox.SandboxError: sys.exit(7)\n"
    )
    assert await _run(program) == 7


async def test_filter_that_does_not_filter_is_noticed() -> None:
    program = (
        "import os, sys\n"
        "from mesh.worker import sandbox\n"
        "sandbox._load_filter = lambda: None\n"
        "try: sandbox.enter(parent_pid=os.getppid(), max_address_space_bytes=1 << 32)\n"
        "except sandbox.SandboxError: sys.exit(7)\n"
    )
    assert await _run(program) == 7


async def test_worker_whose_parent_is_already_gone_does_not_start() -> None:
    program = (
        "import sys\n"
        "from mesh.worker import sandbox\n"
        "try: sandbox.enter(parent_pid=1 << 22, max_address_space_bytes=1 << 32)\n"
        "except sandbox.SandboxError: sys.exit(7)\n"
    )
    assert await _run(program) == 7


async def test_no_refused_syscall_is_misspelt() -> None:
    """libseccomp answers an unknown name with -1; every name must be known here."""
    names = (*sandbox.REFUSED_SYSCALLS, "clone", "clone3")
    assert [name for name in names if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) == -1] == []


async def test_worker_ends_with_its_parent() -> None:
    program = (
        "import asyncio\n"
        "from mesh.worker import WorkerPool\n"
        "async def main():\n"
        f"    pool = WorkerPool({TARGET!r})\n"
        "    await pool.start()\n"
        "    print(pool.worker_pids[0], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *_python(program), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    worker_pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    await until(lambda: not _is_running(worker_pid))


# Death and replacement.


@pytest.mark.parametrize("death", ["die", "crash"])
async def test_dying_worker_fails_its_call_and_is_replaced(pool: WorkerPool, death: str) -> None:
    before = pool.worker_pids
    with pytest.raises(WorkerLostError):
        await pool.call(death, {})
    result, _ = await pool.call("echo", {})
    assert result["pid"] not in before


async def test_idle_worker_that_is_killed_is_noticed_and_replaced(pool: WorkerPool) -> None:
    (before,) = pool.worker_pids
    os.kill(before, signal.SIGKILL)
    await until(lambda: before not in pool.worker_pids)
    await until(lambda: pool.healthy)
    assert (await pool.call("echo", {}))[0]["pid"] != before


async def test_slow_call_costs_the_worker_its_life_and_only_that_call() -> None:
    async with pool_of(call_timeout_s=3.0) as pool:  # the next call is one that has to be in time
        before = pool.worker_pids
        slow = asyncio.create_task(pool.call("sleep", {"seconds": 60}))
        await asyncio.sleep(0)
        next_in_line = asyncio.create_task(pool.call("echo", {}))
        with pytest.raises(WorkerLostError):
            await slow
        assert (await next_in_line)[0]["pid"] not in before


async def test_one_of_two_workers_keeps_the_pool_healthy() -> None:
    async with pool_of(processes=2) as pool:
        doomed, other = pool.worker_pids
        os.kill(doomed, signal.SIGKILL)
        await until(lambda: doomed not in pool.worker_pids)
        assert pool.healthy
        assert other in pool.worker_pids


async def test_pool_whose_worker_cannot_start_says_why_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = WorkerPool(TARGET, arguments={"die_unless": str(tmp_path / "absent")})
    with pytest.raises(WorkerLostError):
        await pool.start()
    assert "RuntimeError: told not to start" in capsys.readouterr().err
    assert not pool.healthy
    with pytest.raises(WorkerLostError):
        await pool.call("echo", {})


async def test_pool_is_unhealthy_while_its_worker_cannot_be_replaced_and_recovers(tmp_path: Path) -> None:
    marker = tmp_path / "present"
    marker.touch()
    async with WorkerPool(TARGET, arguments={"die_unless": str(marker)}) as pool:
        marker.unlink()
        with pytest.raises(WorkerLostError):
            await pool.call("die", {})
        await asyncio.sleep(0.5)
        assert not pool.healthy
        marker.touch()
        await until(lambda: pool.healthy)
        await pool.call("echo", {})


async def test_close_ends_the_workers_and_fails_waiting_calls() -> None:
    pool = pool_of()
    await pool.start()
    (pid,) = pool.worker_pids
    waiting = [asyncio.create_task(pool.call("sleep", {"seconds": 60})) for _ in range(3)]
    await asyncio.sleep(0.05)
    await pool.close()
    for call in waiting:
        with pytest.raises(WorkerLostError):
            await call
    assert not _is_running(pid)
    assert not pool.healthy


# The queue.


async def test_full_queue_refuses_with_a_time_to_retry() -> None:
    async with pool_of(queue_limit=2) as pool:
        calls = [asyncio.create_task(pool.call("sleep", {"seconds": 0.2}))]
        await asyncio.sleep(0.05)  # the worker takes it from the queue
        calls += [asyncio.create_task(pool.call("sleep", {"seconds": 0})) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(WorkersBusyError) as refusal:
            await pool.call("echo", {})
        assert refusal.value.retry_after_s is not None
        assert 0.1 <= refusal.value.retry_after_s <= 5
        await asyncio.gather(*calls)
        await pool.call("echo", {})


async def test_what_continues_work_is_taken_into_a_full_queue_and_goes_first() -> None:
    ended: list[str] = []
    async with pool_of(queue_limit=1) as pool:

        async def ask(name: str, *, seconds: float, continues: bool) -> None:
            await pool.call("sleep", {"seconds": seconds}, continues=continues)
            ended.append(name)

        calls = [asyncio.create_task(ask("first", seconds=0.2, continues=False))]
        await asyncio.sleep(0.05)  # the worker takes it from the queue
        calls.append(asyncio.create_task(ask("begins", seconds=0, continues=False)))
        await asyncio.sleep(0)
        with pytest.raises(WorkersBusyError):
            await pool.call("echo", {})
        calls += [asyncio.create_task(ask(name, seconds=0, continues=True)) for name in ("continues", "continues too")]
        await asyncio.gather(*calls)
    assert ended == ["first", "continues", "continues too", "begins"]


async def test_caller_that_leaves_frees_its_place_and_spares_the_worker(pool: WorkerPool) -> None:
    before = pool.worker_pids
    running = asyncio.create_task(pool.call("sleep", {"seconds": 0.2}))
    await asyncio.sleep(0.05)
    queued = asyncio.create_task(pool.call("die", {}))
    await asyncio.sleep(0)
    running.cancel()
    queued.cancel()
    await asyncio.gather(running, queued, return_exceptions=True)
    assert (await pool.call("echo", {}))[0]["pid"] in before


# Hostile answers.


def frame(header: bytes, *blobs: bytes) -> bytes:
    parts = [struct.pack(">I", len(header)), header, struct.pack(">I", len(blobs))]
    return b"".join([*parts, *(struct.pack(">I", len(blob)) + blob for blob in blobs)])


HOSTILE_ANSWERS = {
    "a header of 4 GiB": struct.pack(">I", 0xFFFFFFFF),
    "no JSON": frame(b"\x80\x04."),
    "a JSON array": frame(b"[]"),
    "NaN": frame(b'{"id":2,"result":{"score":NaN}}'),
    "infinity in digits": frame(b'{"id":2,"result":{"score":1e999}}'),
    "deep nesting": frame(b"[" * 200_000),
    "a very long integer": frame(b'{"id":' + b"1" * 10_000 + b"}"),
    "four billion blobs": struct.pack(">I", 2) + b"{}" + struct.pack(">I", 0xFFFFFFFF),
    "a blob of 4 GiB": struct.pack(">I", 2) + b"{}" + struct.pack(">II", 1, 0xFFFFFFFF),
    "half a frame": frame(b'{"id":2,"result":{}}')[:-2],
    "nothing": b"",
    "another call's number": frame(b'{"id":999,"result":{}}'),
    "a number that is no number": frame(b'{"id":[2],"result":{}}'),
}


@pytest.mark.parametrize("answer", HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS.keys())
async def test_hostile_answer_fails_the_call_and_the_pool_recovers(pool: WorkerPool, answer: bytes) -> None:
    with pytest.raises(WorkerLostError):
        await pool.call("answer_raw", {}, [answer])
    assert (await pool.call("echo", {"after": 1}))[0]["header"] == {"after": 1}


async def test_endless_answer_is_cut_off_and_its_worker_reaped(pool: WorkerPool) -> None:
    with pytest.raises(WorkerLostError):
        await pool.call("answer_raw", {"times": 64}, [b"\xff" * 1_000_000])
    await until(lambda: pool.healthy)
    await pool.call("echo", {})


async def test_silent_worker_is_cut_off_by_the_call_timeout() -> None:
    async with pool_of(call_timeout_s=0.3) as pool:
        with pytest.raises(WorkerLostError):
            await pool.call("answer_raw", {"seconds": 60}, [b"\x00\x00\x00\x05ab"])


async def test_result_that_is_no_object_fails_the_call(pool: WorkerPool) -> None:
    with pytest.raises((WorkerCallFailedError, WorkerLostError)):
        await pool.call("answer_raw", {"seconds": 1}, [frame(b'{"id":2,"result":"PASS"}')])


async def test_call_larger_than_a_frame_may_be_is_refused_and_costs_no_worker(confined: WorkerPool) -> None:
    before = confined.worker_pids
    with pytest.raises(WorkerCallFailedError):
        await confined.call("echo", {}, [bytes(17 * 1024 * 1024)])
    assert confined.worker_pids == before


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _python(program: str) -> tuple[str, ...]:
    return sys.executable, "-c", program


async def _run(program: str) -> int:
    process = await asyncio.create_subprocess_exec(*_python(program), cwd=Path(__file__).parents[2])
    return await process.wait()


def _is_running(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
