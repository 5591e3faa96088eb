"""What runs SFace, how fast, how far from float32: `python -m bench.face_engines [--openvino PYTHON]`.

Faces of the two sample people, found and aligned by the service's own code. Integer models are made here of the folded
one by onnxruntime's quantisation, calibrated on every second face and judged on the others: `cosine` is that of a
face's embedding to the float32 one; `drift` is how far the similarity of two faces moves, of one person and of two.
Two people show whether an engine is broken; what a drift costs in error rates they cannot show. One thread each, in
turn, face by face; processor time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process

from bench.peer import Peer
from bench.table import heading, table
from services.facematch.alignment import ALIGNED_PX, to_template
from services.facematch.model import FaceModel
from tests import samples
from tests.facematch.test_service import DETECTOR, EMBEDDER

_FOLDED = "models/face_recognition_sface_2021dec.onnx"
_OPENVINO = Path(__file__).with_name("peer_openvino.py")
_EVERY = {"woman": 12, "man": 3}  # frames
_QUANTISED_FROM_OPSET = 13  # per-channel scales

FloatArray = npt.NDArray[np.float32]
Run = Callable[[FloatArray], npt.NDArray[Any]]
Engine = Callable[[int], tuple[float, FloatArray]]
"""Embeds the face of an index: processor milliseconds, and the embedding, not yet of length 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Aligned faces as SFace takes them, count x 3 x 112 x 112, RGB, and whose each is."""

    tensors: FloatArray
    people: npt.NDArray[np.int64]


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, tensors: FloatArray) -> None:
        self._inputs: Iterator[dict[str, FloatArray]] = ({name: tensor[None]} for tensor in tensors)

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._inputs, None)


def faces_of_the_sample_people() -> Faces:
    """Find and align them."""
    folder = samples.assets_folder()
    model = FaceModel((folder / DETECTOR).read_bytes(), (folder / EMBEDDER).read_bytes())
    tensors, people = [], []
    for person, (name, step) in enumerate(_EVERY.items()):
        for frame in samples.clip_frames(f"{name}.mp4")[::step]:
            for face in model.detect(frame, 700_000)[:1]:
                aligned = cv2.warpAffine(frame, to_template(face.landmarks), (ALIGNED_PX, ALIGNED_PX))
                tensors.append(aligned[:, :, ::-1].transpose(2, 0, 1).astype(np.float32))
                people.append(person)
    return Faces(np.stack(tensors), np.array(people))


def quantised(source: Path, tensors: FloatArray, folder: Path, *, static: bool) -> Path:
    """The model in 8-bit integers: weights per channel, activations by their range in `tensors`, or by each call's."""
    model = onnx.load(source)
    if model.opset_import[0].version < _QUANTISED_FROM_OPSET:
        model = onnx.version_converter.convert_version(model, _QUANTISED_FROM_OPSET)
    plain, ready, made = (folder / f"{source.stem}_{static}_{step}.onnx" for step in ("plain", "ready", "int8"))
    onnx.save(model, plain)
    quant_pre_process(plain, ready, skip_symbolic_shape=True)
    if static:
        quantize_static(
            ready,
            made,
            _Calibration(model.graph.input[0].name, tensors),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    else:
        quantize_dynamic(ready, made, weight_type=QuantType.QUInt8)
    return made


def _timed(run: Run, tensors: FloatArray, index: int) -> tuple[float, FloatArray]:
    started = time.process_time()
    output = run(tensors[index : index + 1])
    return (time.process_time() - started) * 1e3, np.asarray(output).reshape(-1)


def _onnxruntime(model: Path, tensors: FloatArray) -> Engine:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return partial(_timed, lambda tensor: session.run(None, {name: tensor})[0], tensors)


def _opencv(model: Path, tensors: FloatArray) -> Engine:
    cv2.setNumThreads(1)
    embedder = cv2.FaceRecognizerSF.create(str(model), "")
    # It takes the picture, BGR, and turns it round itself.
    return partial(
        _timed, lambda tensor: embedder.feature(tensor[0, ::-1].transpose(1, 2, 0).astype(np.uint8)), tensors
    )


def _openvino(peer: Peer) -> Engine:
    def run(index: int) -> tuple[float, FloatArray]:
        answer = peer.ask({"index": index})
        return answer["ms"], np.array(answer["output"], np.float32)

    return run


def measure(engines: dict[str, Engine], faces: Faces, reference: str) -> list[Sequence[str]]:
    """A row for each engine."""
    for run in engines.values():
        run(0)
    spent: dict[str, list[float]] = {name: [] for name in engines}
    embeddings: dict[str, list[FloatArray]] = {name: [] for name in engines}
    for index in range(len(faces.people)):
        for name, run in engines.items():
            milliseconds, values = run(index)
            spent[name].append(milliseconds)
            embeddings[name].append(values / np.linalg.norm(values))
    held_out = slice(1, None, 2)
    people = faces.people[held_out]
    pairs = np.triu_indices(len(people), 1)
    same = (people[:, None] == people)[pairs]
    exact = np.stack(embeddings[reference])[held_out]
    rows: list[Sequence[str]] = []
    for name in engines:
        found = np.stack(embeddings[name])[held_out]
        cosines = (found * exact).sum(axis=1)
        drift = np.abs((found @ found.T)[pairs] - (exact @ exact.T)[pairs])
        rows.append(
            (
                name,
                f"{float(np.median(spent[name])):.1f}",
                f"{float(np.median(cosines)):.4f}",
                f"{float(cosines.min()):.4f}",
                *(f"{float(drift[of].mean()):.4f}, {float(drift[of].max()):.4f}" for of in (same, ~same)),
            )
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.face_engines", description="What runs SFace how fast")
    parser.add_argument(
        "--openvino", type=Path, metavar="PYTHON", help="of an environment with openvino and onnxruntime-openvino"
    )
    asked = parser.parse_args(arguments)
    assets = samples.assets_folder()
    folded, shipped = assets / _FOLDED, assets / EMBEDDER
    faces = faces_of_the_sample_people()
    calibration = faces.tensors[::2]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dynamic = quantised(folded, calibration, folder, static=False)
        of_folded = quantised(folded, calibration, folder, static=True)
        of_shipped = quantised(shipped, calibration, folder, static=True)
        engines = {
            "onnxruntime, folded": _onnxruntime(folded, faces.tensors),
            "onnxruntime, rewritten (shipped)": _onnxruntime(shipped, faces.tensors),
            "cv2": _opencv(folded, faces.tensors),
            "onnxruntime, folded, int8 dynamic": _onnxruntime(dynamic, faces.tensors),
            "onnxruntime, folded, int8 static": _onnxruntime(of_folded, faces.tensors),
            "onnxruntime, rewritten, int8 static": _onnxruntime(of_shipped, faces.tensors),
        }
        if asked.openvino:
            inputs = folder / "faces.npy"
            np.save(inputs, faces.tensors)
            for engine in ("runtime", "provider"):
                for name, model in (("folded", folded), ("rewritten", shipped), ("folded, int8 static", of_folded)):
                    peer = stack.enter_context(Peer(asked.openvino, _OPENVINO, [engine, str(model), str(inputs)], {}))
                    engines[f"OpenVINO {engine}, {name}"] = _openvino(peer)
        rows = measure(engines, faces, "onnxruntime, folded")
    heading(f"SFace on {len(faces.people)} faces of two people, one thread; judged on the half not calibrated on")
    table(("engine", "ms", "cosine", "least", "drift, one person: mean, most", "two people"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
