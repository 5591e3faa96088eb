"""The clip's passive decision: each signal sees what it is for, and a policy says which of them refuse."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.liveness import passive
from services.liveness.observation import Face, Observation
from services.liveness.passive import Gathered, Rules, Signal, gather, judge, scores
from services.liveness.traces import VIEW_POINTS
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


def clip(faces: Sequence[Face], every_ms: int = 100) -> Gathered:
    return gather(Gathered(), [(number * every_ms, Observation(1, face)) for number, face in enumerate(faces)])


def person(count: int = 30) -> list[Face]:
    """Somebody alive: turns her head, blinks, and is never twice in one place."""
    faces = [replace(turned(0.7 * number - 10), mouth=0.02 + number / 1000) for number in range(count)]
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
