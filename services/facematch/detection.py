"""YuNet's output maps, read as faces.

Source: OpenCV's own decoding, modules/objdetect/src/face_detect.cpp, FaceDetectorYNImpl::postProcess.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

INPUT_PX: Final = 640  # the longer side of what the detector is given, at most
CELL_PX: Final = 32  # its largest stride: both sides are multiples of it
_STRIDES_PX: Final = (8, 16, 32)
# OpenCV's default for FaceDetectorYN: boxes whose intersection over union is larger are one face.
_SAME_FACE_OVERLAP: Final = 0.3

# From the middle of a picture, whose sides are 1.
_TO_A_CORNER: Final = math.hypot(0.5, 0.5)

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One detected face, in pixels.

    `box` is left, top, width, height; `landmarks` is 5 x 2 (x, y): the eye on the picture's left, the other eye, the
    tip of the nose, the corner of the mouth on the picture's left, the other corner; `score` is 0 to 1.
    """

    box: FloatArray
    landmarks: FloatArray
    score: float

    def scaled(self, factor: float) -> "Face":
        """The same face in a picture that is `factor` times as large."""
        return Face(self.box * factor, self.landmarks * factor, self.score)

    def moved(self, pixels: int) -> "Face":
        """The same face where the picture begins so many pixels further left and up."""
        by = np.array((pixels, pixels, 0, 0), np.float32)
        return Face(self.box + by, self.landmarks + by[:2], self.score)


def read_faces(maps: Mapping[str, FloatArray], min_score: float, width_px: int = INPUT_PX) -> list[Face]:
    """The faces of at least `min_score`, best first, in pixels of the detector's input, which is `width_px` wide.

    `maps` holds cls_N, obj_N (1 x cells x 1), bbox_N (1 x cells x 4) and kps_N (1 x cells x 10) for each stride N.
    """
    candidates = [face for stride_px in _STRIDES_PX for face in _faces_at(maps, stride_px, min_score, width_px)]
    kept: list[Face] = []
    for face in sorted(candidates, key=lambda candidate: -candidate.score):
        if all(_overlap(face.box, other.box) <= _SAME_FACE_OVERLAP for other in kept):
            kept.append(face)
    return kept


def prominence(face: Face, width: int, height: int) -> float:
    """How much a face looks like the subject of a picture of `width` x `height`: its area, less towards the corners."""
    left, top, face_width, face_height = (float(value) for value in face.box)
    across, down = (left + face_width / 2) / width - 0.5, (top + face_height / 2) / height - 0.5
    return face_width * face_height * (1 - min(1.0, math.hypot(across, down) / _TO_A_CORNER))


def _faces_at(maps: Mapping[str, FloatArray], stride_px: int, min_score: float, width_px: int) -> list[Face]:
    in_class, is_object = (maps[f"{name}_{stride_px}"].reshape(-1).clip(0.0, 1.0) for name in ("cls", "obj"))
    scores = np.sqrt(in_class * is_object)
    cells = np.flatnonzero(scores >= min_score)
    columns = width_px // stride_px
    corners = np.stack((cells % columns, cells // columns), axis=1)
    boxes = maps[f"bbox_{stride_px}"].reshape(-1, 4)[cells]
    centres = (corners + boxes[:, :2]) * stride_px
    sizes = np.exp(boxes[:, 2:]) * stride_px
    landmarks = (maps[f"kps_{stride_px}"].reshape(-1, 5, 2)[cells] + corners[:, None]) * stride_px
    found = np.concatenate((centres - sizes / 2, sizes), axis=1).astype(np.float32)
    return [
        Face(box, points, float(score))
        for box, points, score in zip(found, landmarks.astype(np.float32), scores[cells], strict=True)
    ]


def _overlap(one: FloatArray, other: FloatArray) -> float:
    """Intersection over union of two boxes."""
    start = np.maximum(one[:2], other[:2])
    end = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = float(np.prod(np.maximum(end - start, 0.0)))
    return shared / (float(np.prod(one[2:])) + float(np.prod(other[2:])) - shared)
