"""Everything that could be said about an object. Whether it is true, and of that object alone, the solver says."""

from __future__ import annotations

from collections.abc import Iterator

from refseg.data.describe.program import (
    EXTREMES,
    PLACES,
    SIDES,
    Description,
    Extreme,
    Place,
    Rank,
    Relation,
)
from refseg.data.describe.scene import Scene, Thing
from refseg.data.describe.words import alike

# Masks show that things touch, not which of them carries the other. So "on" is said of what people put down, on what
# people put things on. The names are COCO's.
_PUT_DOWN = frozenset(
    "bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, "
    "pizza, donut, cake, laptop, mouse, remote, keyboard, cell phone, book, vase, scissors, teddy bear, cat".split(", ")
)
_CARRIERS = frozenset("couch, bed".split(", "))
_ON_FURNITURE = frozenset("cat, dog, teddy bear, book, laptop, remote, cell phone".split(", "))
_RIDDEN = frozenset("skateboard, surfboard, snowboard, horse, elephant, motorcycle, bicycle".split(", "))


def proposals(scene: Scene, target: int, anchors: list[tuple[int, Description]]) -> Iterator[tuple[str, Description]]:
    """Pairs of kind and description that may fit a thing.

    Args:
        scene: The image.
        target: Index of the thing.
        anchors: The things that others may be related to, each with a description that fits it alone.
    """
    thing = scene.things[target]
    count = sum(other.category == thing.category for other in scene.things)
    yield "category", Description(thing.category)
    if sum(alike(other.category, thing.category) for other in scene.things) > 1:  # else there is nothing to choose from
        for place in PLACES:
            yield "location", Description(thing.category, Place(place))
    if count > 1:
        for side in SIDES:
            for number in range(1, (count + 1) // 2 + 1):  # people count from the nearer side
                yield "order", Description(thing.category, Rank(side, number))
        for extreme in EXTREMES:
            yield "size", Description(thing.category, Extreme(extreme))
    for index, anchor in anchors:
        if scene.things[index].category != thing.category:
            for name in _relations(thing, scene.things[index]):
                yield "relation", Description(thing.category, Relation(name, anchor))


def anchor_names(anchor: Thing) -> Iterator[Description]:
    """Ways to name a thing that others are related to, the shortest first."""
    yield Description(anchor.category)
    for side in SIDES:
        yield Description(anchor.category, Rank(side, 1))
    yield Description(anchor.category, Extreme("largest"))


def _relations(thing: Thing, anchor: Thing) -> Iterator[str]:
    yield from ("left of", "right of", "next to", "closest to")
    on_table = thing.category in _PUT_DOWN and anchor.category == "dining table"
    on_furniture = thing.category in _ON_FURNITURE and anchor.category in _CARRIERS
    riding = thing.category == "person" and anchor.category in _RIDDEN
    if on_table or on_furniture or riding:
        yield "on"
