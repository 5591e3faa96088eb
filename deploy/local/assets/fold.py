"""Folds OpenCV Zoo's block-quantised ONNX models to plain float32.

onnxruntime refuses both int8bq files as they are published: some DequantizeLinear nodes carry a block_size although
their scale is per tensor, and every initialiser is declared as a graph input as well. Only weights are quantised, so
the dequantisation can be done once: the numbers that reach the convolutions are the same float32 numbers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


class FoldError(Exception):
    """The model is not of the shape this folding understands."""


def fold(source: Path) -> bytes:
    """The model at `source`, with DequantizeLinear and Reshape of constants computed and stored as float32.

    Raises FoldError if a quantised node remains or onnx's own checker refuses the result.
    """
    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input):
            constants[node.output[0]] = _dequantise(node, *(constants[name] for name in node.input))
        elif node.op_type == "Reshape" and all(name in constants for name in node.input):
            values, shape = (constants[name] for name in node.input)
            constants[node.output[0]] = values.reshape(shape)
        else:
            kept.append(node)
    if any(node.op_type == "DequantizeLinear" for node in kept):
        raise FoldError(f"{source.name}: a DequantizeLinear depends on an input of the graph")

    needed = {name for node in kept for name in node.input}
    inputs = [value for value in graph.input if value.name in needed and value.name not in constants]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.input.extend(inputs)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(constants[name]), name) for name in sorted(needed & set(constants))
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise FoldError(f"{source.name}: the folded model is refused by onnx: {error}") from error
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _dequantise(
    node: Any, quantised: npt.NDArray[Any], scale: npt.NDArray[np.float32], zero_point: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """(quantised - zero_point) * scale, as the ONNX operator defines it: per tensor, or per block along `axis`."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if scale.size > 1:
        axis, block_size = attributes["axis"], attributes["block_size"]
        length = quantised.shape[axis]
        scale = np.repeat(scale, block_size, axis=axis).take(range(length), axis=axis)
        zero_point = np.repeat(zero_point, block_size, axis=axis).take(range(length), axis=axis)
    return ((quantised.astype(np.int32) - zero_point.astype(np.int32)).astype(np.float32) * scale).astype(np.float32)
