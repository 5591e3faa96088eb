"""Colours that a page shows, and whether a face reflected them: pure.

A screen lights a face that is near it, and hardly what is behind. So the colour of the face follows the sequence that
was shown, at its time and at no other, and follows it more than the background does. A recording made for another
sequence follows that one; frames that no screen lit follow none; a picture held up, or frames tinted as a whole, follow
it in the background as well. In bright light the screen changes nothing that can be measured: nothing is concluded.

The colours of one attempt are known when they are shown and not before, so no recording was made for them. Whoever can
light a recording or a made-up face anew within the seconds of the window is not stopped here.

After Tang et al., Face Flashing: a Secure Liveness Detection Protocol based on Light Reflections, NDSS 2018. The
thresholds were chosen on made-up reflections (tests/liveness/test_flash.py) and measured on nobody.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count, pairwise
from math import sqrt
from statistics import fmean

Rgb = tuple[float, float, float]
"""Mean red, green and blue, 0 to 255."""

_PPM = 1_000_000
_MIN_SAMPLES = 12
_MIN_PER_COLOUR = 2
# From the page's word that it shows a colour to the time that the camera gives to a frame of it: a screen and a camera
# may both be late, by an amount that is not known.
_LATE_MS = (0, 50, 100)
LATEST_MS = _LATE_MS[-1]
"""Frames are looked at for so long after the last colour."""
# A frame exposed while the colour changed shows both: it is left out.
_SETTLE_MS = 80
_MAX_LUMA = 215.0
_MIN_RESPONSE = 1.5
LEAST_PPM = 750_000
"""The least correlation with the sequence, unless a policy says another."""
_MIN_LEAD = 0.2
_FOLLOWS_TOO = 0.6
_MIN_OVER_BACKGROUND = 1.5
# Darker than this, what a camera says of a colour is mostly its own noise.
_MIN_BRIGHTNESS = 8.0
_MAX_SELF_CORRELATION = 0.6
_BYTES = 256


class Colour(StrEnum):
    """What a page shows."""

    RED = "RED"
    GREEN = "GREEN"
    BLUE = "BLUE"
    YELLOW = "YELLOW"
    CYAN = "CYAN"
    MAGENTA = "MAGENTA"


RGB_OF: dict[Colour, Rgb] = {
    Colour.RED: (255, 0, 0),
    Colour.GREEN: (0, 255, 0),
    Colour.BLUE: (0, 0, 255),
    Colour.YELLOW: (255, 255, 0),
    Colour.CYAN: (0, 255, 255),
    Colour.MAGENTA: (255, 0, 255),
}


class Outcome(StrEnum):
    """What was found. Only FOLLOWED speaks for a person; TOO_BRIGHT and TOO_FEW say that nothing could be seen."""

    FOLLOWED = "FOLLOWED"
    NOT_FOLLOWED = "NOT_FOLLOWED"
    BACKGROUND_TOO = "BACKGROUND_TOO"
    TOO_BRIGHT = "TOO_BRIGHT"
    TOO_FEW = "TOO_FEW"


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame: when it was taken, milliseconds since the first colour was shown; the face and what is around it."""

    at_ms: int
    face: Rgb
    background: Rgb


@dataclass(frozen=True, slots=True)
class Verdict:
    """`correlation_ppm` with the sequence, `shifted_ppm` the best with it moved by whole colours."""

    outcome: Outcome
    correlation_ppm: int = 0
    shifted_ppm: int = 0


def sequence(key: bytes, txn: bytes, nonce: bytes, length: int) -> tuple[Colour, ...]:
    """Return the colours of one attempt, none twice in a row; `key` is that of scripts.

    One that is much like itself at another time is drawn again: it could not be told from a late reflection.
    """
    numbers = _numbers(key, txn, nonce)
    while True:
        chosen: list[Colour] = []
        while len(chosen) < length:
            left = [colour for colour in Colour if not chosen or colour is not chosen[-1]]
            chosen.append(left[next(n for n in numbers if n < _BYTES - _BYTES % len(left)) % len(left)])
        expected = _expected(chosen)
        if max(_correlation(expected[0], moved) for moved in expected[1:]) <= _MAX_SELF_CORRELATION:
            return tuple(chosen)


def _numbers(key: bytes, txn: bytes, nonce: bytes) -> Iterator[int]:
    for counter in count():
        block = b"finid-liveness-flash-v1\0" + txn + nonce + counter.to_bytes(4)
        yield from hmac.new(key, block, hashlib.sha256).digest()


def _expected(shown: Sequence[Colour]) -> list[list[float]]:
    """How a face changes that follows the sequence, and then it moved by one colour, by two and so on."""
    moved = [[*shown[by:], *shown[:by]] for by in range(len(shown))]
    return [_steps([_chroma(RGB_OF[colour]) for colour in colours]) for colours in moved]


def judge(shown: Sequence[Colour], every_ms: int, samples: Sequence[Sample], least_ppm: int = LEAST_PPM) -> Verdict:
    """Say whether the faces of the samples reflected the colours, each of which was shown for `every_ms`.

    `least_ppm` is the least correlation of the face's changes of colour with the sequence's.
    """
    expected = _expected(shown)
    readings = [_read(expected, every_ms, samples, late_ms) for late_ms in _LATE_MS]
    reading = max((one for one in readings if one is not None), key=lambda one: one.correlation, default=None)
    if reading is None:
        return Verdict(Outcome.TOO_FEW)
    if fmean(max(sample.face) for sample in reading.settled) > _MAX_LUMA:
        return Verdict(Outcome.TOO_BRIGHT)
    correlation = reading.correlation
    shifted = max(_correlation(reading.face, moved) for moved in expected[1:])
    numbers = (round(correlation * _PPM), round(shifted * _PPM))
    response, behind_response = _size(reading.face), _size(reading.behind)
    if response < _MIN_RESPONSE:
        # Where the screen should have been seen, in a light that is not bright, nothing followed it.
        bright = fmean(fmean(sample.face) for sample in reading.settled) > _MAX_LUMA / 1.5
        return Verdict(Outcome.TOO_BRIGHT if bright else Outcome.NOT_FOLLOWED, *numbers)
    if correlation * _PPM < least_ppm or correlation < shifted + _MIN_LEAD:
        return Verdict(Outcome.NOT_FOLLOWED, *numbers)
    # Of its own brightness each: a dark wall reflects little of whatever falls on it.
    lit = response / _brightness([sample.face for sample in reading.settled])
    behind_lit = behind_response / _brightness([sample.background for sample in reading.settled])
    follows_too = _correlation(reading.behind, expected[0]) >= _FOLLOWS_TOO
    if follows_too and lit < behind_lit * _MIN_OVER_BACKGROUND:
        return Verdict(Outcome.BACKGROUND_TOO, *numbers)
    return Verdict(Outcome.FOLLOWED, *numbers)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was seen if screen and camera are late by so much: changes of colour, and what they were measured on."""

    settled: Sequence[Sample]
    face: Sequence[float]
    behind: Sequence[float]
    correlation: float


def _read(
    expected: Sequence[Sequence[float]], every_ms: int, samples: Sequence[Sample], late_ms: int
) -> _Reading | None:
    """Return what was seen, None when that is too little."""
    length = len(expected)
    settled: list[Sample] = []
    seen: list[int] = []
    for sample in samples:
        index, within_ms = divmod(sample.at_ms - late_ms, every_ms)
        if 0 <= index < length and within_ms >= _SETTLE_MS:
            settled.append(sample)
            seen.append(index)
    if len(settled) < _MIN_SAMPLES or any(seen.count(index) < _MIN_PER_COLOUR for index in range(length)):
        return None
    face = _changes([_chroma(sample.face) for sample in settled], seen, length)
    behind = _changes([_chroma(sample.background) for sample in settled], seen, length)
    return _Reading(settled, face, behind, _correlation(face, expected[0]))


def _brightness(colours: Sequence[Rgb]) -> float:
    return max(fmean(fmean(rgb) for rgb in colours), _MIN_BRIGHTNESS)


def _chroma(rgb: Rgb) -> Rgb:
    """The colour without its brightness, which exposure and movement change."""
    mean = fmean(rgb)
    return (rgb[0] - mean, rgb[1] - mean, rgb[2] - mean)


def _changes(chromas: Sequence[Rgb], seen: Sequence[int], length: int) -> list[float]:
    """From each colour's mean to the next one's: slow changes of the room's light are hardly in it."""
    means: list[Rgb] = []
    for index in range(length):
        red, green, blue = zip(*(chroma for chroma, at in zip(chromas, seen, strict=True) if at == index), strict=True)
        means.append((fmean(red), fmean(green), fmean(blue)))
    return _steps(means)


def _steps(colours: Sequence[Rgb]) -> list[float]:
    return [after - before for one, other in pairwise(colours) for before, after in zip(one, other, strict=True)]


def _size(values: Sequence[float]) -> float:
    return sqrt(fmean(value * value for value in values))


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    size = _size(one) * _size(other)
    return fmean(a * b for a, b in zip(one, other, strict=True)) / size if size else 0.0
