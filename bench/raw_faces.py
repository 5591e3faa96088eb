"""OpenCV's own YuNet and SFace, as anybody would call them: what facematch's error rates are held against.

The same networks as folded, not rewritten for onnxruntime (deploy/local/assets/fuse.py), in OpenCV's engine: each
picture at its own size, OpenCV's own alignment, no gate of size or quality. They run in this process, without a
sandbox, so what is decoded is bounded as facematch bounds it.
"""

import math
from typing import Final, cast

import cv2
import numpy as np
from cv2.typing import MatLike

from services.facematch.detection import Face, prominence
from services.facematch.image import PictureFaultError, decode_bgr
from services.facematch.pictures import Embedding, Limits
from tests import samples

MODELS: Final = ("models/face_detection_yunet_2023mar.onnx", "models/face_recognition_sface_2021dec.onnx")
_LIMITS: Final = Limits(min_side_px=1)
# OpenCV's default: boxes whose intersection over union is larger are one face.
_SAME_FACE_OVERLAP: Final = 0.3


class RawFaces:
    """Detector and embedder. `min_score` is the detector's, 0 to 1: without one everything is a face."""

    def __init__(self, min_score: float) -> None:
        detector, embedder = (str(samples.assets_folder() / name) for name in MODELS)
        self._detector = cv2.FaceDetectorYN.create(detector, "", (320, 320), min_score, _SAME_FACE_OVERLAP)
        self._embedder = cv2.FaceRecognizerSF.create(embedder, "")

    def embedding(self, content: bytes) -> Embedding | None:
        """The face of a JPEG or PNG, of several the largest and most central one; None where there is none."""
        try:
            picture_bgr = decode_bgr(content, _LIMITS)
        except PictureFaultError:
            return None
        height, width = picture_bgr.shape[:2]
        self._detector.setInputSize((width, height))
        # None for no face, which OpenCV's stubs do not say.
        rows = cast("MatLike | None", self._detector.detect(picture_bgr)[1])
        if rows is None:
            return None
        row = max(rows, key=lambda found: prominence(_face_of(found), width, height))
        values = self._embedder.feature(self._embedder.alignCrop(picture_bgr, row)).reshape(-1).astype(float).tolist()
        length = math.hypot(*values)
        return tuple(value / length for value in values)


def _face_of(row: MatLike) -> Face:
    """A face as FaceDetectorYN states it: the box, five points, the score."""
    values = np.asarray(row, np.float32)
    return Face(values[:4], values[4:14].reshape(5, 2), float(values[14]))
