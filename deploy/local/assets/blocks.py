"""Rewrites a branched network, model A's, so that onnxruntime keeps its blocked layout from end to end.

`fuse` says why PRelu must go. In a network with branches it goes in place: PRelu(x) = s x + (1 - s) relu(x) becomes a
Relu, a 1 x 1 depthwise convolution and an addition, with the factor 1 - s in the weights of the convolutions that
follow; where something else follows, a second depthwise convolution applies it.

The layout holds channels in blocks of 8 or 16, depending on the processor, and a depthwise convolution leaves it when
they do not fill the last block. Model A was pruned to 13, 77, 103, 231 and 308 channels: each count is filled up to the
next multiple of 16 with channels that nothing reads, because every weight that would read them is 0.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from deploy.local.assets.fold import FoldError

_BLOCK: Final = 16
# What these make of a channel depends on that channel alone (and on whole pictures of it).
_CHANNEL_BY_CHANNEL: Final = frozenset({"Add", "Mul", "Relu", "PRelu", "Sigmoid", "GlobalAveragePool"})
# A slope this close to 1 would lose digits in s / (1 - s).
_MIN_STEP: Final = 1e-3

Array = npt.NDArray[np.float64]


def rewrite(graph: Any) -> None:
    """Fill up the channels of `graph` and replace its PRelus, in place. Raises FoldError for an unknown layer."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    used = Counter(name for node in graph.node for name in node.input[1:] if node.op_type in {"Conv", "PRelu"})
    if shared := [name for name, times in used.items() if times > 1]:
        raise FoldError(f"two layers share {shared[0]}")
    _fill_up(graph, constants)
    _replace_prelus(graph, constants)
    needed = sorted({name for node in graph.node for name in node.input} & set(constants))
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(numpy_helper.from_array(constants[name], name) for name in needed)


def _fill_up(graph: Any, constants: dict[str, npt.NDArray[Any]]) -> None:
    """Give every convolution whole blocks of output channels. `channels` are what there were of each value."""
    channels: dict[str, int] = {}
    for node in graph.node:
        value = node.input[0] if node.input else ""
        if node.op_type == "Conv":
            channels[node.output[0]] = _fill_up_convolution(node, constants, known=value in channels)
        elif node.op_type in _CHANNEL_BY_CHANNEL and value in channels:
            channels[node.output[0]] = channels[value]
            if node.op_type == "PRelu":
                slopes = constants[node.input[1]]
                constants[node.input[1]] = _filled(slopes, (_whole(len(slopes)), *slopes.shape[1:]))
        elif channels.get(value, _BLOCK) % _BLOCK:
            raise FoldError(f"{node.op_type} {node.output[0]} reads {channels[value]} channels")


def _fill_up_convolution(node: Any, constants: dict[str, npt.NDArray[Any]], *, known: bool) -> int:
    weights = constants[node.input[1]]
    outputs, inputs = weights.shape[:2]
    group = next((attribute for attribute in node.attribute if attribute.name == "group"), None)
    if group is not None and group.i > 1:
        if inputs != 1 or group.i != outputs:
            raise FoldError(f"Conv {node.output[0]} is neither plain nor depthwise")
        group.i = _whole(outputs)
    elif known:
        inputs = _whole(inputs)
    constants[node.input[1]] = _filled(weights, (_whole(outputs), inputs, *weights.shape[2:]))
    if len(node.input) > 2:  # noqa: PLR2004 - the bias comes third
        constants[node.input[2]] = _filled(constants[node.input[2]], (_whole(outputs),))
    return int(outputs)


def _replace_prelus(graph: Any, constants: dict[str, npt.NDArray[Any]]) -> None:
    readers: defaultdict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    readers[graph.output[0].name].append(None)
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == "PRelu":
            nodes += _without_prelu(node, readers[node.output[0]], constants)
        else:
            nodes.append(node)
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _without_prelu(node: Any, readers: Sequence[Any], constants: dict[str, npt.NDArray[Any]]) -> list[Any]:
    slopes = np.asarray(constants[node.input[1]], np.float64).reshape(-1)
    step = 1.0 - slopes
    if float(np.abs(step).min()) < _MIN_STEP:
        raise FoldError(f"PRelu {node.output[0]}: a slope is 1")
    name, value = node.output[0], node.input[0]
    positive = f"{name}_positive"
    added = [helper.make_node("Relu", [value], [positive])]
    if all(reader is not None and reader.op_type == "Conv" and reader.input[0] == name for reader in readers):
        for reader in readers:
            _scale_inputs(reader, step, constants)
        added.append(_depthwise(value, slopes / step, f"{name}_linear", constants))
    else:
        added.append(_depthwise(value, slopes, f"{name}_linear", constants))
        added.append(_depthwise(positive, step, f"{name}_scaled", constants))
        positive = f"{name}_scaled"
    return [*added, helper.make_node("Add", [f"{name}_linear", positive], [name])]


def _scale_inputs(convolution: Any, factor: Array, constants: dict[str, npt.NDArray[Any]]) -> None:
    weights = np.asarray(constants[convolution.input[1]], np.float64)
    depthwise = weights.shape[1] == 1 and weights.shape[0] == factor.size
    across = factor.reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))
    constants[convolution.input[1]] = np.ascontiguousarray(weights * across, np.float32)


def _depthwise(value: str, weights: Array, name: str, constants: dict[str, npt.NDArray[Any]]) -> Any:
    constants[f"{name}_weights"] = np.ascontiguousarray(weights.reshape(-1, 1, 1, 1), np.float32)
    return helper.make_node("Conv", [value, f"{name}_weights"], [name], group=weights.size, kernel_shape=[1, 1])


def _whole(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK


def _filled(values: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    filled = np.zeros(shape, values.dtype)
    filled[tuple(slice(0, length) for length in values.shape)] = values
    return filled
