"""Every unwrapping of a subject key has its reason: an intent that was stored, or a key that is being made.

The token counts what it unwraps, in `mesh.hsm`; the domain counts what it had a reason for. A difference means that
something in this process used the token without an intent (or that the token did not do what it said): an alarm, at
level error, each time it is looked at. Each process counts its own: whoever has
token and PIN elsewhere is not seen here, but in the device's own log.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mesh import metrics, telemetry


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start: what the token unwrapped, what there was a reason for, what of that may not have happened."""

    unwraps: int
    reasons: int
    unsure: int

    @property
    def unexplained(self) -> int:
        """By how much the token unwrapped more than there was a reason for, or, negative, less than it confirmed."""
        return max(self.unwraps - self.reasons, 0) + min(self.unwraps - self.reasons + self.unsure, 0)

    @property
    def differ(self) -> bool:
        """Whether the token unwrapped more than there was a reason for, or less than it confirmed."""
        return self.unexplained != 0


class Unwraps:
    """Compares the token's count with the domain's."""

    def __init__(self, of_the_token: Callable[[], int]) -> None:
        self._of_the_token = of_the_token
        self._before = of_the_token()
        self._reasons = 0
        self._unsure = 0
        self._going_on = 0

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Around one call of the token that unwraps one key."""
        self._reasons += 1
        self._going_on += 1
        try:
            yield
        except BaseException:
            # Refused, timed out, cancelled: nobody knows how far the token came.
            self._unsure += 1
            raise
        finally:
            self._going_on -= 1

    def counts(self) -> Counts:
        """Return the counts now; calls that go on are unsure."""
        return Counts(self._of_the_token() - self._before, self._reasons, self._unsure + self._going_on)

    def check(self) -> bool:
        """Tell whether all is well, and raise the alarm when it is not."""
        found = self.counts()
        metrics.KEY_UNWRAPS_UNEXPLAINED.set(found.unexplained)
        if found.differ:
            telemetry.logger().error("unwraps differ from intents", count=abs(found.unwraps - found.reasons))
        return not found.differ
