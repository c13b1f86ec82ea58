"""An independent reading of RefShapes programs for the tests: plain loops, nothing from the package's solver.

It is written from the documented meaning of the words, and it is decisive where the package's solver may answer
"unclear": whatever the package accepts as the only clear answer has to be the answer here, too.
"""

from __future__ import annotations

from math import hypot
from typing import Any

PLACES = {
    "left": lambda x, y: x < 0.45,
    "right": lambda x, y: x > 0.55,
    "top": lambda x, y: y < 0.45,
    "bottom": lambda x, y: y > 0.55,
    "center": lambda x, y: abs(x - 0.5) < 0.2 and abs(y - 0.5) < 0.2,
}


def attributes(thing: Any) -> dict[str, str]:
    """The four attributes of an object."""
    return {"shape": thing.shape, "colour": thing.colour, "size": thing.size, "fill": thing.fill}


def fits_head(thing: Any, head: Any) -> bool:
    """Whether an object has everything that a head asks for."""
    return all(getattr(head, name) in (None, value) for name, value in attributes(thing).items())


def at(scene: Any, thing: Any, place: str) -> bool:
    """Whether an object's centre is at a place."""
    return all(PLACES[word](thing.x / scene.width, thing.y / scene.height) for word in place.split())


def key(order: str) -> Any:
    """A sorting key that puts the first object of an order first."""
    return {
        "left": lambda thing: thing.x,
        "right": lambda thing: -thing.x,
        "top": lambda thing: thing.y,
        "bottom": lambda thing: -thing.y,
        "largest": lambda thing: -thing.side,
        "smallest": lambda thing: thing.side,
    }[order]


def related(name: str, thing: Any, anchor: Any) -> bool:
    """Whether an object is in one of the pairwise relations to another."""
    dx, dy = thing.x - anchor.x, thing.y - anchor.y
    return {
        "left of": dx < 0 and abs(dy) < 1.5 * abs(dx),
        "right of": dx > 0 and abs(dy) < 1.5 * abs(dx),
        "above": dy < 0 and abs(dx) < 1.5 * abs(dy),
        "below": dy > 0 and abs(dx) < 1.5 * abs(dy),
        "same color": thing.colour == anchor.colour,
        "same shape": thing.shape == anchor.shape,
        "bigger": thing.side > anchor.side,
        "smaller": thing.side < anchor.side,
    }[name]


def referents(scene: Any, program: Any) -> list[int]:
    """Indices of the objects that a program fits."""
    things = scene.things
    found = [i for i, thing in enumerate(things) if fits_head(thing, program.head)]
    part = program.part
    kind = type(part).__name__
    if kind == "NoneType":
        return found
    if kind == "Location":
        return [i for i in found if at(scene, things[i], part.place)]
    if kind == "Ordinal":
        ordered = sorted(found, key=lambda i: key(part.side)(things[i]))
        return ordered[part.rank - 1 : part.rank]
    if kind == "Superlative":
        return sorted(found, key=lambda i: key(part.extreme)(things[i]))[:1]
    if kind == "Not":
        if type(part.what).__name__ == "Location":
            return [i for i in found if not at(scene, things[i], part.what.place)]
        return [i for i in found if not fits_head(things[i], part.what)]
    assert kind == "Relation"
    (anchor,) = referents(scene, part.anchor)
    found = [i for i in found if i != anchor]
    if part.name in ("closest", "farthest"):
        ordered = sorted(found, key=lambda i: hypot(things[i].x - things[anchor].x, things[i].y - things[anchor].y))
        return ordered[:1] if part.name == "closest" else ordered[-1:]
    return [i for i in found if related(part.name, things[i], things[anchor])]
