"""Compares faces with deepface, in an environment that has it: `python peer_deepface.py PICTURES_DIR`.

SFace behind YuNet, deepface's own pipeline on one thread. Each line {"way": ...} compares the first picture of the
folder, by their names, with the others: "represent" embeds each picture once, "verify" calls deepface.verify for each
of the others, which is how it is used. The answer is {"wall_ms", "cosine": the least}. DEEPFACE_HOME holds the model
files, so that nothing is downloaded. For bench.facematch, which starts it.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def _one_thread() -> None:
    """Hold deepface's onnxruntime, whose sessions take every core, to one thread, as the others are."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession

    def made(model: str, sess_options: Any = None, **more: Any) -> Any:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return session(model, options, **more)

    onnxruntime.InferenceSession = made
    cv2.setNumThreads(1)


def main(folder: str) -> None:
    """Answer until stdin ends."""
    _one_thread()
    # Imported by name: no dependency of this project.
    deepface: Any = importlib.import_module("deepface.DeepFace")
    pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]

    models = {"model_name": "SFace", "detector_backend": "yunet"}

    def decoded(data: bytes) -> Any:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    def represent() -> float:
        faces = [deepface.represent(decoded(data), **models)[0]["embedding"] for data in pictures]
        reference, *others = (np.array(face) / np.linalg.norm(face) for face in faces)
        return min(float(reference @ other) for other in others)

    def verify() -> float:
        reference, *others = map(decoded, pictures)
        return min(1 - float(deepface.verify(reference, other, **models)["distance"]) for other in others)

    ways = {"represent": represent, "verify": verify}
    for line in sys.stdin:
        way = ways[json.loads(line)["way"]]
        started = time.perf_counter()
        cosine = way()
        print(json.dumps({"wall_ms": (time.perf_counter() - started) * 1e3, "cosine": cosine}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
