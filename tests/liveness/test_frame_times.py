"""Which capture times a camera can have: a table of refusals, and honest cameras that none of them meets."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.liveness.errors import FrameTimesError
from services.liveness.frame_times import DeviceClock, check, entropy_bits

NEW = DeviceClock()
RUNNING = DeviceClock(last_ms=500, delay_ms=(400, 400), steps_ms=(100,) * 5)


def test_times_of_a_camera_are_taken_in() -> None:
    clock = check(NEW, [0, 100, 200], now_ms=450, shown_at_ms=0)
    assert clock == DeviceClock(200, (250, 250), (100, 100))
    clock = check(clock, [300, 400], now_ms=640, shown_at_ms=450)
    assert clock == DeviceClock(400, (250, 240), (100, 100, 100, 100))


@pytest.mark.parametrize(
    ("times_ms", "now_ms", "shown_at_ms", "wrong", "rule"),
    [
        ([600, 600], 1100, 0, 1, "after the frame before"),
        ([600, 700, 650], 1100, 0, 2, "after the frame before"),
        ([600, 603], 1100, 0, 1, "after the frame before"),
        ([500, 600], 1100, 0, 0, "after the frame before"),  # the last frame again
        ([100, 200], 1100, 0, 0, "after the frame before"),  # an earlier batch again
        ([507 + 7 * n for n in range(12)], 1100, 0, 11, "apart on average"),  # 143 frames a second
        ([600, 1200, 1800], 2300, 0, 2, "apart on average"),  # less than two a second
        ([4000], 1000, 0, 0, "ahead of the clock"),
        ([600, 4500], 1000, 0, 1, "ahead of the clock"),
        ([600, 700], 6200, 0, 1, "of long ago"),
        ([600, 700], 1150, 1001, 0, "older than the prompt"),
        ([600, 700, 800], 1100, 1000, 0, "older than the prompt"),  # a faster batch shows that it is
    ],
)
def test_times_that_no_camera_has_are_refused(
    times_ms: list[int], now_ms: int, shown_at_ms: int, wrong: int, rule: str
) -> None:
    with pytest.raises(FrameTimesError) as refusal:
        check(RUNNING, times_ms, now_ms=now_ms, shown_at_ms=shown_at_ms)
    (violation,) = refusal.value.violations
    assert violation.field == f"frames[{wrong}].captured_at_ms"
    assert rule in violation.description


def test_first_frames_may_not_run_ahead_either() -> None:
    with pytest.raises(FrameTimesError):
        check(NEW, [0, 20_000], now_ms=1000, shown_at_ms=0)


def submitted(steps_ms: Sequence[int], batch: int = 6) -> DeviceClock:
    """What frames with these steps leave, sent in batches that take 120 ms."""
    times_ms = [0]
    for step_ms in steps_ms:
        times_ms.append(times_ms[-1] + step_ms)
    clock, shown_at_ms = NEW, 0
    for start in range(0, len(times_ms), batch):
        sent = times_ms[start : start + batch]
        clock = check(clock, sent, now_ms=sent[-1] + 120, shown_at_ms=shown_at_ms)
    return clock


def test_recording_whose_times_come_again_is_refused() -> None:
    loop = [97, 104, 99, 101, 98, 103, 100, 96, 102, 105, 99, 100, 97, 101, 104, 98, 95, 103, 106, 99]
    submitted(loop)
    with pytest.raises(FrameTimesError, match="not plausible") as refusal:
        submitted(loop * 2)
    assert "repeat the times" in refusal.value.violations[0].description


def test_camera_with_a_regular_clock_is_no_loop() -> None:
    for regular in (
        [100] * 100,
        [33, 33, 34] * 40,
        [16, 17, 17] * 40,
        [100, 100, 100, 100, 100, 220, 100, 100, 100, 100, 100, 340] * 9,
    ):
        submitted(regular)


def test_entropy_is_counted_in_bits() -> None:
    assert entropy_bits([100] * 16) == 0
    assert entropy_bits([99, 101] * 8) == 16
    assert entropy_bits([98, 99, 100, 101] * 4) == 32


@given(
    seed=st.integers(0, 2**32),
    every_ms=st.integers(12, 400),
    jitter_ms=st.integers(0, 6),
    transit_ms=st.integers(0, 800),
    transit_jitter_ms=st.integers(0, 1500),
    batch=st.integers(1, 12),
    offset_ms=st.integers(0, 1000),
)
def test_no_honest_camera_is_refused(
    seed: int, every_ms: int, jitter_ms: int, transit_ms: int, transit_jitter_ms: int, batch: int, offset_ms: int
) -> None:
    """It shows what it takes after each answer, over a network that is slow and unsteady."""
    chance = random.Random(seed)
    clock, shown_at_ms, server_ms, first_ms = NEW, 0, offset_ms, offset_ms
    for _ in range(12):
        times_ms = []
        for _ in range(batch):
            server_ms += every_ms + chance.randint(0, jitter_ms)
            times_ms.append(server_ms - first_ms)
        now_ms = server_ms + transit_ms + chance.randint(0, transit_jitter_ms)
        clock = check(clock, times_ms, now_ms=now_ms, shown_at_ms=shown_at_ms)
        shown_at_ms = now_ms
        server_ms = now_ms + chance.randint(0, transit_jitter_ms)


@given(times_ms=st.lists(st.integers(0, 599_999), min_size=1, max_size=12), now_ms=st.integers(0, 600_000))
def test_whatever_is_taken_in_goes_forward(times_ms: list[int], now_ms: int) -> None:
    try:
        clock = check(RUNNING, times_ms, now_ms=now_ms, shown_at_ms=0)
    except FrameTimesError:
        return
    assert times_ms == sorted(set(times_ms))
    assert clock.last_ms == times_ms[-1] > 500
    assert all(step_ms >= 5 for step_ms in clock.steps_ms)
