"""What an expression says, as a small program over a scene.

A `Description` is a head ("red circle") and at most one part that narrows it down ("on the left", "above the star").
"""

from __future__ import annotations

from dataclasses import dataclass

PLACES = (
    "left",
    "right",
    "top",
    "bottom",
    "center",
    "top left",
    "top right",
    "bottom left",
    "bottom right",
)
SIDES = ("left", "right", "top", "bottom")
EXTREMES = (*SIDES, "largest", "smallest")
DIRECTIONS = ("left of", "right of", "above", "below")
RELATIONS = (*DIRECTIONS, "closest", "farthest", "same color", "same shape", "bigger", "smaller")


@dataclass(frozen=True)
class Head:
    """Attributes that an object must have; None where nothing is said. Without a shape it is "object" or "thing"."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    fill: str | None = None


@dataclass(frozen=True)
class Location:
    """Where in the image: one of `PLACES`."""

    place: str


@dataclass(frozen=True)
class Ordinal:
    """Number `rank` (1 to 3), counted from a side, among everything that the head describes."""

    rank: int
    side: str


@dataclass(frozen=True)
class Superlative:
    """First in the order of one of `EXTREMES` among everything that the head describes."""

    extreme: str


@dataclass(frozen=True)
class Relation:
    """In the relation `name` (one of `RELATIONS`) to the only object that `anchor` describes."""

    name: str
    anchor: Description


@dataclass(frozen=True)
class Not:
    """Not what `what` says: a head with exactly one attribute, or a location."""

    what: Head | Location


@dataclass(frozen=True)
class Description:
    """What an expression says of its object."""

    head: Head
    part: Location | Ordinal | Superlative | Relation | Not | None = None


def anchors(program: Description) -> list[tuple[str, Description]]:
    """The relations that a program uses, outermost first, each with the description of its anchor."""
    found = []
    while isinstance(program.part, Relation):
        found.append((program.part.name, program.part.anchor))
        program = program.part.anchor
    return found
