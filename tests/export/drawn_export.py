"""An export whose graphs are drawn by hand, so that what runs it is tested without tracing a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refseg.data.inputs import InputConfig
from refseg.export.manifest import FILES, GRAPHS, Graph, Manifest, Port
from refseg.files import hash_of
from tiny import TOKENIZER

CONFIG = InputConfig((16, 24), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 8)


def write_graphs(folder: Path) -> None:
    """`image.onnx` takes means of 4 x 4 pixels; `answer.onnx` weighs their channels and adds the number of tokens."""
    from onnx import TensorProto, helper, numpy_helper, save

    def graph(name, nodes, inputs, outputs, constants=()):
        made = [[helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)]
        tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants]
        drawn = helper.make_graph(nodes, name, *made, tensors)
        opset = [helper.make_opsetid("", 18)]
        save(helper.make_model(drawn, opset_imports=opset, ir_version=10), folder / f"{name}.onnx")

    pixels, coarse = (
        ("pixels", TensorProto.FLOAT, ["images", 3, 16, 24]),
        ("coarse", TensorProto.FLOAT, ["images", 3, 4, 6]),
    )
    pool = helper.make_node("AveragePool", ["pixels"], ["coarse"], kernel_shape=[4, 4], strides=[4, 4])
    graph("image", [pool], [pixels], [coarse])
    nodes = [
        helper.make_node("Gather", ["coarse", "image_index"], ["own"], axis=0),
        helper.make_node("Conv", ["own", "weight"], ["mixed"]),
        helper.make_node("Cast", ["mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "words"], ["count"], keepdims=1),
        helper.make_node("Unsqueeze", ["count", "beyond"], ["offset"]),
        helper.make_node("Add", ["mixed", "offset"], ["shifted"]),
        helper.make_node("Sub", ["shifted", "four"], ["logits"]),
    ]
    text = ["expressions", "words"]
    given = [("tokens", TensorProto.INT64, text), ("mask", TensorProto.BOOL, text),
             ("image_index", TensorProto.INT64, ["expressions"]), coarse]  # fmt: skip
    constants = [("weight", WEIGHT.reshape(1, 3, 1, 1)), ("words", np.array([1])), ("beyond", np.array([2, 3])),
                 ("four", np.float32(4))]  # fmt: skip
    graph("answer", nodes, given, [("logits", TensorProto.FLOAT, ["expressions", 1, 4, 6])], constants)


WEIGHT = np.array([1.0, -2.0, 0.5], np.float32)


def expected(pixels: np.ndarray, tokens: int) -> np.ndarray:
    """What these graphs make of (3, 16, 24) pixels and a sentence of so many tokens: (4, 6)."""
    means = pixels.reshape(3, 4, 4, 6, 4).mean((2, 4))
    return np.einsum("c,chw->hw", WEIGHT, means) + tokens - 4


def drawn_manifest(folder: Path, **changes) -> Manifest:
    """The manifest of the files in a folder."""
    port = Port("pixels", "float32", ("images", 3, 16, 24))
    graphs = {name: Graph((port,), (port,)) for name in GRAPHS}
    values = {
        "format": "onnx", "precision": "float32", "name": "drawn", "preset": "", "method": "lavt", "identity": "0" * 64,
        "training": {"data": "refshapes"}, "input": CONFIG, "opset": 18,
        "dynamic": {"words": (1, 8), "images": (1, None)},
        "fixed": {"height": 16}, "graphs": graphs, "sha256": {name: hash_of(folder / name) for name in FILES},
        "versions": {"refseg": "0"},
    }  # fmt: skip
    return Manifest(**values | changes)


def draw_export(folder: Path, **changes) -> Path:
    """A folder as `refseg export` writes it."""
    folder.mkdir(exist_ok=True, parents=True)
    write_graphs(folder)
    TOKENIZER.save(folder / "tokenizer.json")
    drawn_manifest(folder, **changes).write(folder)
    return folder
