"""Keyframes: rated by components, chosen by quality, and some of them by chance alone."""

from dataclasses import replace
from typing import Any

import pytest

from services.liveness.attempt import Progress, random_keyframe
from services.liveness.gestures import Baseline
from services.liveness.observation import Box, Face, Observation
from services.liveness.prompts import Prompt
from services.liveness.quality import Quality, quality_of
from tests.liveness.faces import NEUTRAL, NOBODY, POLICY, SEVERAL, clip, doing

BASELINE = Baseline(yaw=2.0, pitch=-3.0, smile=0.1, eyes=0.3, mouth=0.02)
ASKING = replace(Progress(), index=1, baseline=BASELINE)


def traced(**traces: Any) -> Face:
    return replace(NEUTRAL, traces=replace(NEUTRAL.traces, **traces))


def test_neutral_face_is_good_in_every_component() -> None:
    assert quality_of(NEUTRAL, BASELINE) == Quality(100, 100, 100, 100, 100, 100)


@pytest.mark.parametrize(
    ("component", "face"),
    [
        ("pose", replace(NEUTRAL, yaw=40.0)),
        ("pose", replace(NEUTRAL, pitch=37.0)),
        ("eyes", replace(NEUTRAL, eyes=0.1)),
        ("sharpness", traced(sharp=2.0)),
        ("light", replace(NEUTRAL, luma=50.0)),
        ("light", replace(NEUTRAL, luma=225.0)),
        ("contrast", traced(contrast=8.0)),
        ("size", replace(NEUTRAL, box=Box(0.4, 0.4, 0.1, 0.15))),
    ],
)
def test_one_bad_component_makes_a_bad_keyframe(component: str, face: Face) -> None:
    rated = quality_of(face, BASELINE)
    assert getattr(rated, component) < 50
    assert not rated.is_good
    assert rated.together < quality_of(NEUTRAL, BASELINE).together / 2


def test_chance_chooses_the_moment_and_the_frame() -> None:
    batch = clip([NEUTRAL] * 6)
    asked: list[int] = []

    def pick(count: int) -> int:
        asked.append(count)
        return 0 if len(asked) == 1 else 4

    assert random_keyframe(ASKING, POLICY, batch, pick) == 4
    assert asked == [POLICY.random_keyframe_batches, 6]
    assert random_keyframe(ASKING, POLICY, batch, lambda count: count - 1) is None


def test_last_batch_gives_one_when_chance_gave_none_before() -> None:
    last = replace(ASKING, index=POLICY.length + 1)
    assert random_keyframe(last, POLICY, clip([NEUTRAL] * 3), lambda count: count - 1) == 2
    had_one = replace(last, random_keyframes=1)
    assert random_keyframe(had_one, POLICY, clip([NEUTRAL] * 3), lambda count: count - 1) is None


@pytest.mark.parametrize(
    "progress",
    [replace(ASKING, random_keyframes=POLICY.random_keyframes), Progress()],
    ids=["enough already", "before the neutral face is known"],
)
def test_no_more_are_kept_than_facematch_takes_and_none_too_early(progress: Progress) -> None:
    assert random_keyframe(progress, POLICY, clip([NEUTRAL] * 6), lambda _: 0) is None


def test_frame_that_cannot_be_matched_is_not_chosen() -> None:
    unusable: list[Face | Observation] = [
        NOBODY,
        SEVERAL,
        doing(Prompt.BLINK),
        replace(NEUTRAL, yaw=50.0),
        replace(NEUTRAL, luma=10.0),
    ]
    assert random_keyframe(ASKING, POLICY, clip(unusable), lambda _: 0) is None
    assert random_keyframe(ASKING, POLICY, clip([*unusable, NEUTRAL]), lambda _: 0) == len(unusable)
