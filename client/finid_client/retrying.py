"""When a call is made again: pure, so that it can be read and tested without a network.

A repeat is safe where nothing can happen twice. RESOURCE_EXHAUSTED with a RetryInfo was refused before anything was
done, so every call may be repeated then, when FinID says. After UNAVAILABLE nobody knows: only what FinID itself makes
safe is repeated, that is what only reads, what changes nothing the second time, and what carries a `request_id`.
Everything else is the caller's to decide. All attempts share the time of the one call they stand for.
"""

from collections.abc import Callable
from dataclasses import dataclass

from finid_client.errors import CallError

# As RetryInfo asks, and so much later at random: many who wait shall not come together.
_SPREAD_S = 0.25


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and how long between: full jitter below a bound that doubles from `first_s` to `most_s`."""

    attempts: int = 5
    first_s: float = 0.2
    most_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.first_s <= self.most_s:
            raise ValueError("attempts must be 1 or more, and 0 < first_s <= most_s")


NO_RETRIES = Retries(attempts=1)


class Attempts:
    """The attempts of one logical call. `draw(a, b)` gives a random number between, `now` is monotonic seconds."""

    def __init__(
        self,
        retries: Retries,
        timeout_s: float,
        *,
        is_repeatable: bool,
        now: Callable[[], float],
        draw: Callable[[float, float], float],
    ) -> None:
        self._retries = retries
        self._is_repeatable = is_repeatable
        self._now = now
        self._draw = draw
        self._until = now() + timeout_s
        self._made = 0
        self._renewed = False

    @property
    def left_s(self) -> float:
        """Time left for the call; never 0, which gRPC would take for none."""
        return max(0.001, self._until - self._now())

    def may_renew_token(self, error: CallError) -> bool:
        """Tell whether a new access token may help: once, and nothing was done by a call without a valid one."""
        if error.code != "UNAUTHENTICATED" or self._renewed:
            return False
        self._renewed = True
        return True

    def pause_s(self, error: CallError, *, nothing_was_sent: bool = False) -> float:
        """Return how long to wait before the next attempt; raise `error` if there is to be none."""
        self._made += 1
        asked_s = error.retry_after_s if error.code == "RESOURCE_EXHAUSTED" else None
        if self._made >= self._retries.attempts:
            raise error
        if asked_s is not None:
            pause_s = asked_s + self._draw(0.0, _SPREAD_S)
        elif error.code == "UNAVAILABLE" and (self._is_repeatable or nothing_was_sent):
            bound_s = min(self._retries.most_s, self._retries.first_s * 2 ** (self._made - 1))
            pause_s = max(error.retry_after_s or 0.0, self._draw(0.0, bound_s))
        else:
            raise error
        if pause_s >= self._until - self._now():
            raise error
        return pause_s
