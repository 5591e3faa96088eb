"""Answers that take the same time whatever they say, so that no clock tells what they hide."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes; `clock` counts seconds and never goes back."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @contextlib.asynccontextmanager
    async def at_least(self, seconds: float) -> AsyncIterator[None]:
        """Let the block take at least `seconds`. One that raises ends at once: errors say what happened anyway."""
        started = self.clock()
        yield
        await self.sleep(max(0.0, started + seconds - self.clock()))
