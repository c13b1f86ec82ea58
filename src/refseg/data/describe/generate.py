"""Chooses whom to describe in an image, and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np

from refseg.data.describe.program import Description
from refseg.data.describe.propose import anchor_names, proposals
from refseg.data.describe.scene import Scene, Thing
from refseg.data.describe.solver import MOST, Solver, only
from refseg.data.describe.words import alike, phrase
from refseg.data.shapes.stream import Stream

KINDS = ("category", "location", "order", "size", "relation")

LEAST = 0.02  # of the image: smaller things are easily overlooked, and often have unlabelled neighbours
_LEAST_SIDE = 24  # pixels
_LEAST_ALONE = 0.03  # of the image, where nothing but the category is said
_LEAST_CUT = 0.04  # of the image, for what the border cuts off: less may be a hand or a corner
_LOOSE = ("dining table",)  # their outlines take in what stands on them
_WHOLE = 0.9  # share of a thing's pixels in one piece
_COVERED = 0.35  # of a thing's box by other things
_SAME = 0.5  # IoU from which two annotations may be one object
_WITHIN = 0.8  # share of a thing inside another one of its kind: a part, or the same object twice


@dataclass(frozen=True)
class Described:
    """One expression about one thing.

    Attributes:
        thing: Index into the scene's things.
        kind: One of `KINDS`.
        description: What it says.
        text: The sentence.
    """

    thing: int
    kind: str
    description: Description
    text: str


def describe(scene: Scene, per_object: int, stream: Stream) -> tuple[list[Described], Counter[str]]:
    """Expressions about the things of an image that can be told from all others.

    Args:
        scene: The image with all of its annotations.
        per_object: At most this many expressions of one thing, of different kinds as far as there are any.
        stream: Where choices come from.

    Returns:
        The expressions, and for the things without one, how many were left out for what reason.
    """
    solver = Solver(scene)
    found: list[Described] = []
    left_out: Counter[str] = Counter()
    reasons = [reason_against(scene, index) for index in range(len(scene.things))]
    anchors = []
    for index, (thing, reason) in enumerate(zip(scene.things, reasons, strict=True)):
        if reason in (None, "outlined loosely"):
            names = (name for name in anchor_names(thing) if only(solver.solve(name)) == index)
            anchors += [(index, name) for name in islice(names, 1)]
    for index, (thing, reason) in enumerate(zip(scene.things, reasons, strict=True)):
        if reason is not None:
            left_out[reason] += 1
            continue
        fitting: dict[str, list[Description]] = {}
        for kind, description in proposals(scene, index, anchors):
            if only(solver.solve(description)) == index and not (kind == "category" and thing.area < _LEAST_ALONE):
                fitting.setdefault(kind, []).append(description)
        if "category" in fitting:
            # The name settles it. A relation is said besides; a place among nothing to choose from is not.
            fitting = {kind: fitting[kind] for kind in ("category", "relation") if kind in fitting}
        if not fitting:
            left_out["nothing fits it alone"] += 1
        found += _choose(index, fitting, len(solver.named(thing.category)[0]), per_object, stream)
    return found, left_out


def reason_against(scene: Scene, index: int) -> str | None:
    """Why a thing should not be described, whatever is said, or None."""
    thing = scene.things[index]
    height, width = thing.mask.shape
    if thing.crowd:
        return "a crowd"
    if thing.area < LEAST or min(thing.width * width, thing.height * height) < _LEAST_SIDE:
        return "tiny"
    if thing.cut and thing.area < _LEAST_CUT:
        return "small and cut off"
    if any(_duplicates(thing, other) for other in scene.things if other is not thing and not other.crowd):
        return "near-duplicates"
    if sum(other.category == thing.category for other in scene.things) > MOST:
        return f"more than {MOST} of its category"
    if thing.whole < _WHOLE:
        return "in pieces"
    if scene.covered(thing) > _COVERED:
        return "hidden by others"
    if thing.category in _LOOSE:
        return "outlined loosely"
    return None


def _duplicates(one: Thing, two: Thing) -> bool:
    """Whether two annotations may be the same object, or one a part of the other."""
    if one.box[0] >= two.box[2] or two.box[0] >= one.box[2] or one.box[1] >= two.box[3] or two.box[1] >= one.box[3]:
        return False
    shared = int(np.count_nonzero(one.mask & two.mask))
    first, second = int(one.mask.sum()), int(two.mask.sum())
    if shared >= _SAME * (first + second - shared):
        return True
    return alike(one.category, two.category) and shared >= _WITHIN * min(first, second)


def _choose(
    index: int, fitting: dict[str, list[Description]], count: int, per_object: int, stream: Stream
) -> list[Described]:
    """Turns through the kinds in a random order, each time with another description, until enough is said."""
    chosen: list[Described] = []
    queues = [(kind, stream.shuffled(fitting[kind])) for kind in stream.shuffled(list(fitting))]
    while queues and len(chosen) < per_object:
        kind, waiting = queues.pop(0)
        description = waiting.pop()
        text = phrase(description, count, stream)
        if all(text != other.text for other in chosen):
            chosen.append(Described(index, kind, description, text))
        if waiting:
            queues.append((kind, waiting))
    return chosen
