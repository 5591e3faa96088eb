"""Refusals that take the same time whatever their cause, so that no clock tells what they hide."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mesh import spans


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes; `clock` counts seconds and never goes back."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def until(self, moment: float) -> None:
        """Return when the clock shows `moment`, at once if it is past."""
        with spans.span("wait on purpose"):
            await self.sleep(max(0.0, moment - self.clock()))
