"""A network as two ONNX graphs.

`image.onnx` is what is done once per image: pixels to the maps of `encode_image`. `answer.onnx` is what is done for
every expression, the text encoder included: nothing but the method itself reads words, so a graph of their own would
only carry them out and in again.

B images, T expressions, L tokens, H and W network size.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refseg.export.manifest import GRAPHS
from refseg.methods.base import Segmenter
from refseg.types import ImageFeatures
from refseg.weights.store import Model

OPSET = 18
MOST = 2**16  # images, or expressions, of one run; a bound that the tracer wants


class ImageGraph(nn.Module):
    """Pixels to the named maps."""

    def __init__(self, network: Segmenter, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to one map per name."""
        maps = self.network.encode_image(pixels).maps
        return tuple(maps[name] for name in self.names)


class AnswerGraph(nn.Module):
    """Tokens and maps to log-odds."""

    def __init__(self, network: Segmenter, names: tuple[str, ...], size: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.names, self.size = network, names, size

    def forward(self, tokens: Tensor, mask: Tensor, image_index: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        """(T, L) ids and their mask, (T,) image indices and the maps of B images to (T, 1, h, w)."""
        image = ImageFeatures(dict(zip(self.names, maps, strict=True)), self.size)
        logits: Tensor = self.network(image, self.network.encode_text(tokens, mask), image_index).logits
        return logits


@torch.no_grad()
def write_graphs(model: Model, folder: Path) -> None:
    """Traces a model, on the CPU and in float32, and writes `GRAPHS` into a folder.

    Numbers of images, expressions and tokens stay free. Height and width are those of the model's input: every window,
    position code and enlargement depends on them, and with free sides the tracer takes minutes for one stage of a Swin.

    Args:
        model: The model; its network is in evaluation.
        folder: Where the files go.
    """
    network, size = model.network, model.input.size
    words = network.max_tokens
    images, expressions = torch.export.Dim("images", min=1, max=MOST), torch.export.Dim("expressions", min=1, max=MOST)
    tokens = torch.export.Dim("words", min=1, max=words)
    pixels = torch.zeros(2, 3, *size)
    maps = network.encode_image(pixels).maps
    names = tuple(maps)
    length = min(words, 7)
    given = (
        torch.zeros(3, length, dtype=torch.long),
        torch.ones(3, length, dtype=torch.bool),
        torch.tensor([0, 1, 1]),
        tuple(maps.values()),
    )
    text = {0: expressions, 1: tokens}
    free = (text, text, {0: expressions}, tuple({0: images} for _ in names))
    answer = _traced(
        AnswerGraph(network, names, size), given, free, ("tokens", "mask", "image_index", *names), ("logits",)
    )
    graph = answer.model.graph
    read = tuple(value.name for value in graph.inputs if value.uses())  # a method may keep a map that nothing reads
    for value in [value for value in graph.inputs if value.name in names and value.name not in read]:
        graph.inputs.remove(value)
    read = tuple(name for name in names if name in read)
    answer.save(folder / GRAPHS[1])
    image = _traced(ImageGraph(network, read), (pixels,), ({0: images},), ("pixels",), read)
    image.save(folder / GRAPHS[0])


def _traced(
    module: nn.Module, given: tuple[Any, ...], free: tuple[Any, ...], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Any:
    """What torch's exporter makes of a module in evaluation, without its notes.

    They say where in whose folders every node comes from, which is a sixth of a small model's file.
    """
    with _quiet():
        program: Any = torch.onnx.export(
            module.eval(), given, dynamo=True, dynamic_shapes=free, opset_version=OPSET, verbose=False,
            input_names=inputs, output_names=outputs,
        )  # fmt: skip
    graph = program.model.graph
    noted = [program.model, graph, *graph.inputs, *graph.initializers.values()]
    for node in graph:
        noted += [node, *node.outputs]
    for part in noted:
        part.metadata_props.clear()
        part.doc_string = None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and its libraries tell of every step that they leave out."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
