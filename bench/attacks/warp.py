"""A picture moved by its points: where each point goes is given, what lies between follows."""

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike
from scipy.interpolate import LinearNDInterpolator

_ANCHORS_A_SIDE = 8


def looked_at(
    goes_to: npt.NDArray[np.float32], comes_from: npt.NDArray[np.float32], box: tuple[int, int, int, int]
) -> npt.NDArray[np.float32]:
    """Return for each pixel of `box` (left, top, right, bottom) where it looks, x and y, NaN outside all points.

    Piecewise linear over the Delaunay triangles of the points where they go to.
    """
    left, top, right, bottom = box
    between = LinearNDInterpolator(goes_to.astype(np.float64), comes_from.astype(np.float64))
    columns, rows = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
    return np.asarray(between(columns, rows), dtype=np.float32)


def moved(picture_bgr: MatLike, comes_from: npt.NDArray[np.float32], goes_to: npt.NDArray[np.float32]) -> MatLike:
    """Return the picture with its points moved, and still from half a face's width away from them on."""
    height, width = picture_bgr.shape[:2]
    both = np.concatenate([comes_from, goes_to])
    reach = float((both.max(axis=0) - both.min(axis=0)).max()) / 2
    left, top = (max(0, int(value)) for value in both.min(axis=0) - reach)
    right = min(width, int(both[:, 0].max() + reach) + 1)
    bottom = min(height, int(both[:, 1].max() + reach) + 1)
    ring = _ring(left, top, right - 1, bottom - 1)
    seen = looked_at(np.concatenate([goes_to, ring]), np.concatenate([comes_from, ring]), (left, top, right, bottom))
    made = picture_bgr.copy()
    made[top:bottom, left:right] = cv2.remap(
        picture_bgr, seen[..., 0], seen[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return made


def _ring(left: int, top: int, right: int, bottom: int) -> npt.NDArray[np.float32]:
    across, down = np.linspace(left, right, _ANCHORS_A_SIDE), np.linspace(top, bottom, _ANCHORS_A_SIDE)
    sides = [(x, y) for x in across for y in (top, bottom)] + [(x, y) for y in down[1:-1] for x in (left, right)]
    return np.array(sides, np.float32)
