"""Another person's face worn by the person before the camera: a face swap through the mesh, frame by frame.

The victim's photo is looked at through the triangles of the attacker's points, so that it takes over every expression;
it is matched in colour, feathered at the face's edge and, sometimes, smoothed, as swapping programs do. Injected, not
filmed. It stands for simple swaps; learnt ones (deepfakes) look better and were not tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike
from numpy.random import Generator

from bench.attacks import warp
from bench.attacks.landmarks import Points
from bench.attacks.material import Made, MaterialError, Materials, Still, Window

_MIN_SPREAD = 4.0
_MAX_LOST = 0.5


@dataclass(frozen=True, slots=True)
class Parameters:
    """`feather`: the soft edge, share of the face's width. `cover`: share of the face's oval, 0 to 1.

    `colour`: how much of the attacker's skin tone the victim's face takes, 0 to 1. `jitter`: landmarks' error, pixels.
    """

    feather: float
    cover: float
    colour: float
    jitter: float
    smoothing: float

    @classmethod
    def draw(cls, rng: Generator) -> "Parameters":
        """A swapping program's settings."""
        return cls(
            feather=rng.uniform(0.04, 0.12),
            cover=rng.uniform(0.8, 0.97),
            colour=rng.uniform(0.7, 1.0),
            jitter=float(rng.choice([0.0, 0.3, 0.8])),
            smoothing=float(rng.choice([0.0, 0.6, 1.2])),
        )


def make(materials: Materials, rng: Generator) -> Made:
    """Put another person's face over the person of a window."""
    drawn = Parameters.draw(rng)
    window, victim = materials.window(rng), materials.still(rng, of_others=True)
    points = [materials.points(frame_bgr) for frame_bgr in window.frames_bgr]
    lost = sum(one is None for one in points)
    if lost > _MAX_LOST * len(points):
        # A genuine clip would be counted as an attack.
        raise MaterialError(f"no face to swap in {lost} of {len(points)} frames of {window.of}")
    frames = _worn(window, points, victim, drawn, rng)
    return Made(frames, window.fps, (window.of, victim.of), {**asdict(drawn), "frames_not_swapped": lost})


def _worn(
    window: Window, points: Sequence[Points | None], victim: Still, drawn: Parameters, rng: Generator
) -> Iterator[MatLike]:
    for frame_bgr, at in zip(window.frames_bgr, points, strict=True):
        # A swapping program that loses the face shows what the camera sees.
        yield frame_bgr if at is None else _swapped(frame_bgr, at, victim, drawn, rng)


def _swapped(frame_bgr: MatLike, points: Points, victim: Still, drawn: Parameters, rng: Generator) -> MatLike:
    height, width = frame_bgr.shape[:2]
    at = (points[:, :2] + drawn.jitter * rng.standard_normal((len(points), 2))).astype(np.float32)
    left, top = (max(0, int(value)) for value in at.min(axis=0))
    right, bottom = min(width, int(at[:, 0].max()) + 1), min(height, int(at[:, 1].max()) + 1)
    if right - left < 8 or bottom - top < 8:
        return frame_bgr
    seen = warp.looked_at(at, victim.points[:, :2], (left, top, right, bottom))
    inside = ~np.isnan(seen[..., 0])
    seen = np.nan_to_num(seen, nan=-1.0)
    worn = cv2.remap(victim.bgr, seen[..., 0], seen[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    under = frame_bgr[top:bottom, left:right]
    mask = _mask(at - np.array([left, top], np.float32), under.shape[:2], drawn) * inside
    worn = _toned(worn, under, mask > 0.5, drawn.colour)
    if drawn.smoothing:
        worn = cv2.GaussianBlur(worn, (0, 0), drawn.smoothing)
    made = frame_bgr.copy()
    blended = worn * mask[..., None] + under * (1 - mask[..., None])
    made[top:bottom, left:right] = np.clip(blended, 0, 255).astype(np.uint8)
    return made


def _mask(at: npt.NDArray[np.float32], size: tuple[int, ...], drawn: Parameters) -> npt.NDArray[np.float32]:
    hull = cv2.convexHull(at)
    middle = hull.mean(axis=0)
    polygon = (middle + (hull - middle) * drawn.cover).astype(np.int32)
    mask = np.zeros(size, np.float32)
    cv2.fillConvexPoly(mask, polygon, 1.0)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(drawn.feather * size[1], 0.5)), np.float32)


def _toned(worn: MatLike, under: MatLike, where: npt.NDArray[np.bool_], much: float) -> npt.NDArray[np.float32]:
    """Reinhard's colour transfer within the mask, in Lab (Reinhard et al., Color Transfer between Images, 2001)."""
    if not where.any():
        return worn.astype(np.float32)
    worn_lab = cv2.cvtColor(worn, cv2.COLOR_BGR2LAB).astype(np.float32)
    under_lab = cv2.cvtColor(under, cv2.COLOR_BGR2LAB).astype(np.float32)
    mean, spread = worn_lab[where].mean(axis=0), np.maximum(worn_lab[where].std(axis=0), _MIN_SPREAD)
    aim, aim_spread = under_lab[where].mean(axis=0), np.maximum(under_lab[where].std(axis=0), _MIN_SPREAD)
    toned = (worn_lab - mean) * (1 + much * (aim_spread / spread - 1)) + mean + much * (aim - mean)
    return np.asarray(cv2.cvtColor(np.clip(toned, 0, 255).astype(np.uint8), cv2.COLOR_LAB2BGR), np.float32)
