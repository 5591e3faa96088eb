"""What is kept for a time only: request ids for a day, in small pieces, by every replica without harm."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from typing import Protocol

from mesh import telemetry
from mesh.errors import DependencyUnavailableError

_EVERY_S = 600.0
_PIECE = 1000


class Requests(Protocol):
    """The request ids that are kept."""

    async def forget(self, at: datetime.datetime, at_most: int) -> int:
        """Forget some that are older than 24 hours; return how many."""
        ...


class Retention:
    """Forgets what is old, from time to time."""

    def __init__(
        self,
        requests: Requests,
        now: Callable[[], datetime.datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._requests = requests
        self._now = now
        self._sleep = sleep

    async def run(self) -> None:
        """Forget until cancelled."""
        while True:
            try:
                await self.forget_once()
            except DependencyUnavailableError:
                telemetry.logger().warning("forgetting later, a dependency is lost")
            await self._sleep(_EVERY_S)

    async def forget_once(self) -> int:
        """Forget all that is old; return how many request ids."""
        total = 0
        while (count := await self._requests.forget(self._now(), _PIECE)) > 0:
            total += count
        if total:
            telemetry.logger().info("request ids forgotten", count=total)
        return total
