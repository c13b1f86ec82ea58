"""Weights in 8 bits: how far they are from the others, and which become some."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from refseg.export.int8 import quantise, rounded


@pytest.mark.parametrize("axis", [0, 1])
def test_a_number_is_off_by_half_a_step_of_its_channel(axis):
    weight = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    weight[2] *= 1000
    weight[:, 3] = 0
    weight[4] = 0
    numbers, scale = rounded(weight, axis)
    assert numbers.dtype == np.int8 and numbers.min() >= -127 and scale.shape == (weight.shape[axis],)
    steps = scale[:, None] if axis == 0 else scale[None]
    assert (np.abs(numbers * steps - weight) <= steps * 0.5001).all()
    assert np.array_equal(np.abs(numbers).max(1 - axis) > 100, np.abs(weight).max(1 - axis) > 0)


def drawn(folder):
    """Every layer that has weights, two weights that are no layer's alone, and one that is too small."""
    generator = np.random.default_rng(1)
    shapes = {"table": (50, 32), "linear": (32, 64), "gemm": (64, 64), "gemm_t": (48, 64), "conv": (16, 3, 5, 5),
              "added": (48, 48), "shared": (48, 48), "small": (48, 2)}  # fmt: skip
    weights = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"], axis=0),
        helper.make_node("MatMul", ["a", "linear"], ["b"]),
        helper.make_node("Gemm", ["b", "gemm"], ["c"]),
        helper.make_node("Gemm", ["c", "gemm_t"], ["d"], transB=1),
        helper.make_node("MatMul", ["d", "shared"], ["e"]),
        helper.make_node("Add", ["shared", "added"], ["both"]),
        helper.make_node("MatMul", ["e", "both"], ["f"]),
        helper.make_node("MatMul", ["f", "small"], ["words"]),
        helper.make_node("Conv", ["pixels", "conv"], ["maps"]),
    ]
    graph = helper.make_graph(
        nodes, "drawn",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [9]),
         helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("words", TensorProto.FLOAT, [9, 2]),
         helper.make_tensor_value_info("maps", TensorProto.FLOAT, [1, 16, 5, 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    file = folder / "drawn.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return file


def answers(file):
    generator = np.random.default_rng(2)
    given = {"ids": np.arange(9), "pixels": generator.normal(size=(1, 3, 9, 9)).astype(np.float32)}
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, given)


def test_weights_of_layers_become_8_bit_and_answers_stay_close(tmp_path):
    file = drawn(tmp_path)
    before, size = answers(file), file.stat().st_size
    quantise(file)
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(file).graph.initializer}
    small = sorted(name.removesuffix(".int8") for name, kind in stored.items() if kind == TensorProto.INT8)
    assert small == ["conv", "gemm", "gemm_t", "linear", "table"]
    assert {name for name, kind in stored.items() if kind == TensorProto.FLOAT and not name.endswith(".scale")} == {
        "added", "shared", "small"
    }  # fmt: skip
    for one, other in zip(before, answers(file), strict=True):
        assert 0 < np.abs(one - other).max() < 0.03 * np.abs(one).max()
    assert file.stat().st_size < 0.7 * size
