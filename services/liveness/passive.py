"""Is it a picture, a screen or a film? Judged over a clip from what the worker measured on its frames. Pure.

`gather` takes frames in, in batches of any size; `judge` scores what was gathered. Every signal has a score from 0 to
1, of which 1 is what a live person gives, and is absent when the clip does not allow it to be measured. A policy says
which signals decide. The decided clip's score is the product of the deciding signals' scores, so that two doubts that
would each be let pass refuse together; a signal below its own threshold refuses alone.
"""

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from services.liveness.observation import Face, Observation
from services.liveness.traces import SKIN_PX, VIEW_POINTS

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
# Two frames are the same picture when their layouts (pixels.layout) are no further apart than a sensor's noise and a
# new compression bring them, and neither eyes nor mouth moved more than landmarks tremble on one picture.
_SAME_LAYOUT = 0.12
_SAME_EYES = 0.04
_SAME_MOUTH = 0.015
# Somewhere else is this far away.
_ELSEWHERE = 0.3
# Of the time that the picture stood still, milliseconds: up to the first, a person who holds still; from the second, a
# picture. A picture's noise does not add up, so that frames far apart are no further apart than neighbours; a person's
# motion does.
_STILL_MS = (850, 1250)
_ADDS_UP = 1.5
_NO_DISTANCE = 0.02
# Colour around the face that changes from frame to frame: up to the first, motion; from the second, another scene.
_TONE_JUMP = (8.0, 24.0)
# Of the frames that showed what was there before, after it had gone: up to the first share, chance; from the second, a
# loop.
_LOOP = (0.15, 0.45)
# Of an attempt so many frames are remembered when it has ended, spread over it; and of those that are shown again, the
# shares between which it counts.
_REMEMBERED = 16
_SEEN_SHARE = (0.25, 0.5)
# Of the frames with a frame around the face: how long it is (face heights), and the shares between which it counts.
_FRAMED = 0.6
_FRAMED_SHARE = (0.25, 0.5)
# So many looks of the face are remembered, those that differ most in shape.
_LOOKS = 12
# Of the change of the face's shape, in its widths: a picture's landmarks tremble by up to the first.
_EXPRESSION = (0.007, 0.014)
# Of the change of the skin for a change of shape: up to the first, a warped picture; from the second, a face. By the
# median place (a face that smiles, squints, turns), and by all of it (a mouth that opens, and little else).
_SKIN_PLACE = (3.0, 5.0)
_SKIN_WHOLE = (6.5, 10.5)
# Beyond this change of shape the skin's no longer grows with it.
_COMPARABLE = 0.035
_SKIN_BLUR = 3.0
_PAIR_WITHIN_MS = 400
_MIN_PAIRS = 10


class Signal(StrEnum):
    """What is scored.

    MODEL_A: median of model A's probability that the face is live. MODEL_B: one less the mean of model B's score, a
    mean because it knows a screen in some frames only. Both were trained on data that is not documented, and miss
    pictures that fill the frame.
    GRID: 1 for the spectrum of a face, 0 for that of a screen's grid, by the median frame (pixels.grid).
    EDGES: 1 without, 0.95 with three straight edges around the face, by the median frame (pixels.sides).
    FRAMED: 1 while at most a quarter of the frames has a frame around the face, 0 from a half (pixels.sides).
    EXPRESSION: how much the face's shape changes beyond what moving and turning a flat picture of it does: 0 for 0.7 %
    of its width, which is how landmarks tremble, 1 for twice that. Who does nothing shows no sign of life,
    and a still photo can do nothing. Fails: films, and whatever else moves as a face does; a person whom nobody asked
    for anything, in two seconds.
    SKIN: how much the skin changes when the shape does. A living face that smiles, blinks or turns shows folds, teeth,
    lids and other light; a photo that is warped to smile, or is worn over another's face through its mesh, keeps its
    skin. 0 for a warped photo, 1 for a face, and for a face whose shape did not change (EXPRESSION says that). Measured
    by the median place of the face or by all of it, whichever says more. Fails: learnt deepfakes, which draw folds;
    photos on which landmarks do not hold (a hand before the mouth), whose skin slides beneath them.
    RELIEF: how far the face's points leave what a plane's motion explains, between its two most different poses, over
    what a solid head's do; 0 for a flat picture, however it is tilted. Absent when the head turns by less than 8
    degrees. Fails: landmarks are fitted with a model of a solid head, so that a picture's may leave the plane too; a
    film of a turning head is as solid as the head.
    DEPTH: the share of that departure which the landmarks' own depth explains. Fails as RELIEF does.
    BLINK: how far the eyes close beyond their median opening, 1 for half way. Fails: a film blinks, and people may not
    for ten seconds.
    FROZEN: 1 while the picture never stood still for longer than 0.85 s, but for noise; 0 from 1.25 s. Of the time
    between two frames at most 0.4 s count. Fails: a moved still; a person who holds that still before a camera that
    stands.
    REPEATED: 1 while at most 0.15 of the frames came back exactly after the picture had been another, 0 from 0.45:
    films that loop return, a living face comes near and never to the same place. Fails: a loop longer than the clip,
    or one that is moved about.
    SEEN_BEFORE: 1 while at most a quarter of what is remembered of an earlier attempt of the person (`fingerprint`) is
    shown again, 0 from a half: a recording of that attempt, though sent anew. Fails: a recording that was never sent
    here, or is moved, cropped or filmed.
    SCENE: 1 while the colour around the face changes by at most 8 grey levels from frame to frame, 0 from 24: a cut
    from one recording to another. Fails: cuts within one scene; takes a light that is switched for a cut.
    """

    MODEL_A = "MODEL_A"
    MODEL_B = "MODEL_B"
    GRID = "GRID"
    EDGES = "EDGES"
    FRAMED = "FRAMED"
    RELIEF = "RELIEF"
    DEPTH = "DEPTH"
    BLINK = "BLINK"
    EXPRESSION = "EXPRESSION"
    SKIN = "SKIN"
    FROZEN = "FROZEN"
    REPEATED = "REPEATED"
    SEEN_BEFORE = "SEEN_BEFORE"
    SCENE = "SCENE"


@dataclass(frozen=True, slots=True)
class View:
    """A face's solid points at a pose in degrees; `points` as traces.Traces has them."""

    yaw: float
    pitch: float
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """The face's shape and skin in a frame, as traces.Traces has them, each packed (`_packed`)."""

    shape: str
    skin: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is remembered of a clip: numbers. `views` are the first pose and the extreme ones, `looks` the most various.

    `marks` are of all frames: time (milliseconds); layout, eyes and mouth, packed. It goes to the store and back with
    every batch, and a thousand tuples of numbers take longer there than their frames' landmarks.
    `last` is the time (milliseconds) and the colour around the face of the frame before.
    """

    live: tuple[float, ...] = ()
    spoof: tuple[float, ...] = ()
    grid: tuple[float, ...] = ()
    sides: tuple[float, ...] = ()
    framed: tuple[float, ...] = ()
    views: tuple[View, ...] = ()
    looks: tuple[Look, ...] = ()
    eyes: tuple[float, ...] = ()
    marks: tuple[tuple[int, str], ...] = ()
    last: tuple[int, tuple[float, ...]] | None = None
    tone_jump: float = 0.0
    pairs: int = 0


Fingerprint = tuple[str, ...]
"""What is remembered of an ended attempt: layout, eyes and mouth of some of its frames, packed."""


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
    looks = tuple(Look(look["shape"], look["skin"]) for look in value["looks"])
    marks = tuple((time_ms, mark) for time_ms, mark in value["marks"])
    lists = {name: tuple(value[name]) for name in ("live", "spoof", "grid", "sides", "framed", "eyes")}
    return Gathered(
        **lists,
        views=views,
        looks=looks,
        marks=marks,
        last=last,
        tone_jump=value["tone_jump"],
        pairs=value["pairs"],
    )


def fingerprint(gathered: Gathered) -> Fingerprint:
    """Return what is to be remembered of a clip."""
    marks = gathered.marks
    count = min(len(marks), _REMEMBERED)
    return tuple(marks[number * len(marks) // count][1] for number in range(count))


def scores(gathered: Gathered, earlier: Sequence[Fingerprint] = ()) -> Mapping[Signal, float]:
    """Return every signal that the clip allows to be measured, 0 to 1. `earlier` are other attempts' fingerprints."""
    measured = {signal: score(gathered) for signal, score in _SCORES.items()}
    measured[Signal.SEEN_BEFORE] = _seen_before(gathered, earlier)
    return {signal: min(max(score, 0.0), 1.0) for signal, score in measured.items() if score is not None}


def judge(gathered: Gathered, rules: Rules, earlier: Sequence[Fingerprint] = ()) -> Verdict:
    """Judge a clip. A deciding signal that cannot be measured refuses: nobody gets by with frames too small or too
    rare.

    So do too few frames that model A was asked about, and none that model B was.
    """
    measured = scores(gathered, earlier)
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
        framed=_kept(gathered.framed, traces.framed),
        views=_views(gathered.views, View(face.yaw, face.pitch, traces.view)),
        looks=_looks(gathered.looks, Look(_packed(traces.shape), _packed(traces.skin))),
        eyes=_kept(gathered.eyes, round(face.eyes, 3)),
        marks=(*gathered.marks, (time_ms, _packed((*traces.layout, face.eyes, face.mouth))))[-_KEPT:],
        last=(time_ms, traces.tone),
        tone_jump=max(gathered.tone_jump, jump),
        pairs=gathered.pairs + int(near),
    )


def _kept(values: tuple[float, ...], value: float | None) -> tuple[float, ...]:
    return values if value is None else (*values, value)[-_KEPT:]


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


def _looks(looks: tuple[Look, ...], look: Look) -> tuple[Look, ...]:
    """Those with a new one, and without one of the two that are most alike when they are too many."""
    every = (*looks, look)
    if len(every) <= _LOOKS:
        return every
    apart = _shapes_apart(every)
    np.fill_diagonal(apart, np.inf)
    one = int(apart.min(axis=1).argmin())
    return every[:one] + every[one + 1 :]


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


def _framed(gathered: Gathered) -> float | None:
    if not gathered.framed:
        return None
    return 1 - _along(fmean(length >= _FRAMED for length in gathered.framed), *_FRAMED_SHARE)


def _expression(gathered: Gathered) -> float | None:
    return _along(_change(gathered.looks), *_EXPRESSION) if len(gathered.looks) == _LOOKS else None


def _skin(gathered: Gathered) -> float | None:
    if len(gathered.looks) < _LOOKS:
        return None
    pairs = np.triu_indices(_LOOKS, 1)
    shapes = _shapes_apart(gathered.looks)[pairs]
    comparable = shapes <= _COMPARABLE
    shapes = shapes[comparable]
    if not len(shapes) or float(shapes.max()) < _EXPRESSION[0]:
        return 1.0
    far = shapes >= max(_EXPRESSION[0], float(np.quantile(shapes, 0.75)))
    near = shapes <= np.quantile(shapes, 0.1)
    score = 0.0
    for apart, ramp in zip(_skins_apart(gathered.looks), (_SKIN_PLACE, _SKIN_WHOLE), strict=True):
        skins = apart[pairs][comparable]
        # Noise changes the skin without a change of shape: of pairs far apart, what is beyond the pairs most alike.
        noise = float(np.median(skins[near]))
        change = np.sqrt(np.maximum(skins[far] ** 2 - noise**2, 0)) / shapes[far]
        score = max(score, _along(float(np.median(change)), *ramp))
    return score


def _frozen(gathered: Gathered) -> float | None:
    if len(gathered.marks) <= _MIN_PAIRS:
        return None
    times_ms, same, apart = _compared(gathered.marks)
    count = len(times_ms)
    # A device sends nothing while it waits for an answer: what the picture did then was not seen.
    seen_ms = np.cumsum(np.minimum(np.diff(times_ms, prepend=times_ms[0]), _PAIR_WITHIN_MS))
    # For each frame the last one before it that shows something else, -1 without.
    earlier = np.tril(~same, -1)
    other = np.where(earlier.any(axis=1), count - 1 - earlier[:, ::-1].argmax(axis=1), -1)
    longest_ms, last = 0.0, 0
    for first in range(count):
        last = max(first, last)
        while last + 1 < count and other[last + 1] < first:
            last += 1
        still_ms = float(seen_ms[last] - seen_ms[first])
        if still_ms > max(longest_ms, _STILL_MS[0]) and not _adds_up(apart[first : last + 1, first : last + 1]):
            longest_ms = still_ms
    return 1 - _along(longest_ms, *_STILL_MS)


def _adds_up(apart: npt.NDArray[np.float64]) -> bool:
    """Whether frames at least half of the run from each other are further apart than neighbours."""
    count = len(apart)
    neighbours = float(np.diagonal(apart, 1).mean())
    distant = [np.diagonal(apart, lag) for lag in range(max(2, count // 2), count)]
    return bool(distant) and float(np.concatenate(distant).mean()) > _ADDS_UP * neighbours + _NO_DISTANCE


def _repeated(gathered: Gathered) -> float | None:
    if len(gathered.marks) <= _MIN_PAIRS:
        return None
    _, same, apart = _compared(gathered.marks)
    # Row: an earlier frame; column: how far away from it the picture has been, at most, before the column's frame.
    away = np.roll(np.maximum.accumulate(np.triu(apart, 1), axis=1), 1, axis=1)
    back = np.triu(same & (away >= _ELSEWHERE), 2).any(axis=0)
    return 1 - _along(float(back.mean()), *_LOOP)


def _seen_before(gathered: Gathered, earlier: Sequence[Fingerprint]) -> float | None:
    if not gathered.marks:
        return None
    shown = _unpacked(mark for _, mark in gathered.marks)
    shares = [float(_alike(_unpacked(one), shown)[0].any(axis=1).mean()) for one in earlier if one]
    return 1 - _along(max(shares, default=0.0), *_SEEN_SHARE)


def _compared(
    marks: Sequence[tuple[int, str]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """The frames' times, which of them show the same, and how far their layouts are apart."""
    every = _unpacked(mark for _, mark in marks)
    return np.array([time_ms for time_ms, _ in marks], np.float64), *_alike(every, every)


def _alike(
    some: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which of some frames show the same as which others, and how far their layouts are apart."""
    layouts, eyes, mouth = (np.abs(some[:, None, part] - others[None, :, part]) for part in (slice(-2), -2, -1))
    apart = np.sqrt((layouts**2).sum(axis=2))
    return (apart <= _SAME_LAYOUT) & (eyes <= _SAME_EYES) & (mouth <= _SAME_MOUTH), apart


def _shapes_apart(looks: Sequence[Look]) -> npt.NDArray[np.float64]:
    """Root mean square distance of the points of each two shapes."""
    shapes = _unpacked(look.shape for look in looks)
    return np.asarray(np.sqrt(2 * ((shapes[:, None] - shapes[None]) ** 2).mean(axis=2)))


def _change(looks: Sequence[Look]) -> float:
    """The upper eighth of the distances of all shapes: no single trembling frame makes it."""
    return float(np.quantile(_shapes_apart(looks)[np.triu_indices(len(looks), 1)], 0.875))


def _skins_apart(looks: Sequence[Look]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How much each two skins differ, without large shades, in standard deviations: the median place, and all."""
    skins = []
    for skin in _unpacked(look.skin for look in looks).reshape(-1, SKIN_PX, SKIN_PX):
        fine = skin - _blurred(skin)
        skins.append(((fine - fine.mean()) / max(float(fine.std()), 1e-3)).ravel())
    every = np.array(skins)
    differences = np.abs(every[:, None] - every[None])
    return np.median(differences, axis=2), np.sqrt((differences**2).mean(axis=2))


def _blurred(skin: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A Gaussian blur that keeps the edges' level, without a library of pictures."""
    return np.asarray(_BLUR @ skin @ _BLUR.T)


def _blur() -> npt.NDArray[np.float64]:
    places = np.arange(SKIN_PX)
    weights = np.exp(-((places[:, None] - places[None]) ** 2) / (2 * _SKIN_BLUR**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_BLUR = _blur()


def _scene(gathered: Gathered) -> float | None:
    return 1 - _along(gathered.tone_jump, *_TONE_JUMP) if gathered.pairs >= _MIN_PAIRS else None


_SCORES: Mapping[Signal, Callable[[Gathered], float | None]] = {
    Signal.MODEL_A: _model_a,
    Signal.MODEL_B: _model_b,
    Signal.GRID: _grid,
    Signal.EDGES: _edges,
    Signal.FRAMED: _framed,
    Signal.RELIEF: _relief,
    Signal.DEPTH: _depth,
    Signal.BLINK: _blink,
    Signal.EXPRESSION: _expression,
    Signal.SKIN: _skin,
    Signal.FROZEN: _frozen,
    Signal.REPEATED: _repeated,
    Signal.SCENE: _scene,
}


def _packed(values: Sequence[float]) -> str:
    """Numbers as text: base64 of single-precision floats."""
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


def _unpacked(texts: Iterable[str]) -> npt.NDArray[np.float64]:
    """What `_packed` made texts of, a row for each."""
    return np.array([np.frombuffer(base64.b64decode(text), "<f4") for text in texts], np.float64)


def _along(value: float, first: float, last: float) -> float:
    """Where a value is from the first (0) to the last (1), within both."""
    return min(max((value - first) / (last - first), 0.0), 1.0)


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
