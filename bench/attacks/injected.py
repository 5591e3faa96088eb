"""Genuine frames fed past the camera: cut together of two people, of another session, frozen, and looped.

No picture is drawn here. What is wrong with these clips is in time, in identity, or in what was asked, so a detector
that looks at single frames cannot see it.
"""

import itertools
from collections.abc import Iterator, Sequence

import cv2
from cv2.typing import MatLike
from numpy.random import Generator

from bench.attacks import plane
from bench.attacks.material import Made, Materials
from bench.attacks.plane import Sensor


def splice(materials: Materials, rng: Generator) -> Made:
    """Cut another person in, once or twice, at the same size, each for at least a sixth of the time."""
    own, other = materials.window(rng), materials.window(rng, of_others=True)
    size = (own.frames_bgr[0].shape[1], own.frames_bgr[0].shape[0])
    count = len(own.frames_bgr)
    cuts = int(rng.integers(1, 3))
    at = [int(count * share) for share in ((rng.uniform(0.3, 0.7),) if cuts == 1 else (0.33, 0.66))]
    quality = int(rng.integers(75, 93))

    def frames() -> Iterator[MatLike]:
        for number, frame_bgr in enumerate(own.frames_bgr):
            is_other = sum(number >= cut for cut in at) % 2 == 1
            shown = _fitted(other.frames_bgr[number % len(other.frames_bgr)], size) if is_other else frame_bgr
            yield _recompressed(shown, quality)

    return Made(frames(), own.fps, (own.of, other.of), {"cuts_at": at, "jpeg_quality": quality})


def other_session(materials: Materials, rng: Generator) -> Made:
    """The person as filmed, recompressed once: a recording of a session of another transaction.

    Nothing in the picture is wrong: only prompts and a memory of earlier sessions can tell.
    """
    window = materials.window(rng)
    quality = int(rng.integers(60, 93))
    frames = (_recompressed(frame_bgr, quality) for frame_bgr in window.frames_bgr)
    return Made(frames, window.fps, (window.of,), {"jpeg_quality": quality})


def frozen(materials: Materials, rng: Generator) -> Made:
    """Live until a moment, then the same frame on and on, exactly or with a sensor's noise laid over it."""
    window = materials.window(rng)
    stops_at = int(len(window.frames_bgr) * rng.uniform(0.1, 0.5))
    noisy = bool(rng.integers(2))
    shown = [window.frames_bgr[min(number, stops_at)] for number in range(len(window.frames_bgr))]
    return Made(_noisy(shown, rng, noisy=noisy), window.fps, (window.of,), {"stops_at": stops_at, "noisy": noisy})


def looped(materials: Materials, rng: Generator) -> Made:
    """A third of a second to one second, again and again, from the beginning or to and fro."""
    window = materials.window(rng)
    period = max(2, min(round(rng.uniform(0.33, 1.0) * window.fps), len(window.frames_bgr) // 2))
    to_and_fro, noisy = bool(rng.integers(2)), bool(rng.integers(2))
    start = int(rng.integers(len(window.frames_bgr) - period + 1))
    part = list(window.frames_bgr[start : start + period])
    if to_and_fro:
        part += part[-2:0:-1]
    shown = list(itertools.islice(itertools.cycle(part), len(window.frames_bgr)))
    parameters = {"start": start, "period": period, "to_and_fro": to_and_fro, "noisy": noisy}
    return Made(_noisy(shown, rng, noisy=noisy), window.fps, (window.of,), parameters)


def _noisy(shown: Sequence[MatLike], rng: Generator, *, noisy: bool) -> Iterator[MatLike]:
    sensor = Sensor(blur=0.3, noise=float(rng.uniform(0.8, 2.0)), jpeg_quality=90)
    for frame_bgr in shown:
        yield sensor.takes(frame_bgr, rng) if noisy else frame_bgr


def _recompressed(frame_bgr: MatLike, quality: int) -> MatLike:
    return plane.recompressed(frame_bgr, quality)


def _fitted(frame_bgr: MatLike, size: tuple[int, int]) -> MatLike:
    """The frame filling `size` (width, height), its middle kept."""
    scale = max(size[0] / frame_bgr.shape[1], size[1] / frame_bgr.shape[0])
    larger = cv2.resize(frame_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top = max(0, (larger.shape[1] - size[0]) // 2), max(0, (larger.shape[0] - size[1]) // 2)
    return cv2.resize(larger[top : top + size[1], left : left + size[0]], size)
