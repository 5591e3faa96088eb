"""A fixed number of worker processes behind one bounded queue."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self

import structlog
from opentelemetry import context, trace

from mesh import metrics
from mesh.errors import Code, DependencyUnavailableError, FinIdError
from mesh.instruments import OTHER
from mesh.worker import frames
from mesh.worker.frames import Frame, FrameError
from mesh.worker.process import WorkerGoneError, WorkerProcess

_log = structlog.stdlib.get_logger()
_tracer = trace.get_tracer(__name__)

_RESTART_DELAY_S: Final = 0.2
_MAX_RESTART_DELAY_S: Final = 5.0
_SMOOTHING: Final = 0.1


class WorkersBusyError(FinIdError):
    """The queue before the workers is full."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "WORKERS_BUSY"


class WorkerLostError(DependencyUnavailableError):
    """The worker of this call died, was too slow or answered nonsense. It is replaced; the call may be retried."""

    reason = "WORKER_LOST"


class WorkerCallFailedError(FinIdError):
    """The called method raised: a fault of the model code, since whatever input can cause has a result of its own."""

    code = Code.INTERNAL
    reason = "WORKER_CALL_FAILED"


@dataclass(frozen=True, slots=True, order=True)
class _Call:
    """In the queue's order: what continues work goes before what begins some, and of these the earlier."""

    begins: bool
    number: int
    method: str = field(compare=False)
    header: Mapping[str, Any] = field(compare=False)
    blobs: Sequence[bytes] = field(compare=False)
    reply: "asyncio.Future[Frame]" = field(compare=False)
    asked_in: context.Context = field(compare=False)
    """The trace that the time in the worker belongs to."""


class WorkerPool:
    """Calls the methods of a target in sandboxed processes, one call at a time in each.

    Args:
        target: "module:function"; in the worker, `function(arguments)` returns the object whose methods are called.
        arguments: JSON-able; handed to that function at every start of a worker.
        processes: how many workers run.
        queue_limit: how many calls that begin work may wait for one.
        call_timeout_s: a call that takes longer costs the worker its life.
        start_timeout_s: the same for its start, imports and models included.
        pool: how figures name it, one of `metrics.POOLS`.
        threads: how many threads numeric libraries may use in each worker.
        max_address_space_bytes: virtual memory of a worker; mediapipe with onnxruntime maps 1.3 GiB.
    """

    def __init__(
        self,
        target: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        pool: str = OTHER,
        processes: int = 1,
        queue_limit: int = 32,
        call_timeout_s: float = 10.0,
        start_timeout_s: float = 60.0,
        threads: int = 1,
        max_address_space_bytes: int = 4 * 1024**3,
    ) -> None:
        if processes < 1 or queue_limit < 1:
            raise ValueError("a pool needs at least one process and one place in its queue")
        frames.encode(arguments or {}, ())  # refuses what could not be handed over
        self._target = target
        self._arguments = dict(arguments or {})
        self._pool = pool
        self._busy = 0
        self._processes = processes
        self._call_timeout_s = call_timeout_s
        self._start_timeout_s = start_timeout_s
        self._threads = threads
        self._max_address_space_bytes = max_address_space_bytes
        self._queue: asyncio.PriorityQueue[_Call] = asyncio.PriorityQueue()
        self._queue_limit = queue_limit
        self._numbers = count()
        self._unanswered: set[asyncio.Future[Frame]] = set()
        self._slots: list[asyncio.Task[None]] = []
        self._ready: dict[int, WorkerProcess] = {}
        self._usual_call_s = 0.1

    @property
    def healthy(self) -> bool:
        """Whether at least one worker is ready for calls."""
        return bool(self._ready)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes that are ready for calls."""
        return tuple(self._ready)

    async def start(self) -> None:
        """Start all workers and wait until they are ready.

        Raises:
            WorkerLostError: one of them does not start; none is left running.
        """
        metrics.WORKER_QUEUE_LENGTH.read(self._queue.qsize, pool=self._pool)
        metrics.WORKER_BUSY.read(lambda: self._busy, pool=self._pool)
        metrics.WORKER_COUNT.read(lambda: len(self._ready), pool=self._pool)
        first_starts = [asyncio.get_running_loop().create_future() for _ in range(self._processes)]
        self._slots = [asyncio.create_task(self._keep_one(first), name="worker-slot") for first in first_starts]
        try:
            await asyncio.gather(*first_starts)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End all workers; calls that are not answered yet fail with WorkerLostError."""
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._slots = []
        for reply in self._unanswered:
            if not reply.done():
                reply.set_exception(WorkerLostError("the service is shutting down"))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(
        self, method: str, header: Mapping[str, Any], blobs: Sequence[bytes] = (), *, continues: bool = False
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Call `method(header, blobs)` in a worker and return its header and blobs, which the caller must validate.

        A call that `continues` the work of one just answered goes first and is never told that the queue is full: the
        time already spent on its work would be lost. There are no more of these than of callers.

        A caller that is cancelled leaves the queue; a call that already runs is finished for nobody, because killing
        the worker would make the next caller wait for a new one.

        Raises:
            WorkersBusyError: the queue is full; `retry_after_s` says when it should have moved.
            WorkerLostError: the worker died, took longer than `call_timeout_s`, or answered nonsense.
            WorkerCallFailedError: the method raised.
        """
        if not self._slots:
            raise WorkerLostError("the workers are not running")
        if not continues and self._queue.qsize() >= self._queue_limit:
            wait_s = max(0.1, self._queue.qsize() * self._usual_call_s / self._processes)
            raise WorkersBusyError("all workers are busy", retry_after_s=round(wait_s, 1))
        reply: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        asked_in = context.get_current()
        self._queue.put_nowait(_Call(not continues, next(self._numbers), method, header, blobs, reply, asked_in))
        self._unanswered.add(reply)
        try:
            frame = await reply
        finally:
            self._unanswered.discard(reply)
        result = frame.header.get("result")
        if not isinstance(result, dict):
            _log_fault(frame.header.get("error"))
            raise WorkerCallFailedError("the analysis failed")
        return result, frame.blobs

    async def _keep_one(self, first_start: "asyncio.Future[None]") -> None:
        """Keep one worker running: start it, give it calls, replace it when it is gone. Ends only by cancellation."""
        delay_s = _RESTART_DELAY_S
        while True:
            try:
                worker = await WorkerProcess.start(
                    self._target,
                    arguments=self._arguments,
                    threads=self._threads,
                    max_address_space_bytes=self._max_address_space_bytes,
                    timeout_s=self._start_timeout_s,
                )
            except WorkerGoneError as error:
                # It has seen nobody's data yet, so what it said may be shown, and it is all there is to go by.
                # Told first: whoever waits must not wait for ever where nothing can be written.
                metrics.WORKER_CRASHES.add(pool=self._pool)
                first = not first_start.done()
                if first:
                    first_start.set_exception(WorkerLostError("a worker does not start"))
                sys.stderr.write(f"a worker of {self._target} does not start: {error}\n")
                _log.error("a worker does not start", dependency="worker")
                if first:
                    return
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_RESTART_DELAY_S)
                continue
            delay_s = _RESTART_DELAY_S
            self._ready[worker.pid] = worker
            if not first_start.done():
                first_start.set_result(None)
            try:
                await self._give_calls(worker)
            finally:
                del self._ready[worker.pid]
                await worker.end()
            metrics.WORKER_CRASHES.add(pool=self._pool)
            _log.warning("a worker is replaced", dependency="worker")

    async def _give_calls(self, worker: WorkerProcess) -> None:
        """Hand calls to the worker until it is gone."""
        while not worker.gone.done():
            next_call = asyncio.create_task(self._queue.get(), name="worker-next-call")
            try:
                await asyncio.wait((next_call, worker.gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                next_call.cancel()
            if not next_call.done() or next_call.cancelled():
                return
            if not await self._serve(worker, next_call.result()):
                return

    async def _serve(self, worker: WorkerProcess, call: _Call) -> bool:
        """Serve one call; False when the worker is of no use any more."""
        if call.reply.done():  # its caller has left
            return True
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._busy += 1
        try:
            # The worker alone: the caller's span has the wait in the queue, too. What an error says is for no trace.
            with _tracer.start_as_current_span(
                f"worker {call.method}", call.asked_in, record_exception=False, set_status_on_exception=False
            ):
                frame = await worker.call(call.method, call.header, call.blobs, self._call_timeout_s)
        except FrameError:
            _fail(call, WorkerCallFailedError("the call is larger than a worker takes"))
            return True
        except WorkerGoneError as error:
            _log.warning("a call lost its worker", dependency="worker", reason=error.reason.name)
            _fail(call, WorkerLostError("the worker of this call was lost", retry_after_s=1.0))
            return False
        finally:
            self._busy -= 1
            metrics.WORKER_BATCH_DURATION.record(loop.time() - started_s, pool=self._pool)
        self._usual_call_s += _SMOOTHING * (loop.time() - started_s - self._usual_call_s)
        if not call.reply.done():
            call.reply.set_result(frame)
        return True


def _fail(call: _Call, error: FinIdError) -> None:
    if not call.reply.done():
        call.reply.set_exception(error)


def _log_fault(fault: object) -> None:
    """Log where a method raised; what it said of it stays unknown, since it could quote what is analysed."""
    where = fault if isinstance(fault, dict) else {}
    _log.error(
        "a worker's method raised",
        dependency="worker",
        error_class=str(where.get("class")),
        where=str(where.get("where")),
    )
