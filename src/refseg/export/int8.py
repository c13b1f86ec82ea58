"""Weights of a graph as 8-bit numbers, each channel with a scale of its own; activations stay in float32.

onnxruntime turns the weights into float32 again, and `refseg.export.run` lets it do so once, when the graph is loaded:
a file is small, masks hardly change, and a run takes as long as before. Activations in 8 bits too, by onnxruntime's own
static and dynamic quantization, were measured and left out, since they change masks too much (docs/export.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LEAST = 1024  # numbers of a weight that is worth a scale per channel
LARGEST = 127  # of an 8-bit number, without the one that has no opposite


def quantise(file: Path) -> None:
    """Replaces the weights of a graph's layers in place."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    axes = _channels(graph)
    kept, nodes = [], []
    for tensor in graph.initializer:
        axis = axes.get(tensor.name)
        if axis is None or tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST:
            kept.append(tensor)
            continue
        weight = numpy_helper.to_array(tensor)
        numbers, scale = rounded(weight, axis)
        name = tensor.name
        kept += [
            numpy_helper.from_array(numbers, f"{name}.int8"),
            numpy_helper.from_array(scale, f"{name}.scale"),
        ]
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=axis))
    others = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend([*nodes, *others])
    onnx.save(model, file)


def rounded(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from -127 to 127, and the scale of each channel along an axis; their product is nearly the weight."""
    others = tuple(side for side in range(weight.ndim) if side != axis)
    scale = np.abs(weight).max(others, keepdims=True) / LARGEST
    scale[scale == 0] = 1  # of a channel of zeros
    numbers = np.rint(weight / scale).astype(np.int8)
    return numbers, scale.astype(np.float32).reshape(-1)


def _channels(graph: Any) -> dict[str, int]:
    """The axis of the output channels of every weight that layers read, and nothing else reads.

    A row of an embedding is a channel too.
    """
    found: dict[str, int | None] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            axis: int | None = None
            if (node.op_type, place) in (("Conv", 1), ("Gather", 0)):
                axis = 0
            elif (node.op_type, place) == ("MatMul", 1):
                axis = 1
            elif (node.op_type, place) == ("Gemm", 1):
                axis = 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
            found[name] = axis if name not in found or found[name] == axis else None
    sides = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    return {name: axis for name, axis in found.items() if axis is not None and sides.get(name, 0) > axis}
