"""Turning a face upright: the similarity transform that brings five landmarks to fixed places.

The embedder was trained on faces aligned so. Source of the places: OpenCV's FaceRecognizerSF::alignCrop
(modules/objdetect/src/face_recognize.cpp), the 112 x 112 template of ArcFace.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

ALIGNED_PX: Final = 112
_TEMPLATE: Final = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def to_template(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The 2 x 3 matrix of the rotation, uniform scale and shift that fits 5 x 2 `landmarks` to the template best.

    Least squares after Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    IEEE TPAMI 13(4), 1991. Raises ValueError when all landmarks are one point.
    """
    points = landmarks.astype(np.float64)
    centre, template_centre = points.mean(axis=0), _TEMPLATE.mean(axis=0)
    offsets = points - centre
    variance = float((offsets**2).sum()) / len(points)
    if not variance > 0.0:
        raise ValueError("the landmarks are one point")
    covariance = (_TEMPLATE - template_centre).T @ offsets / len(points)
    left, singular_values, right = np.linalg.svd(covariance)
    # A reflection would fit mirrored landmarks; a face is never reflected.
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    scale = float((singular_values * signs).sum()) / variance
    return np.hstack((scale * rotation, (template_centre - scale * rotation @ centre)[:, None]))
