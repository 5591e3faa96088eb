"""The bare landmarker in a sandboxed worker: the limit of what liveness can look at. Only mediapipe runs here."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.liveness.model import decode_bgr  # first: what the runtimes must find at their import is set there

# ruff: isort: split
import cv2
import mediapipe
from mediapipe.tasks.python.core.base_options import BaseOptions
from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions, RunningMode


class BareLandmarker:
    """Looks at the same frames again and again, with the options that liveness runs it with."""

    def __init__(self, landmarker: bytes) -> None:
        self._landmarker = FaceLandmarker.create_from_options(
            FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=landmarker),
                running_mode=RunningMode.IMAGE,
                num_faces=2,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
        )

    def run(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Look at the decoded frames of `blobs` (JPEG) for `header["for_s"]` seconds; answer how many, and how long."""
        images = [self._decoded(jpeg) for jpeg in blobs]
        looked_at, began = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began) < header["for_s"]:
            self._landmarker.detect(images[looked_at % len(images)])
            looked_at += 1
        return {"frames": looked_at, "took_s": took_s}, []

    def decode(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """The same for decoding alone."""
        decoded, began = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began) < header["for_s"]:
            self._decoded(blobs[decoded % len(blobs)])
            decoded += 1
        return {"frames": decoded, "took_s": took_s}, []

    @staticmethod
    def _decoded(jpeg: bytes) -> Any:
        frame_bgr = decode_bgr(jpeg)
        assert frame_bgr is not None
        return mediapipe.Image(mediapipe.ImageFormat.SRGB, cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB))


def serve(arguments: Mapping[str, Any]) -> BareLandmarker:
    """The worker's target; `arguments` is {"landmarker_file"}."""
    return BareLandmarker(Path(arguments["landmarker_file"]).read_bytes())
