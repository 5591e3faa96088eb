"""Is it a picture, a screen or a film? Judged over a clip from what the worker measured on its frames. Pure.

`gather` takes frames in, in batches of any size; `judge` scores what was gathered. Every signal has a score from 0 to
1, of which 1 is what a live person gives, and is absent when the clip does not allow it to be measured. A policy says
which signals decide. The decided clip's score is the product of the deciding signals' scores, so that two doubts that
would each be let pass refuse together; a signal below its own threshold refuses alone.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from services.liveness.observation import Face, Observation
from services.liveness.traces import VIEW_POINTS, Traces

_PPM = 1_000_000
_KEPT = 512
# Of the spectrum's highest peak (pixels.grid): up to the first, a face; from the second, certainly a grid.
_GRID = (5.0, 15.0)
# Of the third longest edge (pixels.sides): from the first on it begins to count, and at the second counts fully. It
# costs little at most: people do sit before doors and windows.
_SIDES = (0.5, 1.0)
_SIDES_COST = 0.05
# Two views must differ by this much in pose before flat and solid can be told apart.
_TURNED_DEG = 8.0
# A solid head's points leave the plane by this much of the turn's sine, in face widths: its depth's deviation.
_SOLID = 0.5
_BLINK = 0.5
# Two frames are the same picture when no number of `_mark` differs by more.
_SAME = 0.0004
# Colour around the face that changes from frame to frame: up to the first, motion; from the second, another scene.
_TONE_JUMP = (8.0, 24.0)
# Of the frames seen before: up to the first share, a person who holds still; from the second, a loop.
_LOOP = (0.3, 0.7)
_PAIR_WITHIN_MS = 400
_MIN_PAIRS = 10


class Signal(StrEnum):
    """What is scored.

    MODEL_A: median of model A's probability that the face is live. MODEL_B: one less the mean of model B's score, a
    mean because it knows a screen in some frames only. Both were trained on data that is not documented, and miss
    pictures that fill the frame.
    GRID: 1 for the spectrum of a face, 0 for that of a screen's grid, by the median frame (pixels.grid).
    EDGES: 1 without, 0.95 with three straight edges around the face, by the median frame (pixels.sides).
    RELIEF: how far the face's points leave what a plane's motion explains, between its two most different poses, over
    what a solid head's do; 0 for a flat picture, however it is tilted. Absent when the head turns by less than 8
    degrees. Fails: landmarks are fitted with a model of a solid head, so that a picture's may leave the plane too; a
    film of a turning head is as solid as the head.
    DEPTH: the share of that departure which the landmarks' own depth explains. Fails as RELIEF does.
    BLINK: how far the eyes close beyond their median opening, 1 for half way. Fails: a film blinks, and people may not
    for ten seconds.
    FROZEN: the share of successive frames that differ: sensor noise and breath never leave a face's landmarks in place.
    Fails: a moved or noisy still.
    REPEATED: 1 while at most 0.3 of the frames were seen before in the clip, the one before apart, 0 from 0.7: films
    that loop return, a living face does not. Fails: a loop longer than the clip.
    SCENE: 1 while the colour around the face changes by at most 8 grey levels from frame to frame, 0 from 24: a cut
    from one recording to another. Fails: cuts within one scene; takes a light that is switched for a cut.
    """

    MODEL_A = "MODEL_A"
    MODEL_B = "MODEL_B"
    GRID = "GRID"
    EDGES = "EDGES"
    RELIEF = "RELIEF"
    DEPTH = "DEPTH"
    BLINK = "BLINK"
    FROZEN = "FROZEN"
    REPEATED = "REPEATED"
    SCENE = "SCENE"


@dataclass(frozen=True, slots=True)
class View:
    """A face's solid points at a pose in degrees; `points` as traces.Traces has them."""

    yaw: float
    pitch: float
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is remembered of a clip: numbers. `views` are the first pose and the extreme ones; `marks` are of all
    frames.

    `last` is the time (milliseconds) and the colour around the face of the frame before.
    """

    live: tuple[float, ...] = ()
    spoof: tuple[float, ...] = ()
    grid: tuple[float, ...] = ()
    sides: tuple[float, ...] = ()
    views: tuple[View, ...] = ()
    eyes: tuple[float, ...] = ()
    marks: tuple[tuple[float, ...], ...] = ()
    last: tuple[int, tuple[float, ...]] | None = None
    tone_jump: float = 0.0
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy asks of a clip: millionths. `thresholds_ppm` names the signals that decide, and the least of each.

    `min_frames` is how many frames model A must have been asked about, `min_ppm` the least product.
    """

    min_frames: int
    min_ppm: int
    thresholds_ppm: Mapping[Signal, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The clip's score, and each signal's that could be measured; millionths. `failed` are those that refuse it."""

    passed: bool
    score_ppm: int
    signals_ppm: Mapping[Signal, int]
    failed: tuple[Signal, ...]


def gather(gathered: Gathered, frames: Iterable[tuple[int, Observation]]) -> Gathered:
    """Take in frames, each with its time in milliseconds; those without exactly one face say nothing."""
    for time_ms, observation in frames:
        if observation.face is not None:
            gathered = _with(gathered, time_ms, observation.face)
    return gathered


def spoof_is_due(gathered: Gathered, every_frames: int) -> bool:
    """Whether model B, which takes ten times as long as all else, is asked again: once in so many faces."""
    return len(gathered.spoof) * every_frames <= len(gathered.marks)


def from_json(value: Mapping[str, Any]) -> Gathered:
    """What `dataclasses.asdict` and JSON made of it."""
    views = tuple(View(view["yaw"], view["pitch"], tuple(view["points"])) for view in value["views"])
    last = None if value["last"] is None else (value["last"][0], tuple(value["last"][1]))
    marks = tuple(tuple(mark) for mark in value["marks"])
    lists = {name: tuple(value[name]) for name in ("live", "spoof", "grid", "sides", "eyes")}
    return Gathered(**lists, views=views, marks=marks, last=last, tone_jump=value["tone_jump"], pairs=value["pairs"])


def scores(gathered: Gathered) -> Mapping[Signal, float]:
    """Return every signal that the clip allows to be measured, 0 to 1."""
    measured = {signal: score(gathered) for signal, score in _SCORES.items()}
    return {signal: min(max(score, 0.0), 1.0) for signal, score in measured.items() if score is not None}


def judge(gathered: Gathered, rules: Rules) -> Verdict:
    """Judge a clip. A deciding signal that cannot be measured refuses: nobody gets by with frames too small or too
    rare.

    So do too few frames that model A was asked about, and none that model B was.
    """
    measured = scores(gathered)
    signals_ppm = {signal: round(score * _PPM) for signal, score in measured.items()}
    failed = tuple(signal for signal, least in rules.thresholds_ppm.items() if signals_ppm.get(signal, 0) < least)
    product = math.prod(measured.get(signal, 0.0) for signal in rules.thresholds_ppm)
    enough = len(gathered.live) >= rules.min_frames and bool(gathered.spoof)
    score_ppm = round(product * _PPM) if enough else 0
    return Verdict(enough and not failed and score_ppm >= rules.min_ppm, score_ppm, signals_ppm, failed)


def _with(gathered: Gathered, time_ms: int, face: Face) -> Gathered:
    traces = face.traces
    near = gathered.last is not None and time_ms - gathered.last[0] <= _PAIR_WITHIN_MS
    jump = (
        max(abs(a - b) for a, b in zip(gathered.last[1], traces.tone, strict=True)) if near and gathered.last else 0.0
    )
    return replace(
        gathered,
        live=_kept(gathered.live, face.live),
        spoof=_kept(gathered.spoof, traces.spoof),
        grid=_kept(gathered.grid, traces.grid),
        sides=_kept(gathered.sides, traces.sides),
        views=_views(gathered.views, View(face.yaw, face.pitch, traces.view)),
        eyes=_kept(gathered.eyes, round(face.eyes, 3)),
        marks=(*gathered.marks, _mark(face, traces))[-_KEPT:],
        last=(time_ms, traces.tone),
        tone_jump=max(gathered.tone_jump, jump),
        pairs=gathered.pairs + int(near),
    )


def _kept(values: tuple[float, ...], value: float | None) -> tuple[float, ...]:
    return values if value is None else (*values, value)[-_KEPT:]


def _mark(face: Face, traces: Traces) -> tuple[float, ...]:
    """What tells one frame from another: where the face is and how it stands, six numbers of the order of one."""
    values = (face.box.left, face.box.top, face.eyes, face.mouth, *traces.view[:2])
    return tuple(round(value, 5) for value in values)


def _views(views: tuple[View, ...], view: View) -> tuple[View, ...]:
    """The first view, and those with the least and the most yaw and pitch."""
    if not views:
        return (view,) * 5
    first, left, right, up, down = views
    return (
        first,
        view if view.yaw < left.yaw else left,
        view if view.yaw > right.yaw else right,
        view if view.pitch < up.pitch else up,
        view if view.pitch > down.pitch else down,
    )


def _model_b(gathered: Gathered) -> float | None:
    return 1 - fmean(gathered.spoof) if gathered.spoof else None


def _model_a(gathered: Gathered) -> float | None:
    return median(gathered.live) if gathered.live else None


def _grid(gathered: Gathered) -> float | None:
    return 1 - _along(median(gathered.grid), *_GRID) if gathered.grid else None


def _edges(gathered: Gathered) -> float | None:
    return 1 - _SIDES_COST * _along(median(gathered.sides), *_SIDES) if gathered.sides else None


def _relief(gathered: Gathered) -> float | None:
    pair = _turned_pair(gathered)
    if pair is None:
        return None
    one, other = (_points(view) for view in pair)
    deviation = float(np.std(one[:, 2]))
    turn = np.sin(np.radians(_apart_deg(*pair)))
    return float(_departure(one[:, :2], other[:, :2]) / max(_SOLID * deviation * turn, 1e-6))


def _depth(gathered: Gathered) -> float | None:
    pair = _turned_pair(gathered)
    if pair is None:
        return None
    one, other = (_points(view) for view in pair)
    flat = _departure(one[:, :2], other[:, :2])
    return 1 - (_departure(one, other[:, :2]) / max(flat, 1e-6)) ** 2


def _blink(gathered: Gathered) -> float | None:
    if len(gathered.eyes) < _MIN_PAIRS:
        return None
    return (1 - min(gathered.eyes) / max(median(gathered.eyes), 1e-6)) / _BLINK


def _frozen(gathered: Gathered) -> float | None:
    if len(gathered.marks) <= _MIN_PAIRS:
        return None
    return fmean(not _same(one, other) for one, other in pairwise(gathered.marks))


def _repeated(gathered: Gathered) -> float | None:
    marks = gathered.marks
    if len(marks) <= _MIN_PAIRS:
        return None
    seen = np.array(marks)
    apart = np.abs(seen[:, None] - seen[None]).max(axis=2)
    back = np.tril(apart <= _SAME, -2).any(axis=1)
    return 1 - _along(float(back.mean()), *_LOOP)


def _scene(gathered: Gathered) -> float | None:
    return 1 - _along(gathered.tone_jump, *_TONE_JUMP) if gathered.pairs >= _MIN_PAIRS else None


_SCORES: Mapping[Signal, Callable[[Gathered], float | None]] = {
    Signal.MODEL_A: _model_a,
    Signal.MODEL_B: _model_b,
    Signal.GRID: _grid,
    Signal.EDGES: _edges,
    Signal.RELIEF: _relief,
    Signal.DEPTH: _depth,
    Signal.BLINK: _blink,
    Signal.FROZEN: _frozen,
    Signal.REPEATED: _repeated,
    Signal.SCENE: _scene,
}


def _along(value: float, first: float, last: float) -> float:
    """Where a value is from the first (0) to the last (1), within both."""
    return min(max((value - first) / (last - first), 0.0), 1.0)


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) <= _SAME for a, b in zip(one, other, strict=True))


def _turned_pair(gathered: Gathered) -> tuple[View, View] | None:
    """The two most different poses, when they differ enough."""
    pairs = [(one, other) for index, one in enumerate(gathered.views) for other in gathered.views[index + 1 :]]
    if not pairs:
        return None
    best = max(pairs, key=lambda pair: _apart_deg(*pair))
    return best if _apart_deg(*best) >= _TURNED_DEG else None


def _apart_deg(one: View, other: View) -> float:
    return float(np.hypot(one.yaw - other.yaw, one.pitch - other.pitch))


def _points(view: View) -> npt.NDArray[np.float64]:
    return np.array(view.points).reshape(len(VIEW_POINTS), 3)


def _departure(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Root mean square distance of `other` (n x 2) from the best affine image of `one` (n x 2 or 3).

    An affine map, since a homography's two other degrees of freedom hide a head's relief at arm's length.
    """
    terms = np.hstack([one, np.ones((len(one), 1))])
    image = terms @ np.linalg.lstsq(terms, other, rcond=None)[0]
    return float(np.sqrt(((image - other) ** 2).sum(axis=1).mean()))
