"""Runs one model in OpenVINO, in an environment that has it: `python peer_openvino.py ENGINE MODEL INPUTS.npy`.

ENGINE is runtime (PyPI's openvino) or provider (PyPI's onnxruntime-openvino). Each line {"index": n} runs one input;
the answer is {"ms": its processor time, "output": the first output}. For bench.face_engines, which starts it.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[Any], Any]


def _runtime(model: str) -> Run:
    # Imported by name: no dependency of this project.
    core: Any = importlib.import_module("openvino").Core()
    hints = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(model), "CPU", hints).create_infer_request()

    def run(tensor: Any) -> Any:
        request.infer([tensor])
        return request.get_output_tensor(0).data

    return run


def _provider(model: str) -> Run:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    provider = ("OpenVINOExecutionProvider", {"device_type": "CPU", "num_of_threads": "1"})
    session = onnxruntime.InferenceSession(model, options, providers=[provider])
    if session.get_providers()[0] != provider[0]:
        raise SystemExit("the OpenVINO provider is not there")
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})[0]


def main(engine: str, model: str, inputs: str) -> None:
    """Answer until stdin ends."""
    run = {"runtime": _runtime, "provider": _provider}[engine](model)
    tensors = np.load(inputs)
    for line in sys.stdin:
        index = json.loads(line)["index"]
        started = time.process_time()
        output = run(tensors[index : index + 1])
        spent_ms = (time.process_time() - started) * 1e3
        print(json.dumps({"ms": spent_ms, "output": np.asarray(output).reshape(-1).tolist()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
