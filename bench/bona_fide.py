"""Makes genuine clips: `python -m bench.bona_fide --genuine DIR_OR_FILES --out DIR [--count N] [--seed S]`.

Windows of clips of people, as they are and as cameras and senders change them: re-encoded, cropped, darker, brighter.
Windows of one clip overlap, so they are no independent samples of anybody.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.random import Generator

from bench import clips
from bench.attacks import plane
from bench.attacks.landmarks import Landmarks
from bench.attacks.material import Source, Window, sources_in, window_of
from bench.attacks.species import generator_of
from deploy.local.assets.prepare import default_folder

Shown = Callable[[MatLike], MatLike]


def as_filmed(rng: Generator, across: float) -> Shown:
    """As it is."""
    return lambda frame_bgr: frame_bgr


def re_encoded(rng: Generator, across: float) -> Shown:
    """Through JPEG of a lower quality once more."""
    return partial(plane.recompressed, quality=int(rng.integers(45, 75)))


def cropped(rng: Generator, across: float) -> Shown:
    """As a camera with a narrower picture: from portrait to square, with the face about in the middle."""
    aspect = float(rng.uniform(0.75, 1.0))
    return partial(_crop, aspect=aspect, across=across)


def darker(rng: Generator, across: float) -> Shown:
    """Less light, with the noise that comes of it."""
    gain, noise = float(rng.uniform(0.55, 0.85)), float(rng.uniform(0.5, 2.0))
    return lambda frame_bgr: _noisy(cv2.convertScaleAbs(frame_bgr, alpha=gain), noise, rng)


def brighter(rng: Generator, across: float) -> Shown:
    """More light: the brightest places clip."""
    gain, lift = float(rng.uniform(1.1, 1.35)), float(rng.uniform(0, 15))
    return lambda frame_bgr: cv2.convertScaleAbs(frame_bgr, alpha=gain, beta=lift)


WAYS: Mapping[str, Callable[[Generator, float], Shown]] = {
    "as-filmed": as_filmed,
    "re-encoded": re_encoded,
    "cropped": cropped,
    "darker": darker,
    "brighter": brighter,
}


def _crop(frame_bgr: MatLike, aspect: float, across: float) -> MatLike:
    height, width = frame_bgr.shape[:2]
    # Encoders like even sides.
    kept = min(width, round(height * aspect)) // 2 * 2
    left = int(np.clip(across * width - kept / 2, 0, width - kept))
    return np.ascontiguousarray(frame_bgr[:, left : left + kept])


def _noisy(frame_bgr: MatLike, noise: float, rng: Generator) -> MatLike:
    noisy: MatLike = np.clip(frame_bgr + noise * rng.standard_normal(frame_bgr.shape), 0, 255).astype(np.uint8)
    return noisy


def _drawn(source: Source, rng: Generator, seconds: tuple[float, float]) -> Window:
    count = min(round(float(rng.uniform(*seconds)) * source.fps), source.frames)
    return window_of(source, int(rng.integers(source.frames - count + 1)), count)


async def make_all(
    sources: Sequence[Source], out: Path, landmarker: Path, *, count: int, seed: int, seconds: tuple[float, float]
) -> int:
    """Make `count` windows of each clip in each way; return how many clips there are."""
    landmarks = Landmarks(landmarker, 1)
    made = 0
    async with landmarks.pool:
        for source in sources:
            for way, changed in WAYS.items():
                for number in range(count):
                    clip = out / f"{source.path.stem}_{way}_{number:03d}.avi"
                    rng = generator_of(f"bona-fide/{source.path.name}/{way}", number, seed)
                    await asyncio.to_thread(_make_one, clip, _drawn(source, rng, seconds), landmarks, changed, rng)
                    made += 1
            print(f"{made} genuine clips", flush=True)
    return made


def _make_one(
    clip: Path, window: Window, landmarks: Landmarks, changed: Callable[[Generator, float], Shown], rng: Generator
) -> None:
    middle = window.frames_bgr[len(window.frames_bgr) // 2]
    points = landmarks(middle)
    across = 0.5 if points is None else float(points[:, 0].mean()) / middle.shape[1]
    shown = changed(rng, across)
    clips.write(clip, map(shown, window.frames_bgr), window.fps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    described = argparse.ArgumentParser(prog="python -m bench.bona_fide", description="Make genuine clips.")
    described.add_argument("--genuine", nargs="+", type=Path, required=True, metavar="PATH")
    described.add_argument("--out", type=Path, required=True, metavar="DIR")
    described.add_argument("--count", type=int, default=10, help="windows of each clip in each way (10)")
    described.add_argument("--seed", type=int, default=1)
    described.add_argument("--seconds", nargs=2, type=float, default=(2.0, 3.5), metavar=("LEAST", "MOST"))
    described.add_argument(
        "--landmarker", type=Path, default=default_folder() / "models" / "face_landmarker.task", metavar="FILE"
    )
    given = described.parse_args(arguments)
    found, unusable = sources_in(given.genuine)
    for other in unusable:
        print(f"left out: {other.path}: {other.why}", file=sys.stderr)
    films = [source for source in found if source.fps]
    given.out.mkdir(parents=True, exist_ok=True)
    seconds = (given.seconds[0], given.seconds[1])
    work = make_all(films, given.out, given.landmarker, count=given.count, seed=given.seed, seconds=seconds)
    return 0 if asyncio.run(work) else 2


if __name__ == "__main__":
    sys.exit(main())
