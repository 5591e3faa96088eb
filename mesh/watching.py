"""Figures that must be asked for: what a service looks up from time to time, so that no scrape waits for a database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Never

from mesh.errors import DependencyUnavailableError
from mesh.instruments import Gauge


async def keep_shown(
    gauge: Gauge,
    look: Callable[[], Awaitable[None]],
    every_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Never:
    """Have `look` set the gauge, again and again, until cancelled; it shows nothing while `look` cannot see."""
    while True:
        try:
            await look()
        except DependencyUnavailableError:
            gauge.forget()
        await sleep(every_s)
