"""Landmarks, expression, pose and passive liveness of a frame. Runs only in a sandboxed worker process.

MediaPipe's FaceLandmarker, passive model A (fr_liveness_fused.onnx) in onnxruntime and passive model B
(FaceAntiSpoofing.tflite) in LiteRT. The first two libraries report home unless they have no network, which the worker
has not.

Each frame is judged by itself (IMAGE mode), so that any worker can take any batch of any session. It costs nothing:
looking for a second face (num_faces=2) makes VIDEO mode detect anew in every frame and smooth nothing, and on the 544
frames of the two sample clips both modes gave the same numbers in the same time.
"""

import hashlib
import os
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What OpenCV decodes at most, pixels; it reads these once, and checks them before it allocates.
os.environ["OPENCV_IO_MAX_IMAGE_WIDTH"] = "2048"
os.environ["OPENCV_IO_MAX_IMAGE_HEIGHT"] = "2048"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# MediaPipe imports matplotlib for plots that nobody asks for here. It would insist on a folder to write to, which a
# worker has not, look for fonts, and take a second of every start.
sys.modules.setdefault("matplotlib", types.ModuleType("matplotlib"))
sys.modules.setdefault("matplotlib.pyplot", types.ModuleType("matplotlib.pyplot"))

import cv2
import mediapipe
import numpy as np
import numpy.typing as npt
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from cv2.typing import MatLike
from mediapipe.tasks.python.core.base_options import BaseOptions
from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions, RunningMode

from services.liveness import light, pixels
from services.liveness.traces import VIEW_POINTS
from services.liveness.unwrap import Unwrap

_MIN_SIDE_PX = 240
_MAX_SIDE_PX = 2048
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
# More pixels add time to the landmarks and nothing to them.
_WORKING_SIDE_PX = 960
_KEYFRAME_QUALITY = 92
_PASSIVE_INPUT_PX = 128
_PASSIVE_BOX_SCALE = 2.7
_SPOOF_INPUT_PX = 256
# Landmarks end at the brows' upper edge; the boxes that model A was trained with reach up to the hair.
_FOREHEAD = 0.15

# Indices of MediaPipe's face mesh: six around each eye (corners first and fourth), inner lips, outer eye corners.
_EYES = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))
_INNER_LIPS = (13, 14)
_OUTER_EYE_CORNERS = (33, 263)


class ModelFileError(Exception):
    """A model file is not the one that the service was started with."""


class FrameModel:
    """Landmarker and passive models; `observe` and `keyframe` are what the service calls over the pipe."""

    def __init__(self, landmarker: bytes, passive_onnx: bytes, spoof_tflite: bytes) -> None:
        self._landmarker = FaceLandmarker.create_from_options(
            FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=landmarker),
                running_mode=RunningMode.IMAGE,
                num_faces=2,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
        )
        self._unwrap = Unwrap(landmarker)
        options = onnxruntime.SessionOptions()
        # One call at a time in each worker; more workers, not more threads, use more cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._passive = onnxruntime.InferenceSession(passive_onnx, options, providers=["CPUExecutionProvider"])
        self._spoof = Interpreter(model_content=spoof_tflite, num_threads=1)
        self._spoof.allocate_tensors()
        self._spoof_input = self._spoof.get_input_details()[0]["index"]
        # By name, since their order differs from converter to converter: the leaves' scores, and which leaf was
        # reached.
        self._spoof_outputs = [detail["index"] for detail in sorted(self._spoof.get_output_details(), key=_name)]

    def observe(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Say what each JPEG of `blobs` shows, as `observation.from_worker` reads it.

        `header` is {"passive": [whether model A and the traces of screens are asked for, ...], "spoof": [whether model
        B is asked, ...], "light": whether the light on the faces is asked for; not when it is absent}.
        """
        answers: list[Any] = []
        lit = bool(header.get("light"))
        for jpeg, passive, spoof in zip(blobs, header["passive"], header["spoof"], strict=True):
            frame_bgr = decode_bgr(jpeg)
            seen = (
                "unreadable"
                if frame_bgr is None
                else self._observation(frame_bgr, passive=passive, spoof=spoof, lit=lit)
            )
            answers.append(seen)
        return {"frames": answers}, []

    def keyframe(self, _: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Make a JPEG anew from the pixels of one: nothing else that the file held is in it."""
        frame_bgr = decode_bgr(blobs[0])
        if frame_bgr is None:
            return {}, []
        return {}, [bytes(cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, _KEYFRAME_QUALITY])[1])]

    def live(self, frame_bgr: MatLike, face_box: tuple[float, float, float, float]) -> float:
        """Model A's probability that the face in `face_box` (left, top, width, height in pixels) is no picture of one.

        It takes BGR, 0 to 255, of the box enlarged by 2.7 or as far as the frame reaches; class 0 is live. The face is
        brought to one brightness before (pixels.exposed): the model takes some faces in little light for pictures.
        """
        crop = cv2.resize(_enlarged(frame_bgr, face_box), (_PASSIVE_INPUT_PX, _PASSIVE_INPUT_PX))
        crop = pixels.exposed(crop, _luma(frame_bgr, face_box))
        tensor = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], dtype=np.float32)
        logits: npt.NDArray[np.float32] = self._passive.run(None, {"input": tensor})[0][0]
        powers = np.exp(logits - logits.max())
        return float(powers[0] / powers.sum())

    def spoof(self, frame_bgr: MatLike, face_box: tuple[float, float, float, float]) -> float:
        """Model B's score that the face in `face_box` is a picture of one: 0 for a face, 1 and above for a picture.

        It takes RGB, 0 to 1, of the box itself; it answers a tree's leaf scores and which leaf was reached, and the
        score is the sum of their products' magnitudes (syaringan357, Android-MobileFaceNet-MTCNN-FaceAntiSpoofing;
        after Liu et al., Deep Tree Learning for Zero-shot Face Anti-Spoofing, 2019).
        """
        crop = cv2.resize(pixels.within(frame_bgr, face_box), (_SPOOF_INPUT_PX, _SPOOF_INPUT_PX))
        tensor = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32)[None] / 255
        self._spoof.set_tensor(self._spoof_input, tensor)
        self._spoof.invoke()
        scores, leaves = (self._spoof.get_tensor(index)[0] for index in self._spoof_outputs)
        return float(np.abs(scores * leaves).sum())

    def _traces(
        self,
        frame_bgr: MatLike,
        box_px: tuple[float, float, float, float],
        points_px: npt.NDArray[np.float64],
        *,
        passive: bool,
        spoof: bool,
    ) -> dict[str, Any]:
        """As traces.Traces has them. `points_px` are x, y and z of all landmarks in pixels."""
        grey = cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2GRAY)
        small_bgr = pixels.coarse(frame_bgr)
        height, width = frame_bgr.shape[:2]
        left, top, across, down = box_px
        sides, framed = pixels.sides(grey, box_px) if passive else (None, None)
        sharp, contrast = pixels.sharpness(grey, box_px)
        view = points_px[list(VIEW_POINTS)]
        view = (view - view.mean(axis=0)) / box_px[2]
        return {
            "spoof": self.spoof(frame_bgr, box_px) if spoof else None,
            "grid": pixels.grid(grey, box_px) if passive else None,
            "sides": sides,
            "framed": framed,
            "sharp": sharp,
            "contrast": contrast,
            "tone": list(pixels.tone(small_bgr, (left / width, top / height, across / width, down / height))),
            "view": [round(float(value), 4) for value in view.ravel()],
            "layout": pixels.layout(small_bgr),
            "shape": self._unwrap.shape(points_px),
            "skin": self._unwrap.skin(grey, points_px),
        }

    def _observation(self, frame_bgr: MatLike, *, passive: bool, spoof: bool, lit: bool) -> dict[str, Any]:
        frame_rgb = cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)
        found = self._landmarker.detect(mediapipe.Image(mediapipe.ImageFormat.SRGB, frame_rgb))
        if len(found.face_landmarks) != 1:
            return {"faces": min(len(found.face_landmarks), 2)}
        height, width = frame_bgr.shape[:2]
        solid_px = np.array([(p.x * width, p.y * height, p.z * width) for p in found.face_landmarks[0]])
        points_px = solid_px[:, :2]
        expression = {shape.category_name: shape.score for shape in found.face_blendshapes[0]}
        yaw, pitch, roll = pose_deg(found.facial_transformation_matrixes[0])
        left, top = (float(value) for value in points_px.min(axis=0))
        right, bottom = (float(value) for value in points_px.max(axis=0))
        forehead = _FOREHEAD * (bottom - top)
        box_px = (left, top - forehead, right - left, bottom - top + forehead)
        return {
            "faces": 1,
            "face": {
                "yaw": yaw,
                "pitch": pitch,
                "roll": roll,
                "smile": (expression["mouthSmileLeft"] + expression["mouthSmileRight"]) / 2,
                "eyes": float(np.mean([_eye_openness(points_px[list(eye)]) for eye in _EYES])),
                "mouth": _distance(points_px, *_INNER_LIPS) / _distance(points_px, *_OUTER_EYE_CORNERS),
                "luma": _luma(frame_bgr, box_px),
                "box": [left / width, top / height, (right - left) / width, (bottom - top) / height],
                "live": self.live(frame_bgr, box_px) if passive else None,
                "traces": self._traces(frame_bgr, box_px, solid_px, passive=passive, spoof=spoof),
                "light": light.of_face(frame_bgr, points_px) if lit else None,
            },
        }


def decode_bgr(jpeg: bytes) -> MatLike | None:
    """The picture, rows x columns x 3 bytes, upright as its EXIF orientation says and at most 960 pixels a side.

    None for what is no whole JPEG with sides of 240 to 2048 pixels.
    """
    if not jpeg.startswith(_JPEG_START) or not jpeg.endswith(_JPEG_END):
        return None
    try:
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if picture is None or not _MIN_SIDE_PX <= min(picture.shape[:2]) <= max(picture.shape[:2]) <= _MAX_SIDE_PX:
        return None
    scale = _WORKING_SIDE_PX / max(picture.shape[0], picture.shape[1])
    return picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def pose_deg(matrix: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a 4x4 transform of MediaPipe's canonical face (x right, y up, z to the camera).

    Yaw grows to the person's own left, which is the right of a picture that is not mirrored; pitch grows downwards.
    """
    rotation = np.asarray(matrix, dtype=np.float64)[:3, :3]
    rotation = rotation / np.linalg.norm(rotation, axis=0)
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = -np.arcsin(np.clip(rotation[1, 2], -1, 1))
    roll = np.arctan2(rotation[1, 0], rotation[1, 1])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def serve(arguments: Mapping[str, Any]) -> FrameModel:
    """The worker's target.

    `arguments` is {"landmarker_file", "landmarker_sha256", "passive_file", "passive_sha256", "spoof_file",
    "spoof_sha256"}; digests in hex. Raises ModelFileError when a file is not what its digest says: receipts name the
    digests.
    """
    return FrameModel(
        _model_file(arguments["landmarker_file"], arguments["landmarker_sha256"]),
        _model_file(arguments["passive_file"], arguments["passive_sha256"]),
        _model_file(arguments["spoof_file"], arguments["spoof_sha256"]),
    )


def _model_file(path: str, sha256: str) -> bytes:
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(f"{Path(path).name} has changed since the service started")
    return content


def _name(detail: Mapping[str, Any]) -> str:
    return str(detail["name"])


def _eye_openness(eye_px: npt.NDArray[np.float64]) -> float:
    """Height over width of one eye (Soukupova and Cech, Real-Time Eye Blink Detection using Facial Landmarks, 2016)."""
    heights = _distance(eye_px, 1, 5) + _distance(eye_px, 2, 4)
    return heights / (2 * _distance(eye_px, 0, 3))


def _distance(points_px: npt.NDArray[np.float64], one: int, other: int) -> float:
    return max(float(np.linalg.norm(points_px[one] - points_px[other])), 1e-6)


def _luma(frame_bgr: MatLike, box_px: tuple[float, float, float, float]) -> float:
    height, width = frame_bgr.shape[:2]
    left, top = max(0, int(box_px[0])), max(0, int(box_px[1]))
    right, bottom = min(width, int(box_px[0] + box_px[2])), min(height, int(box_px[1] + box_px[3]))
    if right <= left or bottom <= top:
        return 0.0
    return float(cv2.cvtColor(frame_bgr[top:bottom, left:right], cv2.COLOR_BGR2GRAY).mean())


def _enlarged(frame_bgr: MatLike, box_px: tuple[float, float, float, float]) -> MatLike:
    """The box enlarged about its centre, less where the frame is too small, and moved to lie within it."""
    height: int = frame_bgr.shape[0]
    width: int = frame_bgr.shape[1]
    left, top, box_width, box_height = box_px
    scale: float = min((height - 1) / box_height, (width - 1) / box_width, _PASSIVE_BOX_SCALE)
    crop_width, crop_height = box_width * scale, box_height * scale
    x = int(min(max(left + box_width / 2 - crop_width / 2, 0.0), width - 1 - crop_width))
    y = int(min(max(top + box_height / 2 - crop_height / 2, 0.0), height - 1 - crop_height))
    return frame_bgr[y : y + int(crop_height) + 1, x : x + int(crop_width) + 1]
