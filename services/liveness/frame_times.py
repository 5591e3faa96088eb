"""Which capture times a camera can have. The server's clock rules: a device's times are judged by it, never trusted.

What cannot be told apart from an honest camera is not refused here: one with a clock of its own may be as regular as a
recording. How regular it is becomes a number beside the other signs of injection.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.liveness.errors import FlashStartError, FrameTimesError

_MIN_STEP_MS = 5
# The fastest cameras of phones take 120 frames a second, and nobody needs all of them here: less than 8 ms from one
# frame to the next is a burst, or a script. Slower than two a second, a gesture falls between two frames.
_MIN_USUAL_STEP_MS = 8
_USUAL_STEPS = 12
_MAX_USUAL_STEP_MS = 500
# Batches travel for different times; a device's clock may seem so far ahead of its first batch's, or behind its best.
_MAX_AHEAD_MS = 3000
_MAX_LATE_MS = 5000
# So many steps in a row that hold at least so much entropy do not come twice by chance: with all steps remembered, once
# in 100,000 attempts. They come again when a recording is played again with its frames' times. Steps that hold less,
# such as those of a camera with a regular clock whose frames pause for an answer now and then, prove nothing.
_LOOP_STEPS = 16
_LOOP_BITS = 32
_REMEMBERED_STEPS = 240


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """What is known of a device's clock: milliseconds of its own, since its first frame.

    `delay_ms` are the first and the least difference of server time and device time seen. `steps_ms` are the times from
    one frame to the next, the last ones.
    """

    last_ms: int | None = None
    delay_ms: tuple[int, int] | None = None
    steps_ms: tuple[int, ...] = ()


def check(clock: DeviceClock, captured_at_ms: Sequence[int], *, now_ms: int, shown_at_ms: int) -> DeviceClock:
    """Return the clock with a batch's times taken in. `now_ms` and `shown_at_ms` (of the prompt) are server time.

    Raises FrameTimesError, which names the frame, for times that no camera has: not in order or twice the same, too
    fast or too slow, ahead of the server's clock or long behind it, older than the prompt, or a loop.
    """
    known = () if clock.last_ms is None else (clock.last_ms,)
    steps_ms = [later - earlier for earlier, later in pairwise((*known, *captured_at_ms))]
    last = len(captured_at_ms) - 1
    first_step = last - len(steps_ms) + 1  # the frame that the first step leads to

    # 1. In order, none twice.
    for index, step_ms in enumerate(steps_ms, first_step):
        if step_ms < _MIN_STEP_MS:
            raise FrameTimesError(index, f"must be at least {_MIN_STEP_MS} ms after the frame before it")

    # 2. As fast as cameras are.
    remembered = (*clock.steps_ms, *steps_ms)
    usual = remembered[-_USUAL_STEPS:]
    if len(usual) == _USUAL_STEPS and sum(usual) < _MIN_USUAL_STEP_MS * _USUAL_STEPS:
        raise FrameTimesError(last, f"must be {_MIN_USUAL_STEP_MS} ms apart on average")
    if last > 1 and captured_at_ms[-1] - captured_at_ms[0] > _MAX_USUAL_STEP_MS * last:
        raise FrameTimesError(last, f"must be at most {_MAX_USUAL_STEP_MS} ms apart on average")

    # 3. Of now: neither ahead of the server's clock nor of long ago.
    delay_ms = now_ms - captured_at_ms[-1]
    first_ms, least_ms = clock.delay_ms or (max(delay_ms, 0), delay_ms)
    if delay_ms < first_ms - _MAX_AHEAD_MS:
        raise FrameTimesError(last, "must not run ahead of the clock")
    if delay_ms > least_ms + _MAX_LATE_MS:
        raise FrameTimesError(last, "must not be of long ago")

    # 4. Taken after the prompt was given. No batch travels in less than the least delay seen, so what was taken since
    #    does not fall before it.
    least_ms = min(least_ms, delay_ms)
    if captured_at_ms[0] + least_ms < shown_at_ms:
        raise FrameTimesError(0, "must not be older than the prompt")

    # 5. Not the times of frames that were sent before, over again.
    remembered = remembered[-_REMEMBERED_STEPS:]
    for index in range(len(steps_ms)):
        if _repeats(remembered[: len(remembered) - index]):
            raise FrameTimesError(last - index, "must not repeat the times of earlier frames")
    return DeviceClock(captured_at_ms[-1], (first_ms, least_ms), remembered)


def check_start(
    clock: DeviceClock, started_at_ms: int, said_before_ms: int | None, *, shown_at_ms: int, within_ms: int
) -> None:
    """Check the device's time of the first colour, after `check` has taken in the frames that came with it.

    Raises FlashStartError when none is said or another than before, for one before the colours were given at
    `shown_at_ms` of server time, and for one later than `within_ms` after that.
    """
    if not started_at_ms:
        raise FlashStartError("must say when the first colour was shown")
    if said_before_ms not in {None, started_at_ms}:
        raise FlashStartError("must stay as it was said with the first frames")
    # As in rule 4 above: nothing travels in less than the least delay.
    at_latest_ms = started_at_ms + (clock.delay_ms[1] if clock.delay_ms else 0)
    if at_latest_ms < shown_at_ms:
        raise FlashStartError("must not be before the colours were given")
    if at_latest_ms > shown_at_ms + within_ms:
        raise FlashStartError(f"must be within {within_ms} ms of when the colours were given")


def entropy_bits(steps_ms: Sequence[int]) -> float:
    """Return Shannon's entropy of the steps, as often as each length is among them, times their number."""
    return sum(math.log2(len(steps_ms) / seen) * seen for seen in Counter(steps_ms).values())


def _repeats(steps_ms: Sequence[int]) -> bool:
    latest = steps_ms[-_LOOP_STEPS:]
    if len(latest) < _LOOP_STEPS or entropy_bits(latest) < _LOOP_BITS:
        return False
    return any(steps_ms[end - _LOOP_STEPS : end] == latest for end in range(_LOOP_STEPS, len(steps_ms)))
