"""How much an application may ask: a rate for each kind of call, a quota of what it starts in a day, and how many
streams it has open at each replica.

Token buckets in a store that all replicas share. A replica draws several tokens at once when it spends them fast, so
that most calls need no statement; what it holds was taken out of the shared bucket, and is dropped after a few seconds.
"""

import asyncio
import contextlib
import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mesh import metrics, telemetry
from mesh.errors import Code, DependencyUnavailableError, FinIdError

_DAY_S = 86_400.0
_BURST_S = 4
# What one replica draws at most: a small part of the bucket, and of what flows in. With ten replicas it lasts for all.
_PART_OF_BURST = 50
_PART_OF_RATE = 10
# Beyond this many buckets, those that are idle are forgotten.
_MANY = 1024
# Spent within this, the next draw is twice as large; not spent within this, what is left is dropped.
_FAST_S = 1.0
_HELD_S = 5.0
# Nobody is told to wait longer: a day's quota fills by the second.
_LONGEST_WAIT_S = 3600.0
# A stream is open as long as a person takes her steps: some end within this.
_STREAM_WAIT_S = 5.0


class Kind(StrEnum):
    """What a call costs, roughly: each kind has a bucket of its own."""

    READ = "read"
    STEP = "step"
    CREATE = "create"
    DOCUMENT = "document"


_CREATES = frozenset(
    f"{service}.{method}"
    for service, method in (
        ("FinIdService", "CreateAuthentication"),
        ("FinIdService", "Authenticate"),
        ("ESignService", "IssueCertificate"),
        ("ESignService", "ReissueCertificate"),
        ("ESignService", "RevokeCertificate"),
        ("ESignService", "SuspendCertificate"),
        ("ESignService", "ResumeCertificate"),
        ("ESignService", "CreateSignature"),
    )
)
_STEPS = frozenset(
    f"FinIdService.{method}"
    for method in (
        "GiveConsents",
        "StartLiveness",
        "SubmitFrames",
        "SendCode",
        "VerifyCode",
        "CancelAuthentication",
        "WithdrawConsent",
        "RedeliverWebhook",
    )
)
_DOCUMENTS = frozenset({"ESignService.DownloadDocument", "ESignService.VerifyDocument"})


def kind_of(method: str) -> Kind:
    """Return what kind of call a method of the public API is."""
    if method in _CREATES:
        return Kind.CREATE
    if method in _STEPS:
        return Kind.STEP
    return Kind.DOCUMENT if method in _DOCUMENTS else Kind.READ


class RateLimitedError(FinIdError):
    """The application asks more often than it may; the metadata names the kind of call."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"


class QuotaExhaustedError(FinIdError):
    """The application has started as much as it may within a day."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXHAUSTED"


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: how many tokens it holds, and how many a second fill it."""

    burst: int
    per_second: float

    def __post_init__(self) -> None:
        if self.burst < 1 or self.per_second <= 0:
            raise ValueError("a rate lets something through")


@dataclass(frozen=True, slots=True)
class Limits:
    """What every application may ask. `starts_per_day` counts what the kind CREATE starts; `streams` are those open at
    one replica, which has calls of a limited number (mesh.server) for all."""

    rates: Mapping[Kind, Rate]
    starts_per_day: int
    streams: int = 32

    def __post_init__(self) -> None:
        if self.streams < 1:
            raise ValueError("a limit lets something through")

    @classmethod
    def of(
        cls, *, read: float, step: float, create: float, document: float, starts_per_day: int, streams: int = 32
    ) -> "Limits":
        """Return limits by their calls a second; each bucket holds four seconds' worth."""
        per_second = {Kind.READ: read, Kind.STEP: step, Kind.CREATE: create, Kind.DOCUMENT: document}
        rates = {kind: Rate(max(1, int(_BURST_S * rate)), rate) for kind, rate in per_second.items()}
        return cls(rates, starts_per_day, streams)

    def buckets(self, kind: Kind) -> tuple[tuple[str, Rate], ...]:
        """Return the buckets that a call of a kind draws from, by name."""
        rate = (kind.value, self.rates[kind])
        if kind is not Kind.CREATE:
            return (rate,)
        return (rate, ("create-day", Rate(self.starts_per_day, self.starts_per_day / _DAY_S)))


class Buckets(Protocol):
    """Where tokens are kept for all replicas."""

    async def draw(self, application: str, bucket: str, rate: Rate, wanted: int, at: datetime.datetime) -> "Drawn":
        """Take up to `wanted` tokens, as many as there are, in one statement. A bucket that is not there is full."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many tokens a draw got, and how many are left, with parts."""

    got: int
    left: float


@dataclass(slots=True)
class _Purse:
    """What this replica holds of one bucket; `empty_until` when the bucket itself had none."""

    tokens: int = 0
    drew: int = 0
    drawn_at: float = 0.0
    empty_until: float = 0.0


class Allowance:
    """Lets calls pass. `now` is UTC for the store; `clock` counts seconds and never goes back."""

    def __init__(
        self,
        buckets: Buckets,
        limits: Limits,
        now: Callable[[], datetime.datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = buckets
        self._limits = limits
        self._now = now
        self._clock = clock
        self._purses: dict[tuple[str, str], _Purse] = {}
        self._drawing: dict[tuple[str, str], asyncio.Lock] = {}
        self._streams: Counter[str] = Counter()

    @contextlib.contextmanager
    def stream(self, application: str) -> Iterator[None]:
        """Have one stream more open at this replica. Raises RateLimitedError while the application has its number."""
        if self._streams[application] >= self._limits.streams:
            metrics.RATE_LIMITED.add(kind="stream")
            raise RateLimitedError(
                "The application has as many streams open as it may; try again later.",
                metadata={"kind": "stream"},
                retry_after_s=_STREAM_WAIT_S,
            )
        self._streams[application] += 1
        try:
            yield
        finally:
            self._streams[application] -= 1
            if not self._streams[application]:
                del self._streams[application]

    async def spend(self, application: str, kind: Kind) -> None:
        """Take a token for a call. Raises RateLimitedError or QuotaExhaustedError, with when to come again.

        While the store is away every call passes: what needs the store says so itself.
        """
        for bucket, rate in self._limits.buckets(kind):
            wait_s = await self._take(application, bucket, rate)
            if wait_s > 0:
                error = RateLimitedError if bucket == kind else QuotaExhaustedError
                metrics.RATE_LIMITED.add(kind=kind.value if bucket == kind else "quota")
                raise error(
                    "The application asks for more than it may; try again later.",
                    metadata={"kind": kind.value},
                    retry_after_s=min(wait_s, _LONGEST_WAIT_S),
                )

    async def _take(self, application: str, bucket: str, rate: Rate) -> float:
        """Take a token; return 0, or how long there is none."""
        key = (application, bucket)
        purse = self._purses.get(key)
        if purse is None:
            if len(self._purses) >= _MANY:
                self._forget_idle()
            purse = self._purses.setdefault(key, _Purse())
        if self._spent_from(purse):
            return 0.0
        async with self._drawing.setdefault(key, asyncio.Lock()):
            if self._spent_from(purse):  # another call drew meanwhile
                return 0.0
            started = self._clock()
            if started < purse.empty_until:
                return purse.empty_until - started
            wanted = self._next_draw(purse, rate, started)
            try:
                drawn = await self._buckets.draw(application, bucket, rate, wanted, self._now())
            except DependencyUnavailableError:
                telemetry.logger().error("allowance not counted")
                return 0.0
            if drawn.got == 0:
                wait_s = (1.0 - drawn.left) / rate.per_second
                purse.empty_until = started + min(wait_s, _FAST_S)
                return wait_s
            purse.tokens, purse.drew, purse.drawn_at = drawn.got - 1, wanted, started
            return 0.0

    def _spent_from(self, purse: _Purse) -> bool:
        if purse.tokens == 0 or self._clock() - purse.drawn_at > _HELD_S:
            return False
        purse.tokens -= 1
        return True

    def _next_draw(self, purse: _Purse, rate: Rate, at: float) -> int:
        """One, and twice as many as last time while they are spent fast."""
        if purse.drew == 0 or at - purse.drawn_at > _FAST_S:
            return 1
        return max(1, min(2 * purse.drew, rate.burst // _PART_OF_BURST, int(rate.per_second) // _PART_OF_RATE))

    def _forget_idle(self) -> None:
        over = self._clock() - _HELD_S
        for key, purse in list(self._purses.items()):
            drawing = self._drawing.get(key)
            if max(purse.drawn_at, purse.empty_until) < over and drawing is not None and not drawing.locked():
                del self._purses[key], self._drawing[key]
