"""The colour of a face and of what is beside it. Runs only in the sandboxed worker, on a decoded frame.

Measured only while colours are shown (flash.py): it costs a quarter of a millisecond a frame.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

# Of MediaPipe's face mesh: the face's outline, and in it what is no skin.
_OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
_NO_SKIN = (
    (33, 160, 158, 133, 153, 144),
    (362, 385, 387, 263, 373, 380),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
# Every so many pixels is looked at, so that the face is about this high: its mean is of a thousand of them.
_FACE_PX = 48
# Beside the face, not below it: shoulders are lit as the face is. Hair and ears are between, in face widths.
_BETWEEN = 0.3
_MIN_BESIDE_PX = 60


def of_face(frame_bgr: MatLike, points_px: npt.NDArray[np.float64]) -> dict[str, Any]:
    """What observation.Light reads. `points_px` are x and y of all landmarks."""
    outline = points_px[list(_OUTLINE)]
    left, top = outline.min(axis=0)
    right, bottom = outline.max(axis=0)
    stride = max(1, int((bottom - top) / _FACE_PX))
    first, last = max(0, int(top)), max(1, int(bottom))
    rows_bgr = frame_bgr[first:last]  # as high as the face
    if not rows_bgr.size:
        return {"skin": [0.0] * 3, "beside": None}
    size = (max(1, rows_bgr.shape[1] // stride), max(1, rows_bgr.shape[0] // stride))
    small = cv2.resize(rows_bgr, size, interpolation=cv2.INTER_NEAREST)
    skin = np.zeros(small.shape[:2], np.uint8)
    cv2.fillPoly(skin, [_at(outline, first, stride)], 1)
    for indices in _NO_SKIN:
        cv2.fillPoly(skin, [_at(points_px[list(indices)], first, stride)], 0)
    between = _BETWEEN * (right - left)
    beside = np.zeros_like(skin)
    beside[:, : max(0, int((left - between) / stride))] = 1
    beside[:, max(0, int((right + between) / stride)) :] = 1
    enough = cv2.countNonZero(beside) >= _MIN_BESIDE_PX
    return {"skin": _mean(small, skin), "beside": _mean(small, beside) if enough else None}


def _at(points_px: npt.NDArray[np.float64], first: int, stride: int) -> npt.NDArray[np.int32]:
    return np.rint((points_px - (0, first)) / stride).astype(np.int32)


def _mean(picture_bgr: MatLike, mask: npt.NDArray[np.uint8]) -> list[float]:
    blue, green, red, _ = cv2.mean(picture_bgr, mask)
    return [red, green, blue]
