"""Rewrites the folded models so that onnxruntime's fast kernels take the whole network.

onnxruntime keeps activations in a blocked layout (NCHWc) from one convolution to the next, twice as fast as the plain
one, but only through operators that have a kernel there: PRelu has none, so SFace's 27 PRelus cost it the layout.
With slopes s, PRelu(x) = s x + (1 - s) relu(x) = (1 - s) (relu(x) + s / (1 - s) x): a Relu, a 1 x 1 depthwise
convolution and an addition, which have; the factor 1 - s goes into the weights of the layer that follows. Batch
normalisation goes into the convolution before it.

Only single operations on each number (no sums, whose order depends on the processor), so the bytes are the same
everywhere, and no operator or layout of one processor is stored: onnxruntime chooses those when it loads the model.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from deploy.local.assets import blocks
from deploy.local.assets.fold import FoldError

_FROM_THE_LENGTH: Final = -1  # in a Reshape: whatever is left
# A slope this close to 1 would lose digits in s / (1 - s); SFace has none.
_MIN_STEP: Final = 1e-3

Array = npt.NDArray[np.float64]


def fuse(source: Path) -> bytes:
    """The model at `source` rewritten: SFace as a chain of layers, model A with its branches, YuNet of any size.

    Raises FoldError when the network is not made of the layers that this understands, or onnx's checker refuses it.
    """
    model = onnx.load(source)
    operators = {node.op_type for node in model.graph.node}
    if "PRelu" not in operators:
        _free_size(model.graph)
    elif "Add" in operators:
        blocks.rewrite(model.graph)
    else:
        _Chain(model.graph).rewrite()
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise FoldError(f"{source.name}: the fused model is refused by onnx: {error}") from error
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _free_size(graph: Any) -> None:
    """Let YuNet take any height and width that its largest stride divides; outputs have as many cells as it has."""
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in shapes:
            batch, _, values = numpy_helper.to_array(tensor)
            shape = np.array([batch, _FROM_THE_LENGTH, values], np.int64)
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    _, _, height, width = graph.input[0].type.tensor_type.shape.dim
    height.dim_param, width.dim_param = "height", "width"
    for output in graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells_of_{output.name}"
    del graph.value_info[:]


class _Chain:
    """A network in which each layer takes what the one before gave, rewritten layer by layer."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._nodes: list[Any] = []
        self._value: str = graph.input[0].name
        # What the next layer must multiply each of its input channels with.
        self._factor: Array | None = None

    def rewrite(self) -> None:
        """Replace the graph's nodes and constants. Raises FoldError for a layer it does not know."""
        last = self._graph.output[0].name
        expected = self._value
        for node in self._graph.node:
            if node.op_type == "Constant":
                continue  # the ratio of Dropout, which does nothing outside training
            if node.input[0] != expected:
                raise FoldError(f"{node.op_type} {node.output[0]}: the network is not one chain")
            expected = node.output[0]
            if node.op_type == "BatchNormalization":
                self._normalise(node)
            elif node.op_type == "PRelu":
                self._prelu(node)
            elif node.op_type != "Dropout":
                self._keep(node)
        if self._factor is not None:
            raise FoldError("no layer follows the last PRelu")
        self._nodes[-1].output[0] = last
        needed = sorted({name for node in self._nodes for name in node.input} & set(self._constants))
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(numpy_helper.from_array(self._constants[name], name) for name in needed)

    def _keep(self, node: Any) -> None:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        kept.input[0] = self._value
        if self._factor is not None:
            if node.op_type != "Conv":
                raise FoldError(f"{node.op_type} {node.output[0]} follows a PRelu")
            kept.input[1] = self._scaled_input(node)
            self._factor = None
        self._add(kept)

    def _scaled_input(self, node: Any) -> str:
        """Weights of a convolution, multiplied with the factor along its input channels."""
        weights = self._float64(node.input[1])
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        depthwise = group > 1
        if depthwise and weights.shape[1] != 1:
            raise FoldError(f"Conv {node.output[0]} is neither plain nor depthwise")
        factor = self._factor if self._factor is not None else np.ones(1)
        axes = (-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)
        return self._store(f"{node.output[0]}_weights", weights * factor.reshape(axes))

    def _normalise(self, node: Any) -> None:
        gamma, beta, mean, variance = (self._float64(name) for name in node.input[1:5])
        epsilon = next(attribute.f for attribute in node.attribute if attribute.name == "epsilon")
        scale = gamma / np.sqrt(variance + epsilon)
        offset = beta - mean * scale
        name, before = node.output[0], self._nodes[-1]
        if self._factor is not None:  # a PRelu stands before it: a depthwise convolution of its own
            weights = self._store(f"{name}_weights", (scale * self._factor).reshape(-1, 1, 1, 1))
            self._factor = None
            bias = self._store(f"{name}_bias", offset)
            self._add(
                helper.make_node("Conv", [self._value, weights, bias], [name], group=scale.size, kernel_shape=[1, 1])
            )
            return
        if before.op_type not in {"Conv", "Gemm"}:
            raise FoldError(f"BatchNormalization {name} follows {before.op_type}")
        weights_before = self._float64(before.input[1])
        bias_before = self._float64(before.input[2]) if len(before.input) > 2 else np.zeros(scale.size)  # noqa: PLR2004
        across = scale.reshape((-1,) + (1,) * (weights_before.ndim - 1))
        named = [
            self._store(f"{name}_weights", weights_before * across),
            self._store(f"{name}_bias", bias_before * scale + offset),
        ]
        del before.input[1:]
        before.input.extend(named)

    def _prelu(self, node: Any) -> None:
        slopes = self._float64(node.input[1]).reshape(-1)
        step = 1.0 - slopes
        if float(np.abs(step).min()) < _MIN_STEP:
            raise FoldError(f"PRelu {node.output[0]}: a slope is 1")
        name, value = node.output[0], self._value
        weights = self._store(f"{name}_weights", (slopes / step).reshape(-1, 1, 1, 1))
        self._nodes.append(helper.make_node("Relu", [value], [f"{name}_positive"]))
        self._nodes.append(
            helper.make_node("Conv", [value, weights], [f"{name}_linear"], group=step.size, kernel_shape=[1, 1])
        )
        self._add(helper.make_node("Add", [f"{name}_linear", f"{name}_positive"], [name]))
        self._factor = step

    def _add(self, node: Any) -> None:
        self._nodes.append(node)
        self._value = node.output[0]

    def _float64(self, name: str) -> Array:
        return np.asarray(self._constants[name], np.float64)

    def _store(self, name: str, values: Array) -> str:
        self._constants[name] = np.ascontiguousarray(values, np.float32)
        return name
