"""One worker process as its parent sees it: started, called one call at a time, ended. What it says is suspect."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from mesh.worker import frames
from mesh.worker.frames import Frame, FrameError

# All that a worker inherits: it needs no more, and a secret in the environment would be one to lose.
_INHERITED_VARIABLES: Final = ("LANG", "LC_ALL", "TZ")
_FIXED_VARIABLES: Final = {
    "GLOG_minloglevel": "2",
    "MALLOC_ARENA_MAX": "2",
    "ORT_DISABLE_TELEMETRY": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
_START_MESSAGES_BYTES: Final = 4096
_CHUNK_BYTES: Final = 64 * 1024


class Loss(Enum):
    """How a worker was lost."""

    NOT_STARTED = "no process can be started"
    ENDED = "it ended"
    TOO_SLOW = "it did not answer in time"
    NONSENSE = "it sent no proper answer"


class WorkerGoneError(Exception):
    """The process is of no use any more; the message adds what it said before it was ready."""

    def __init__(self, reason: Loss, messages: str = "") -> None:
        super().__init__(f"{reason.value}\n{messages}".rstrip())
        self.reason = reason


class WorkerProcess:
    """A started worker. Not safe for two calls at once."""

    def __init__(self, process: Process, pidfd: int) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a worker needs all three pipes")
        self._process = process
        self._pidfd = pidfd
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._last_id = 0
        self._ready = False
        self._messages = b""
        self.gone = asyncio.create_task(self._follow_until_end(), name="worker-follow")

    @classmethod
    async def start(
        cls,
        target: str,
        *,
        arguments: Mapping[str, Any],
        threads: int,
        max_address_space_bytes: int,
        timeout_s: float,
    ) -> "WorkerProcess":
        """Start a process and wait until it is confined and its target is ready.

        Raises:
            WorkerGoneError: it ended or took longer than `timeout_s`.
        """
        environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
        environment |= _FIXED_VARIABLES
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        command = (sys.executable, "-I", "-m", "mesh.worker", target, str(os.getpid()), str(max_address_space_bytes))
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
            )
            worker = cls(process, os.pidfd_open(process.pid))
        except OSError as error:
            raise WorkerGoneError(Loss.NOT_STARTED, error.strerror or "") from error
        try:
            await worker._exchange({"arguments": dict(arguments)}, (), timeout_s)
        except BaseException:
            await worker.end()
            raise
        worker._ready = True
        return worker

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    async def call(self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes], timeout_s: float) -> Frame:
        """Send one call and return the frame it is answered with.

        Raises:
            WorkerGoneError: no proper answer came in time. End the worker then.
            FrameError: the call itself is beyond the limits; nothing was sent.
        """
        return await self._exchange({"method": method, "header": dict(header)}, blobs, timeout_s)

    async def end(self) -> None:
        """Kill the process, if it still runs, and wait until nothing is left of it, even when cancelled meanwhile."""
        self._kill()
        ended = asyncio.create_task(self._clear_away(), name="worker-end")
        cancelled = False
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _clear_away(self) -> None:
        await self.gone
        self._stdin.close()
        # asyncio lets go of a pipe, and reports the end of a process, only when nothing is left to read from it.
        while await self._stdout.read(_CHUNK_BYTES):
            pass
        with contextlib.suppress(OSError):
            await self._stdin.wait_closed()
        await self._process.wait()
        os.close(self._pidfd)

    def _kill(self) -> None:
        # Not Process.kill(), which may reap the process behind the back of asyncio's own watcher.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def _exchange(self, call: Mapping[str, Any], blobs: Sequence[bytes], timeout_s: float) -> Frame:
        self._last_id += 1
        parts = frames.encode({"id": self._last_id, **call}, blobs)
        try:
            async with asyncio.timeout(timeout_s):
                self._stdin.writelines(parts)
                await self._stdin.drain()
                reply = await self._read()
        except TimeoutError:
            raise WorkerGoneError(Loss.TOO_SLOW, self._messages_before_ready()) from None
        except (OSError, EOFError):
            raise WorkerGoneError(Loss.ENDED, self._messages_before_ready()) from None
        except FrameError:
            raise WorkerGoneError(Loss.NONSENSE) from None
        if reply.header.get("id") != self._last_id:
            raise WorkerGoneError(Loss.NONSENSE)
        return reply

    async def _read(self) -> Frame:
        parser = frames.decoder()
        wanted = next(parser)
        while True:
            try:
                wanted = parser.send(await self._stdout.readexactly(wanted))
            except StopIteration as done:
                frame: Frame = done.value
                return frame

    async def _follow_until_end(self) -> None:
        """Read what it writes to stderr until it closes that, which it does at its end at the latest.

        Messages are kept only until it is ready, to say why a start failed. Later ones could hold what it analyses,
        so they are dropped.
        """
        while chunk := await self._stderr.read(_CHUNK_BYTES):
            self._messages = b"" if self._ready else (self._messages + chunk)[-_START_MESSAGES_BYTES:]
        self._kill()

    def _messages_before_ready(self) -> str:
        return "" if self._ready else self._messages.decode(errors="replace")
