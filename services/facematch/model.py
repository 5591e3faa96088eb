"""Finding the face of a picture, embedding it and rating how well it shows. Runs only in a sandboxed worker process.

YuNet and SFace of OpenCV Zoo, in onnxruntime. onnxruntime reports home unless it is told not to before its import; the
worker has no network in any case.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from services.facematch.alignment import ALIGNED_PX, to_template
from services.facematch.detection import CELL_PX, INPUT_PX, Face, prominence, read_faces
from services.facematch.image import PictureFaultError, decode_bgr
from services.facematch.pictures import FaceRule, Fault, Limits, Quality
from services.facematch.quality import quality_of

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

_PPM = 1_000_000


class ModelFileError(Exception):
    """A model file is not the one that the service was started with."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The face that is meant: its embedding, of length 1; its quality; how many faces were passed over for it."""

    embedding: npt.NDArray[np.float32]
    quality: Quality
    passed_over: int


class FaceModel:
    """Detector and embedder; `read` is what the service calls over the pipe."""

    def __init__(self, detector_onnx: bytes, embedder_onnx: bytes) -> None:
        self._detector = _session(detector_onnx)
        self._embedder = _session(embedder_onnx)
        self._maps = [output.name for output in self._detector.get_outputs()]

    def read(self, header: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer each picture of `blobs` with its face's embedding, or with why there is none.

        `header` is {"rules": [the fields of FaceRule, for each picture]}. The answer is {"faults": [a Fault's value, or
        "" for none, ...], "qualities": [the values of Quality in its order, or none with a fault, ...], "others": how
        many faces were passed over} and as many blobs: EMBEDDING_VALUES little-endian float32, or nothing.
        """
        faults: list[str] = []
        qualities: list[tuple[int, ...]] = []
        embeddings: list[bytes] = []
        others = 0
        for picture, fields in zip(blobs, header["rules"], strict=True):
            try:
                seen = self.of(decode_bgr(picture, Limits()), FaceRule(**fields))
                embeddings.append(seen.embedding.astype("<f4").tobytes())
                qualities.append(astuple(seen.quality))
                others += seen.passed_over
                faults.append("")
            except PictureFaultError as error:
                embeddings.append(b"")
                qualities.append(())
                faults.append(error.fault.value)
        return {"faults": faults, "qualities": qualities, "others": others}, embeddings

    def of(self, picture_bgr: MatLike, rule: FaceRule) -> Seen:
        """The face that `rule` means.

        A face that fills its picture is larger than those YuNet was trained on (10 to 300 pixels, says OpenCV Zoo) and
        lacks the surroundings it was seen in: where a document shows none, or one that is cut off, it is looked for
        again within a border. (Photos of two sample people, cut closely in three ways, in 23 sizes from 64 to 640
        pixels, against their clips: by 0.01 more alike on average, and the least of 0.39 became 0.53.)
        Raises PictureFaultError NO_FACE, SEVERAL_FACES or FACE_TOO_SMALL.
        """
        faces = self.detect(picture_bgr, rule.min_score_ppm)
        if rule.takes_largest and (not faces or _is_cut_off(_most_prominent(faces, picture_bgr), picture_bgr)):
            border = max(picture_bgr.shape[:2]) // 2
            wider_bgr = cv2.copyMakeBorder(picture_bgr, border, border, border, border, cv2.BORDER_CONSTANT)
            within = self.detect(wider_bgr, rule.min_score_ppm)
            faces = [face.moved(-border) for face in within] or faces
        face = meant(faces, picture_bgr, rule)
        # What lies outside of the picture is black, as within a border.
        aligned_bgr = cv2.warpAffine(picture_bgr, to_template(face.landmarks), (ALIGNED_PX, ALIGNED_PX))
        quality = quality_of(picture_bgr, face, aligned_bgr, [other for other in faces if other is not face])
        return Seen(self.embed_aligned(aligned_bgr), quality, len(faces) - 1)

    def embed_aligned(self, aligned_bgr: MatLike) -> npt.NDArray[np.float32]:
        """The embedding, of length 1, of an upright face of ALIGNED_PX x ALIGNED_PX. SFace takes RGB, 0 to 255."""
        values = _run(self._embedder, aligned_bgr[:, :, ::-1])[0].reshape(-1)
        return np.asarray(values / np.linalg.norm(values), dtype=np.float32)

    def detect(self, picture_bgr: MatLike, min_score_ppm: int) -> list[Face]:
        """All faces of a picture, in its pixels, best first. YuNet takes BGR, 0 to 255."""
        input_bgr, scale = _letterbox(picture_bgr)
        maps = dict(zip(self._maps, _run(self._detector, input_bgr), strict=True))
        return [face.scaled(1 / scale) for face in read_faces(maps, min_score_ppm / _PPM, input_bgr.shape[1])]


def meant(faces: Sequence[Face], picture_bgr: MatLike, rule: FaceRule) -> Face:
    """The face of a picture that its rule means.

    Raises PictureFaultError NO_FACE, SEVERAL_FACES or FACE_TOO_SMALL.
    """
    if not faces:
        raise PictureFaultError(Fault.NO_FACE)
    if len(faces) > 1 and not rule.takes_largest:
        raise PictureFaultError(Fault.SEVERAL_FACES)
    face = _most_prominent(faces, picture_bgr)
    if float(face.box[2:].min()) < rule.min_face_px:
        raise PictureFaultError(Fault.FACE_TOO_SMALL)
    return face


def _most_prominent(faces: Sequence[Face], picture_bgr: MatLike) -> Face:
    """The largest and most central one, of one face or more."""
    height, width = picture_bgr.shape[:2]
    return max(faces, key=lambda found: prominence(found, width, height))


def _is_cut_off(face: Face, picture_bgr: MatLike) -> bool:
    """Whether a part of the face's box is outside of its picture."""
    height, width = picture_bgr.shape[:2]
    left, top, face_width, face_height = (float(value) for value in face.box)
    return left < 0 or top < 0 or left + face_width > width or top + face_height > height


def serve(arguments: Mapping[str, Any]) -> FaceModel:
    """The worker's target.

    `arguments` is {"detector_file", "detector_sha256", "embedder_file", "embedder_sha256"}; digests in hex. Raises
    ModelFileError when a file is not what its digest says: receipts name the digests.
    """
    return FaceModel(
        _model_file(arguments["detector_file"], arguments["detector_sha256"]),
        _model_file(arguments["embedder_file"], arguments["embedder_sha256"]),
    )


def _model_file(path: str, sha256: str) -> bytes:
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(f"{Path(path).name} has changed since the service started")
    return content


def _session(model_onnx: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One call at a time in each worker; more workers, not more threads, use more cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model_onnx, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, picture: MatLike) -> list[npt.NDArray[np.float32]]:
    """All outputs of a model whose one input is 1 x channels x rows x columns."""
    tensor = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32)
    outputs: list[npt.NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: tensor})
    return outputs


def _letterbox(picture: MatLike) -> tuple[MatLike, float]:
    """The picture with a longer side of INPUT_PX at most, black beside and below up to whole cells; its factor of size.

    A small picture keeps its size. Enlarged to INPUT_PX, the forty people of bench.facematch_accuracy (92 x 112 pixels)
    had 16 false matches at a threshold of 0.425 where OpenCV's own calls, which never resize, had 2: YuNet puts its
    points a little elsewhere in pixels that nobody took.
    Not up to a square: black pixels cost as much as others, 14 ms for a square and 10 ms for 640 x 384.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, INPUT_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    padded = np.zeros((*(-(-side // CELL_PX) * CELL_PX for side in reversed(size)), 3), np.uint8)
    padded[: size[1], : size[0]] = picture if scale == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return padded, scale
