"""Finds the certificates that end soon, and notes for each that its owner is to be told (notices.py does so).

The authority lists what is in force and ends; it knows no phones. What the hub issued, to whom and by which
authentication stands in the hub's own table, so that whatever the authority lists besides is passed over. Not told of:
certificates that are revoked or superseded (not listed), replaced, or that wait for their key's activation. A suspended
one is told of: a hold does not stop the clock.

A certificate is noted once for each number of days, the smallest that it is nearer than, so that one that is found late
is not told of twice at once. A sweep that dies is made good by the next one: what is noted already stays as it is.
"""

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh import telemetry
from mesh.errors import DependencyUnavailableError
from mesh.status import PeerError
from services.auth_gateway.notices import Ending

_PAGE = 500
# A million certificates in one sweep; the list begins with what ends first.
_MAX_PAGES = 2000
_AFTER_A_FAILURE = datetime.timedelta(minutes=1)
_LOOK_EVERY_S = 10.0
# How long it is kept what was told of, or not.
_KEPT_FOR = datetime.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate that the authority lists: its serial in lower-case hex, and its last second."""

    serial: str
    not_after: datetime.datetime


@dataclass(frozen=True, slots=True)
class ExpiringPage:
    """Certificates, soonest end first; `next_page_token` is "" on the last page."""

    certificates: Sequence[Expiring]
    next_page_token: str


class ExpiryList(Protocol):
    """ca. May raise mesh.status.PeerError."""

    async def expiring(self, within_days: int, page_size: int, page_token: str) -> ExpiringPage:
        """Return a page of the certificates in force that end within some days."""
        ...


@dataclass(frozen=True, slots=True)
class DueEnding:
    """An end to tell of, and when that is worth nothing any more."""

    ending: Ending
    gives_up_at: datetime.datetime


class NotedEndings(Protocol):
    """What was found. Each method is one statement, safe over all replicas."""

    async def begin_sweep(self, at: datetime.datetime, next_at: datetime.datetime) -> bool:
        """Begin the sweep that is due, and have the next one due at `next_at`; False when none is due."""
        ...

    async def sweep_again(self, at: datetime.datetime) -> None:
        """Have the next sweep due at `at`."""
        ...

    async def note(self, endings: Sequence[DueEnding], at: datetime.datetime) -> int:
        """Note those that are the hub's own, in use, and not noted yet; return how many."""
        ...

    async def forget(self, before: datetime.datetime) -> int:
        """Forget notices that are settled and were worth nothing any more `before`; return how many."""
        ...


class ExpiryNotices:
    """Looks for certificates that end soon, every now and then, once for all replicas."""

    def __init__(
        self,
        authority: ExpiryList,
        noted: NotedEndings,
        *,
        days: tuple[int, ...],
        every: datetime.timedelta,
        now: Callable[[], datetime.datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`days` before an end its owner is told; none for nobody is told."""
        self._authority = authority
        self._noted = noted
        self._days = tuple(sorted(set(days)))
        self._every = every
        self._now = now
        self._sleep = sleep

    async def sweep(self) -> None:
        """Sweep when it is due, until cancelled."""
        while True:
            try:
                await self.sweep_once()
            except DependencyUnavailableError:
                telemetry.logger().warning("expiry notices wait, a dependency is lost")
            await self._sleep(min(_LOOK_EVERY_S, self._every.total_seconds()))

    async def sweep_once(self) -> None:
        """Note what ends soon, if a sweep is due and no other process is at it."""
        now = self._now()
        if not await self._noted.begin_sweep(now, now + self._every):
            return
        try:
            count = await self._note_all(now) if self._days else 0
        except PeerError as error:
            telemetry.logger().warning(
                "expiry notices wait", peer=error.peer, code=error.code, reason=error.reason or "NONE"
            )
            await self._noted.sweep_again(now + min(_AFTER_A_FAILURE, self._every))
            return
        await self._noted.forget(now - _KEPT_FOR)
        telemetry.logger().info("expiry notices noted", count=count)

    async def _note_all(self, now: datetime.datetime) -> int:
        count, page_token = 0, ""
        for _ in range(_MAX_PAGES):
            page = await self._authority.expiring(self._days[-1], _PAGE, page_token)
            due = [self._due(found, now) for found in page.certificates]
            count += await self._noted.note([one for one in due if one], now)
            page_token = page.next_page_token
            if not page_token:
                return count
        telemetry.logger().error("more certificates end soon than one sweep takes", count=_MAX_PAGES * _PAGE)
        return count

    def _due(self, found: Expiring, now: datetime.datetime) -> DueEnding | None:
        """The smallest number of days that it is nearer than; it is worth telling until the next smaller one."""
        left = found.not_after - now
        smaller = 0
        for days in self._days:
            if left <= datetime.timedelta(days=days):
                ending = Ending(f"certificates/{found.serial}", found.not_after, days)
                return DueEnding(ending, found.not_after - datetime.timedelta(days=smaller))
            smaller = days
        return None
