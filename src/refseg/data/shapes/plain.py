"""Scenes that nobody asks about, and sentences without a scene: what compact encoders are pretrained on.

They come from a stream of their own and never hold the pairs of colour and shape that are kept for testB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refseg.data.shapes.dataset import RefShapes
from refseg.data.shapes.draw import render
from refseg.data.shapes.language import STYLES, phrase
from refseg.data.shapes.program import Description, Head
from refseg.data.shapes.scene import COLOURS, FILLS, SHAPES, SIZES, Thing, plan
from refseg.data.shapes.stream import Stream

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": SIZES,
    "fill": FILLS,
}


@dataclass(frozen=True, eq=False)
class PlainScene:
    """A picture with what is true of every object in it.

    Attributes:
        image: (H, W, 3) uint8.
        ids: (H, W) int64: the object that is seen, counted from 1; 0 is background.
        looks: (N + 1, 4) int64: of every object its places in the four `ATTRIBUTES`, counted from 1; row 0 is the
            background.
        descriptions: Of every object a noun phrase, which may fit others as well.
        said: (N, 4) bool: which attributes its description names.
    """

    image: np.ndarray
    ids: np.ndarray
    looks: np.ndarray
    descriptions: tuple[str, ...]
    said: np.ndarray


def plain_scene(split: str, index: int, size: tuple[int, int]) -> PlainScene:
    """A scene, which split and index decide alone, drawn at (H, W)."""
    stream = Stream("refshapes 1", "plain", split, index)
    scene = None
    while scene is None:
        scene = plan(stream, held_out=False)
    image, ids = render(scene, size[1], size[0])
    described = [_described(thing, stream) for thing in scene.things]
    looks = [(0, 0, 0, 0), *(_looks(thing) for thing in scene.things)]
    return PlainScene(
        image=image,
        ids=ids.astype(np.int64) + 1,
        looks=np.array(looks, dtype=np.int64),
        descriptions=tuple(text for text, _ in described),
        said=np.array([said for _, said in described], dtype=bool),
    )


def sentences(split: str, index: int) -> Sequence[str]:
    """What is said in scene number `index`, of the three sets in turn; without the scene."""
    name = ("refshapes", "refshapes+", "refshapesg")[index % 3]
    return [expression.text for expression in RefShapes(name, split).expressions(index // 3)]


def _looks(thing: Thing) -> tuple[int, ...]:
    return tuple(values.index(getattr(thing, name)) + 1 for name, values in ATTRIBUTES.items())


def _described(thing: Thing, stream: Stream) -> tuple[str, tuple[bool, ...]]:
    """A noun phrase with some of an object's attributes, and which ones; one at least."""
    said = {name: stream.chance(85 if name == "shape" else 55) for name in ATTRIBUTES}
    if not any(said.values()):
        said["colour"] = True
    head = Head(**{name: getattr(thing, name) for name, wanted in said.items() if wanted})
    return phrase(Description(head), stream.choice(STYLES), stream), tuple(said.values())
