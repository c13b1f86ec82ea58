"""What an expression says: the category of an object, and at most one part that tells it from others of its kind."""

from __future__ import annotations

from dataclasses import dataclass

SIDES = ("left", "right")
PLACES = (
    "left", "right", "top", "bottom", "far left", "far right", "middle",
    "top left", "top right", "bottom left", "bottom right",
)  # fmt: skip
EXTREMES = ("largest", "smallest")
RELATIONS = ("left of", "right of", "next to", "closest to", "on")


@dataclass(frozen=True)
class Place:
    """At one of `PLACES` of the image."""

    name: str


@dataclass(frozen=True)
class Rank:
    """Number `number` from a side; 1 is the outermost."""

    side: str
    number: int


@dataclass(frozen=True)
class Extreme:
    """The largest or the smallest."""

    name: str


@dataclass(frozen=True)
class Relation:
    """In one of `RELATIONS` to another object, of another category."""

    name: str
    anchor: Description


@dataclass(frozen=True)
class Description:
    """An object of a category that a part, if there is one, holds for."""

    category: str
    part: Place | Rank | Extreme | Relation | None = None
