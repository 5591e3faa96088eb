"""Fusing keeps what a model computes, and refuses a network that it does not understand."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.local.assets.fold import FoldError
from deploy.local.assets.fuse import fuse

RANDOM = np.random.default_rng(5)


def chain(file: Path, *, slope: float = 0.25, ends_with_prelu: bool = False) -> Path:
    """Convolution, normalisation, PRelu, depthwise convolution, PRelu, normalisation, as SFace is made."""
    values = {
        "w1": RANDOM.normal(size=(4, 3, 3, 3)),
        "w2": RANDOM.normal(size=(4, 1, 3, 3)),
        "slopes": np.full((4, 1, 1), slope),
        "negative": np.array([-0.5, 0.1, 0.3, 2.0]).reshape(4, 1, 1),
        **{name: RANDOM.uniform(0.5, 2.0, 4) for name in ("gamma", "beta", "mean", "variance")},
    }
    normal = ["gamma", "beta", "mean", "variance"]
    nodes = [
        helper.make_node("Conv", ["data", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *normal], ["b"], epsilon=1e-3),
        helper.make_node("PRelu", ["b", "slopes"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["d", "negative"], ["e"]),
        helper.make_node("BatchNormalization", ["e", *normal], ["f"], epsilon=1e-3),
    ]
    last = "e" if ends_with_prelu else "f"
    graph = helper.make_graph(
        nodes[:-1] if ends_with_prelu else nodes,
        "chain",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    return file


def output_of(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    data = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    return np.asarray(session.run(None, {"data": data})[0])


def test_computes_the_same_without_prelu_and_normalisation(tmp_path: Path) -> None:
    source = chain(tmp_path / "chain.onnx")
    fused = fuse(source)
    assert {node.op_type for node in onnx.load_from_string(fused).graph.node} == {"Conv", "Relu", "Add"}
    assert np.allclose(output_of(fused), output_of(source.read_bytes()), rtol=1e-4, atol=1e-4)


def test_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = chain(tmp_path / "chain.onnx")
    assert fuse(source) == fuse(source)


@pytest.mark.parametrize(("slope", "ends_with_prelu"), [(1.0, False), (0.25, True)])
def test_refuses_what_it_cannot_rewrite(tmp_path: Path, slope: float, ends_with_prelu: bool) -> None:
    with pytest.raises(FoldError):
        fuse(chain(tmp_path / "chain.onnx", slope=slope, ends_with_prelu=ends_with_prelu))


def branched(file: Path, *, slope: float = 0.25, shared: bool = False) -> Path:
    """Model A's blocks: 13 channels wide, a depthwise layer, a branch around both, weights for whole channels."""
    values = {
        "w1": RANDOM.normal(size=(13, 3, 3, 3)),
        "b1": RANDOM.normal(size=13),
        "w2": RANDOM.normal(size=(13, 1, 3, 3)),
        "w3": RANDOM.normal(size=(13, 13, 1, 1)),
        "w4": RANDOM.normal(size=(16, 13, 1, 1)),
        "s1": np.full((13, 1, 1), slope),
        "s2": RANDOM.uniform(-0.5, 0.5, (13, 1, 1)),
        "s3": RANDOM.uniform(-0.5, 0.5, (16, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["data", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["a", "s1"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=13, pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c", "s1" if shared else "s2"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["pooled"]),
        helper.make_node("Sigmoid", ["pooled"], ["weight"]),
        helper.make_node("Mul", ["e", "weight"], ["weighted"]),
        helper.make_node("Add", ["b", "weighted"], ["f"]),
        helper.make_node("Conv", ["f", "w4"], ["g"]),
        helper.make_node("PRelu", ["g", "s3"], ["h"]),
    ]
    graph = helper.make_graph(
        nodes,
        "branched",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 16, 8, 8])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    return file


def test_a_branched_network_computes_the_same_in_whole_blocks_of_channels(tmp_path: Path) -> None:
    source = branched(tmp_path / "branched.onnx")
    fused = onnx.load_from_string(fuse(source))
    assert "PRelu" not in {node.op_type for node in fused.graph.node}
    weights = {tensor.name: tensor.dims[0] for tensor in fused.graph.initializer}
    assert all(weights[node.input[1]] % 16 == 0 for node in fused.graph.node if node.op_type == "Conv")
    assert np.allclose(output_of(fuse(source)), output_of(source.read_bytes()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("slope", "shared"), [(1.0, False), (0.25, True)])
def test_refuses_a_branched_network_that_it_would_change(tmp_path: Path, slope: float, shared: bool) -> None:
    with pytest.raises(FoldError):
        fuse(branched(tmp_path / "branched.onnx", slope=slope, shared=shared))


def test_refuses_a_branched_network_whose_last_layer_does_not_fill_its_blocks(tmp_path: Path) -> None:
    file = branched(tmp_path / "branched.onnx")
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("Flatten", ["e"], ["flat"]))
    onnx.save(model, file)
    with pytest.raises(FoldError, match="13 channels"):
        fuse(file)
