"""A circuit breaker: a provider that fails again and again is left alone for a while, then tried with one SMS."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

_MAX_OPEN_FACTOR = 8


class Circuit(StrEnum):
    """Whether SMS go to a provider."""

    CLOSED = "CLOSED"
    """They do."""
    OPEN = "OPEN"
    """They do not, until its time is over."""
    HALF_OPEN = "HALF_OPEN"
    """One does, to see."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """How many failures one after the other open it, and for how long; each time longer, up to eightfold."""

    failures: int = 5
    open_s: float = 15.0


class Breaker:
    """The health of one provider, as this process has met it."""

    def __init__(self, limits: BreakerLimits, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only go forward (time.monotonic)."""
        self._limits = limits
        self._clock = clock
        self._failures = 0
        self._opened = 0
        self._open_until = 0.0
        self._trying = False

    @property
    def circuit(self) -> Circuit:
        """Where it stands."""
        if not self._opened:
            return Circuit.CLOSED
        return Circuit.HALF_OPEN if self._clock() >= self._open_until else Circuit.OPEN

    @property
    def retry_after_s(self) -> float:
        """How long it stays open."""
        return max(0.0, self._open_until - self._clock()) if self._opened else 0.0

    def admits(self) -> bool:
        """Tell whether an SMS may go to the provider now; while half-open, one at a time may."""
        circuit = self.circuit
        if circuit is Circuit.HALF_OPEN and not self._trying:
            self._trying = True
            return True
        return circuit is Circuit.CLOSED

    def succeeded(self) -> None:
        """The provider works."""
        self._failures = self._opened = 0
        self._trying = False

    def failed(self) -> None:
        """The provider did not take an SMS, or nobody knows whether it did."""
        self._failures += 1
        if self._trying or self._failures >= self._limits.failures:
            factor = min(2**self._opened, _MAX_OPEN_FACTOR)
            self._open_until = self._clock() + self._limits.open_s * factor
            self._opened += 1
            self._failures = 0
        self._trying = False

    def let_go(self) -> None:
        """The attempt was given up for reasons that say nothing of the provider."""
        self._trying = False
