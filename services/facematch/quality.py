"""How well a picture shows its face, in the manner of ISO/IEC 29794-5: each component 0 to 100, 100 the best.

The components are this project's own simple measures under the standard's names, not its reference implementation's
(OFIQ): they need no model beyond the detector's five points, and take under a millisecond together. What the embedder
is shown (the aligned face) is measured where that decides: sharpness, light, colour. Runs only in a worker process.
"""

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from services.facematch.detection import Face
from services.facematch.pictures import Quality

_FULL: Final = 100
# Rows and columns of the aligned face from brows to chin and cheek to cheek: hair and background are outside.
_SKIN: Final = (slice(28, 108), slice(20, 92))
_LEVELS: Final = 256
_BINS: Final = 32
# Standard deviation of the Laplacian over that of the grey values, in nine pictures of the three sample people: 0.57 to
# 0.89 as filmed; 0.27 to 0.41 when blurred by one pixel of the aligned face; 0.16 to 0.24 by two, where their
# similarity to themselves is 0.87 to 0.93; 0.13 to 0.18 by three, where it is 0.70 to 0.84.
_SHARP: Final = 0.5
_DARK, _BRIGHT = 25, 247  # grey levels that hold nothing: below, and above
_COLOUR: Final = 16.0  # mean difference of a pixel's channels from which skin is in colour; grey has none
# A nose's tip stands before the eyes' line by about so many distances of the eyes: an average head, not a measured one.
_NOSE: Final = 0.7
_EYES_PX: Final = (70.0, 20.0)  # middle and width of the sigmoid over the distance of the eyes
_HEAD: Final = (0.1, 0.25, 0.8, 1.0)  # the face's height in picture heights: nothing, full from, full to, nothing
_MARGIN: Final = 0.25  # free space on each side, in widths of the face, that is enough
_BLOCK: Final = 8  # JPEG's
_BLOCKS: Final = (1.25, 2.5)  # how much larger the steps at the blocks' edges are: none shows, nothing else does
_MAX_BLOCKS_PX: Final = 256
_SMALL_PX: Final = 128  # about the longer side of the picture in which the background is looked at
_PLAIN: Final = (4.0, 40.0)  # mean step between neighbours there, in grey levels: uniform, and as wild as a wood


def quality_of(picture_bgr: MatLike, face: Face, aligned_bgr: MatLike, others: Sequence[Face] = ()) -> Quality:
    """Rate a face of a picture, given also as it was aligned for the embedder (ALIGNED_PX square, BGR).

    `others` are the other faces of the picture.
    """
    skin_bgr = aligned_bgr[_SKIN]
    skin = cv2.cvtColor(np.ascontiguousarray(skin_bgr), cv2.COLOR_BGR2GRAY)
    counts = np.bincount(skin.reshape(-1), minlength=_LEVELS) / skin.size
    yaw_rad, roll_rad, eyes_px = _pose(face)
    height, width = picture_bgr.shape[:2]
    return Quality(
        sharpness=_rated(_deviation(cv2.Laplacian(skin, cv2.CV_16S)) / max(_deviation(skin), 1.0) / _SHARP),
        illumination_uniformity=_rated(_alike(skin)),
        luminance_mean=_rated(_mean_light(float(skin.mean()) / (_LEVELS - 1))),
        under_exposure_prevention=_rated(1 - float(counts[:_DARK].sum())),
        over_exposure_prevention=_rated(1 - float(counts[_BRIGHT:].sum())),
        dynamic_range=_rated(_entropy_bits(counts) / math.log2(_LEVELS)),
        natural_colour=_rated(_colour(skin_bgr) / _COLOUR),
        compression_artifacts=_rated(1 - _between(_block_edges(picture_bgr, face), *_BLOCKS)),
        inter_eye_distance=_rated(_sigmoid(eyes_px / max(math.cos(yaw_rad), 0.5), *_EYES_PX)),
        head_pose_yaw=_rated(math.cos(yaw_rad) ** 2),
        head_pose_roll=_rated(max(math.cos(roll_rad), 0.0) ** 2),
        head_size=_rated(_trapezium(float(face.box[3]) / height, *_HEAD)),
        face_margins=_rated(_least_margin(face, width, height) / _MARGIN),
        background_uniformity=_rated(1 - _between(_background_steps(picture_bgr, face), *_PLAIN)),
        single_face_present=_rated(1 - max(map(_area, others), default=0.0) / max(_area(face), 1.0)),
    )


def _area(face: Face) -> float:
    return float(face.box[2]) * float(face.box[3])


def _deviation(values: MatLike) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0])


def _pose(face: Face) -> tuple[float, float, float]:
    """Yaw and roll in radians, as far as five points tell them, and the distance of the eyes in pixels.

    The detector's points follow a head that lies on its side by half: 15 degrees are read as 11, 45 as 24.
    """
    left_eye, right_eye, nose = (face.landmarks[index].astype(np.float64) for index in range(3))
    across = right_eye - left_eye
    eyes_px = max(float(np.hypot(*across)), 1.0)
    aside = float((nose - (left_eye + right_eye) / 2) @ across) / eyes_px**2
    return math.atan(aside / _NOSE), math.atan2(float(across[1]), float(across[0])), eyes_px


def _alike(skin: MatLike) -> float:
    """How alike the halves of a face are lit: the intersection of their histograms, 0 to 1."""
    middle = skin.shape[1] // 2
    halves = (skin[:, :middle], skin[:, middle:])
    one, other = (np.bincount(half.reshape(-1) // (_LEVELS // _BINS), minlength=_BINS) / half.size for half in halves)
    return float(np.minimum(one, other).sum())


def _mean_light(mean: float) -> float:
    """The standard's mapping: neither dark (below a fifth) nor bright (above four fifths)."""
    return _sigmoid(mean, 0.2, 0.05) * (1 - _sigmoid(mean, 0.8, 0.05))


def _entropy_bits(counts: npt.NDArray[np.float64]) -> float:
    shares = counts[counts > 0]
    return float(-(shares * np.log2(shares)).sum())


def _colour(skin_bgr: MatLike) -> float:
    blue, green, red = cv2.split(skin_bgr)
    return cv2.mean(cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)))[0]


def _block_edges(picture_bgr: MatLike, face: Face) -> float:
    """How much larger steps between neighbours are in the strongest column of each block of eight than in the others.

    The strongest, because a picture that was turned upright may begin within a block. Enlarging hides the blocks.
    """
    left, top, right, bottom = _inside(face, picture_bgr)
    bottom, right = min(bottom, top + _MAX_BLOCKS_PX), min(right, left + _MAX_BLOCKS_PX)
    steps = _steps(picture_bgr[top:bottom:2, left:right, 1])
    columns = steps.shape[1] // _BLOCK * _BLOCK
    if not columns:
        return 0.0
    # The median over blocks, because an edge of the picture itself stands in one of them.
    of_phase = np.median(steps[:, :columns].mean(axis=0).reshape(-1, _BLOCK), axis=0)
    strongest = float(of_phase.max())
    others = (float(of_phase.sum()) - strongest) / (_BLOCK - 1)
    return strongest / max(others, 0.5)


def _background_steps(picture_bgr: MatLike, face: Face) -> float:
    """The mean step between neighbours beside and above the face, in grey levels of a smaller picture; 0 if none is."""
    stride = max(1, max(picture_bgr.shape[:2]) // _SMALL_PX)
    small = picture_bgr[::stride, ::stride, 1]
    left, top, width, height = (float(value) / stride for value in face.box)
    # Hair is around the face, shoulders are below it.
    below, aside = int(top + height * 0.8), width * 0.35
    columns = np.arange(small.shape[1])
    rows = small[: max(2, min(below, small.shape[0]))]
    beside = (columns < left - aside) | (columns > left + width + aside)
    above = np.arange(len(rows)) < top - height * 0.35
    background = beside[None, :] | above[:, None]
    both = background[:, 1:] & background[:, :-1]
    steps = _steps(rows)
    return float(steps[both].mean()) if steps.size and both.any() else 0.0


def _steps(grey: MatLike) -> MatLike:
    """How far each pixel is from the next of its row; no columns where there is no next."""
    whole = np.ascontiguousarray(grey)
    if not whole[:, 1:].size:
        return np.zeros((0, 0), np.uint8)
    return cv2.absdiff(whole[:, 1:], whole[:, :-1])


def _inside(face: Face, picture: MatLike) -> tuple[int, int, int, int]:
    left, top, width, height = (float(value) for value in face.box)
    rows, columns = picture.shape[:2]
    return (
        max(0, min(int(left), columns)),
        max(0, min(int(top), rows)),
        max(0, min(int(left + width), columns)),
        max(0, min(int(top + height), rows)),
    )


def _least_margin(face: Face, width: int, height: int) -> float:
    left, top, face_width, face_height = (float(value) for value in face.box)
    return min(left, top, width - left - face_width, height - top - face_height) / max(face_width, 1.0)


def _trapezium(value: float, nothing: float, full_from: float, full_to: float, nothing_from: float) -> float:
    return min((value - nothing) / (full_from - nothing), (nothing_from - value) / (nothing_from - full_to))


def _between(value: float, none: float, all_of_it: float) -> float:
    return (value - none) / (all_of_it - none)


def _sigmoid(value: float, middle: float, width: float) -> float:
    return 1 / (1 + math.exp(max(-50.0, min(50.0, (middle - value) / width))))


def _rated(share: float) -> int:
    return round(_FULL * min(max(share, 0.0), 1.0))
