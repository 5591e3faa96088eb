"""A closed loop: a number of callers, each of which calls again as soon as its last call has come back."""

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

_Input = TypeVar("_Input")


@dataclass(frozen=True, slots=True)
class Timing:
    """One round: how long it took in all, and each call in it."""

    took_s: float
    calls_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Several rounds of one thing. The rate is the median round's: a busy neighbour spoils one, not all."""

    rounds: Sequence[Timing]

    @property
    def calls_per_s(self) -> float:
        """Calls a second."""
        return statistics.median(len(one.calls_s) / one.took_s for one in self.rounds)

    @property
    def mean_ms(self) -> float:
        """Milliseconds of a call, on average."""
        return statistics.mean(call for one in self.rounds for call in one.calls_s) * 1000

    def percentile_ms(self, percent: int) -> float:
        """Milliseconds within which so many per cent of all calls came back."""
        every = sorted(call for one in self.rounds for call in one.calls_s)
        return every[min(len(every) - 1, len(every) * percent // 100)] * 1000


async def run(
    call: Callable[[_Input], Awaitable[object]], inputs: Iterable[_Input], callers: int, at_most_s: float
) -> Timing:
    """Call once with each input, until they or the time are used up."""
    waiting, calls_s = iter(inputs), list[float]()
    began = time.perf_counter()

    async def caller() -> None:
        for value in waiting:
            started = time.perf_counter()
            if started - began > at_most_s:
                return
            await call(value)
            calls_s.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return Timing(time.perf_counter() - began, tuple(calls_s))


def run_in_threads(make_call: Callable[[], Callable[[], object]], callers: int, for_s: float) -> Timing:
    """Call for so long; each caller is a thread of its own, with a call that it has made for itself."""
    all_are_ready = threading.Barrier(callers + 1)

    def caller() -> tuple[float, ...]:
        call, calls_s = make_call(), list[float]()
        all_are_ready.wait()
        ends_at = time.perf_counter() + for_s
        while (started := time.perf_counter()) < ends_at:
            call()
            calls_s.append(time.perf_counter() - started)
        return tuple(calls_s)

    with ThreadPoolExecutor(callers) as threads:
        running = [threads.submit(caller) for _ in range(callers)]
        all_are_ready.wait()
        began = time.perf_counter()
        calls_s = tuple(call_s for caller_s in running for call_s in caller_s.result())
        return Timing(time.perf_counter() - began, calls_s)
