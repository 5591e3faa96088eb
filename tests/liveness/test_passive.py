"""The clip's passive decision: each signal sees what it is for, and a policy says which of them refuse."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.liveness import passive
from services.liveness.observation import Face, Observation
from services.liveness.passive import Gathered, Rules, Signal, gather, judge, scores
from services.liveness.traces import SHAPE_POINTS, SKIN_PX, VIEW_POINTS
from tests.liveness.faces import NEUTRAL, breathing

RULES = Rules(min_frames=6, min_ppm=900_000, thresholds_ppm=dict.fromkeys(Signal, 900_000) | {Signal.SCENE: 500_000})
# A head's points: on an ellipsoid, deeper to the sides.
HEAD = [(0.4 * math.cos(n), 0.5 * math.sin(2.3 * n), 0.35 * math.cos(1.7 * n) ** 2) for n in range(len(VIEW_POINTS))]


def turned(yaw_deg: float, points: Sequence[tuple[float, float, float]] = HEAD) -> Face:
    """A solid head seen from afar, turned about the upright axis."""
    yaw = math.radians(yaw_deg)
    seen = [(x * math.cos(yaw) + z * math.sin(yaw), y, z * math.cos(yaw) - x * math.sin(yaw)) for x, y, z in points]
    return changed(replace(NEUTRAL, yaw=yaw_deg), view=tuple(value for point in seen for value in point))


def changed(face: Face, **traces: Any) -> Face:
    return replace(face, traces=replace(face.traces, **traces))


def frames(faces: Sequence[Face], from_ms: int, every_ms: int = 100) -> list[tuple[int, Observation]]:
    return [(from_ms + number * every_ms, Observation(1, face)) for number, face in enumerate(faces)]


def clip(faces: Sequence[Face], every_ms: int = 100) -> Gathered:
    return gather(Gathered(), frames(faces, 0, every_ms))


def person(count: int = 30) -> list[Face]:
    """Somebody alive: turns her head, blinks, and is never twice in one place."""
    turning = [replace(turned(0.7 * number - 10), mouth=0.02 + number / 1000) for number in range(count)]
    faces = [changed(breathing(face, number), view=face.traces.view) for number, face in enumerate(turning)]
    return [replace(face, eyes=0.05) if number == 12 else face for number, face in enumerate(faces)]


def test_living_person_passes_with_every_signal_measured() -> None:
    verdict = judge(clip(person()), RULES)
    assert (verdict.passed, verdict.failed) == (True, ())
    assert set(verdict.signals_ppm) == set(Signal)
    assert verdict.score_ppm > 950_000


ATTACKS: dict[Signal, list[Face]] = {
    Signal.MODEL_A: [replace(face, live=0.2) for face in person()],
    Signal.MODEL_B: [changed(face, spoof=1.0 if n % 3 == 0 else 0.0) for n, face in enumerate(person())],
    Signal.GRID: [changed(face, grid=12.0) for face in person()],
    Signal.FRAMED: [changed(face, framed=1.1 if n % 3 else 0.0) for n, face in enumerate(person())],
    # Landmarks tremble on a photo, by less than a face's shape changes.
    Signal.EXPRESSION: [
        changed(face, shape=tuple(0.003 * math.sin(7 * n + i) for i in range(2 * len(SHAPE_POINTS))))
        for n, face in enumerate(person())
    ],
    # What is warped keeps its skin.
    Signal.SKIN: [changed(face, skin=tuple(100 + 9 * (i % 7) for i in range(SKIN_PX**2))) for face in person()],
    Signal.FROZEN: [*person(10), *[person()[10]] * 20],
    Signal.REPEATED: person(8) * 4,
    Signal.SCENE: [*person(15), *(changed(face, tone=(20.0, 10.0, 90.0)) for face in person()[15:])],
    Signal.BLINK: [replace(face, eyes=0.3) for face in person()],
    # A picture turned about the upright axis: narrower, and nothing leaves the plane.
    Signal.RELIEF: [
        replace(turned(0.0), yaw=float(n), mouth=n / 1000, traces=changed(
            NEUTRAL, view=tuple(v for x, y, z in HEAD for v in (x * math.cos(math.radians(n)), y, z))
        ).traces)
        for n in range(20)
    ],
}  # fmt: skip


@pytest.mark.parametrize("signal", ATTACKS)
def test_each_signal_alone_refuses_what_it_is_for(signal: Signal) -> None:
    assert signal in judge(clip(ATTACKS[signal]), RULES).failed
    alone = replace(RULES, thresholds_ppm={signal: 900_000})
    assert not judge(clip(ATTACKS[signal]), alone).passed
    assert judge(clip(person()), alone).passed


def test_two_doubts_that_would_each_be_let_pass_refuse_together() -> None:
    rules = Rules(6, 900_000, dict.fromkeys([Signal.MODEL_A, Signal.MODEL_B, Signal.EDGES], 900_000))
    doubted = [replace(face, live=0.93) for face in person()]
    framed = [changed(face, sides=1.3) for face in person()]
    both = [changed(face, sides=1.3) for face in doubted]
    assert [judge(clip(faces), rules).passed for faces in (doubted, framed, both)] == [True, True, False]


def test_signal_that_decides_nothing_is_stated() -> None:
    rules = Rules(6, 900_000, {Signal.MODEL_A: 900_000})
    verdict = judge(clip(ATTACKS[Signal.GRID]), rules)
    assert verdict.passed
    assert verdict.signals_ppm[Signal.GRID] < 900_000


@pytest.mark.parametrize(
    "unasked", [{"live": None}, {"traces": replace(NEUTRAL.traces, spoof=None)}], ids=["model A", "model B"]
)
def test_clip_that_a_model_was_not_asked_about_does_not_pass(unasked: dict[str, Any]) -> None:
    verdict = judge(clip([replace(breathing(NEUTRAL, n), **unasked) for n in range(20)]), RULES)
    assert (verdict.passed, verdict.score_ppm) == (False, 0)


def noisy(face: Face, number: int, grey_levels: float) -> Face:
    """The same picture, as a sensor takes it again: white noise, the same in no two frames."""
    rng = random.Random(number)
    layout = tuple(value + rng.gauss(0, grey_levels) for value in face.traces.layout)
    return changed(replace(face, eyes=face.eyes + rng.uniform(-0.01, 0.01)), layout=layout)


def test_a_frozen_picture_is_seen_through_noise_that_is_laid_over_it() -> None:
    frozen = [*person(10), *(noisy(person()[10], number, 0.015) for number in range(20))]
    assert scores(clip(frozen))[Signal.FROZEN] == 0.0


def test_who_holds_still_for_half_a_second_is_not_frozen() -> None:
    still = [*person(10), *[person()[10]] * 6, *person(30)[16:]]
    assert scores(clip(still))[Signal.FROZEN] == 1.0


def test_who_looks_the_same_before_and_after_a_pause_of_the_connection_is_not_frozen() -> None:
    face = person()[10]
    before, after = Observation(1, face), Observation(1, noisy(face, 0, 0.005))
    paused = gather(gather(clip(person(10)), [(1000, before), (4700, after)]), frames(person(30)[11:], 4800))
    assert scores(paused)[Signal.FROZEN] == 1.0


def test_a_frozen_picture_sent_at_the_slowest_rate_that_is_taken_is_frozen() -> None:
    frozen = [*person(10), *(noisy(person()[10], number, 0.015) for number in range(5))]
    assert scores(clip(frozen, every_ms=500))[Signal.FROZEN] == 0.0


def test_who_drifts_slowly_is_not_frozen_because_motion_adds_up_and_noise_does_not() -> None:
    face = person()[10]
    drifting = [changed(face, layout=(0.005 * number, *face.traces.layout[1:])) for number in range(20)]
    assert scores(clip([*person(10), *drifting]))[Signal.FROZEN] == 1.0


def test_a_loop_is_seen_through_noise_that_is_laid_over_it() -> None:
    looped = [noisy(face, number, 0.015) for number, face in enumerate(person(8) * 4)]
    assert scores(clip(looped))[Signal.REPEATED] == 0.0


def test_who_comes_back_near_to_where_they_were_does_not_repeat() -> None:
    near = [noisy(face, number, 0.1) for number, face in enumerate(person(8) * 4)]
    assert scores(clip(near))[Signal.REPEATED] == 1.0


def test_recording_of_an_earlier_attempt_is_known_though_it_was_compressed_anew() -> None:
    earlier = passive.fingerprint(clip(person()))
    again = clip([noisy(face, number, 0.015) for number, face in enumerate(person())])
    rules = Rules(6, 900_000, {Signal.SEEN_BEFORE: 900_000})
    assert scores(again, [earlier])[Signal.SEEN_BEFORE] == 0.0
    assert judge(again, rules, [(), earlier]).failed == (Signal.SEEN_BEFORE,)
    assert judge(again, rules).passed


def test_person_who_comes_again_is_not_taken_for_a_recording() -> None:
    earlier = passive.fingerprint(clip(person()))
    again = clip([noisy(face, number, 0.3) for number, face in enumerate(person())])
    assert scores(again, [earlier])[Signal.SEEN_BEFORE] == 1.0


@pytest.mark.parametrize("frames", [0, 3, 300])
def test_fingerprint_is_a_few_frames_spread_over_the_attempt(frames: int) -> None:
    gathered = clip(person(frames))
    made = passive.fingerprint(gathered)
    assert len(made) == min(frames, 16)
    assert set(made) <= {mark for _, mark in gathered.marks}


def test_skin_of_a_face_that_does_nothing_says_nothing() -> None:
    """A photo's skin does not change either: EXPRESSION refuses it, and a still person is not called a warped one."""
    still = [changed(face, shape=NEUTRAL.traces.shape, skin=NEUTRAL.traces.skin) for face in person()]
    measured = scores(clip(still))
    assert (measured[Signal.EXPRESSION], measured[Signal.SKIN]) == (0.0, 1.0)


def test_a_few_frames_say_nothing_of_expression_and_refuse() -> None:
    few = clip(person(11))
    assert not {Signal.EXPRESSION, Signal.SKIN} & set(scores(few))
    assert Signal.EXPRESSION in judge(few, RULES).failed


def test_the_most_different_looks_are_remembered_however_long_the_rest_is() -> None:
    smile = breathing(NEUTRAL, 1)
    (of_smile,) = clip([smile]).looks
    long_rest = [changed(face, shape=NEUTRAL.traces.shape) for face in person(300)]
    gathered = clip([*long_rest[:150], smile, *long_rest[150:]])
    assert len(gathered.looks) == 12
    assert of_smile in gathered.looks


def test_head_that_does_not_turn_has_no_relief() -> None:
    measured = scores(clip([breathing(NEUTRAL, number) for number in range(20)]))
    assert not {Signal.RELIEF, Signal.DEPTH} & set(measured)


def test_nothing_was_seen_nothing_is_scored() -> None:
    assert judge(gather(Gathered(), [(0, Observation(0, None))]), RULES) == passive.Verdict(
        False, 0, {}, tuple(RULES.thresholds_ppm)
    )


def test_scene_that_changes_while_nobody_looks_is_no_cut() -> None:
    """A device waits for an answer between batches; light may change meanwhile."""
    apart = clip(ATTACKS[Signal.SCENE], every_ms=1000)
    assert Signal.SCENE not in scores(apart)


def test_batches_of_any_size_are_one_clip() -> None:
    frames = [(100 * number, Observation(1, face)) for number, face in enumerate(person())]
    gathered = Gathered()
    for start in range(0, len(frames), 7):
        gathered = gather(gathered, frames[start : start + 7])
    assert gathered == gather(Gathered(), frames)


def test_model_b_is_due_once_in_so_many_faces() -> None:
    unasked = [changed(face, spoof=None) for face in person(30)]
    assert passive.spoof_is_due(Gathered(), 24)
    assert not passive.spoof_is_due(clip([*person(1), *unasked[:22]]), 24)
    assert passive.spoof_is_due(clip([*person(1), *unasked[:23]]), 24)
