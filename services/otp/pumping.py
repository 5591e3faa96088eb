"""Against SMS pumping: codes that are sent for money and never entered.

Whoever earns on SMS to a range of numbers asks for codes to it and enters none. So where an application's codes to one
beginning of numbers are hardly ever entered, none are sent there for a while, and an alarm is written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mesh import telemetry
from mesh.errors import DependencyUnavailableError

_LOOK_EVERY_S = 30.0
_PERCENT = 100


@dataclass(frozen=True, slots=True)
class PumpingLimits:
    """When too few codes are entered.

    Of the transactions that had a code sent within `window`, not counting those of the last `patience`, whose persons
    may still be typing. The numbers are chosen, not measured: they are to let a bad hour of an operator pass, and to
    stop a robot within some minutes.
    """

    window: timedelta = timedelta(minutes=30)
    patience: timedelta = timedelta(minutes=3)
    min_asked: int = 50
    min_entered_percent: int = 20
    pause: timedelta = timedelta(minutes=15)

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.patience < self.window or self.pause <= timedelta(0) or self.min_asked < 1:
            raise ValueError("a window is longer than the patience in it, a pause is one, and one is asked at least")
        if not 0 <= self.min_entered_percent <= _PERCENT:
            raise ValueError("a percentage is between 0 and 100")


@dataclass(frozen=True, slots=True)
class Pause:
    """Where codes are not sent now: an application, the beginning of numbers, and what was counted."""

    application: str
    prefix: str
    asked: int
    entered: int


class Pauses(Protocol):
    """The record of pauses, over all replicas."""

    async def begin(self, limits: PumpingLimits, now: datetime) -> Sequence[Pause]:
        """Begin what is due, and return it; each pause is begun, and returned, by one replica only.

        What was sent before the last pause of the same application and prefix counts no more.
        """
        ...


class Pumping:
    """Watches how many codes are entered."""

    def __init__(
        self,
        pauses: Pauses,
        limits: PumpingLimits,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pauses = pauses
        self._limits = limits
        self._now = now
        self._sleep = sleep

    async def look(self) -> None:
        """Begin the pauses that are due, each with an alarm."""
        for pause in await self._pauses.begin(self._limits, self._now()):
            telemetry.logger().error(
                "codes hardly ever entered, sending paused",
                application=pause.application,
                prefix=pause.prefix,
                count=pause.asked,
            )

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except DependencyUnavailableError:
                telemetry.logger().warning("looking later, a dependency is lost", dependency="database")
            await self._sleep(_LOOK_EVERY_S)
