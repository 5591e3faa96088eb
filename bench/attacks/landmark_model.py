"""MediaPipe's landmarks of raw pixels. Runs only in a worker process: mesh.worker loads it by name."""

import hashlib
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# MediaPipe imports matplotlib for plots; see services/liveness/model.py.
sys.modules.setdefault("matplotlib", types.ModuleType("matplotlib"))
sys.modules.setdefault("matplotlib.pyplot", types.ModuleType("matplotlib.pyplot"))


class LandmarkModel:
    """Answers where the points of the one face are."""

    def __init__(self, landmarker: bytes) -> None:
        import mediapipe  # noqa: PLC0415 - after matplotlib's stand-in
        from mediapipe.tasks.python.core.base_options import BaseOptions  # noqa: PLC0415
        from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions, RunningMode  # noqa: PLC0415

        self._image = mediapipe.Image
        self._srgb = mediapipe.ImageFormat.SRGB
        self._landmarker = FaceLandmarker.create_from_options(
            FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=landmarker), running_mode=RunningMode.IMAGE, num_faces=2
            )
        )

    def points(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer one blob of 478 x 3 float32 for one blob of height x width x 3 bytes BGR; none without one face."""
        height, width = header["height"], header["width"]
        frame_rgb = np.ascontiguousarray(np.frombuffer(blobs[0], np.uint8).reshape(height, width, 3)[..., ::-1])
        found = self._landmarker.detect(self._image(self._srgb, frame_rgb)).face_landmarks
        if len(found) != 1:
            return {}, []
        points = np.array([(p.x * width, p.y * height, p.z * width) for p in found[0]], np.float32)
        return {}, [points.tobytes()]


def serve(arguments: Mapping[str, Any]) -> LandmarkModel:
    """The worker's target. Raises ValueError when the model is not the one that was asked for."""
    content = Path(arguments["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != arguments["sha256"]:
        raise ValueError("the model has changed")
    return LandmarkModel(content)
