"""Says which objects of a scene a program fits.

Every statement is three-valued: it clearly holds, clearly does not hold, or is unclear (an object that is hardly left
of another). A set of objects is an integer with one bit per object, and the answer is a pair of sets: those that fit
clearly, and those that fit or may fit. An expression is good only if both are the same single object.
"""

from __future__ import annotations

from dataclasses import fields
from math import isqrt

from refseg.data.shapes.geometry import extent
from refseg.data.shapes.program import Description, Head, Location, Not, Ordinal, Relation, Superlative
from refseg.data.shapes.scene import LONG_SIDE, UNIT, Scene, Thing

Answer = tuple[int, int]

_GAP = LONG_SIDE * UNIT * 4 // 100  # two objects closer than this along a direction have no clear order


class Solver:
    """Answers questions about one scene. Facts are worked out when they are first needed and then kept."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things
        self.all = (1 << len(scene.things)) - 1
        self._having: dict[tuple[str, str], int] = {}
        for index, thing in enumerate(scene.things):
            for key in (
                ("shape", thing.shape),
                ("colour", thing.colour),
                ("size", thing.size),
                ("fill", thing.fill),
            ):
                self._having[key] = self._having.get(key, 0) | 1 << index
        self._halves = [extent(thing.shape, thing.side, thing.turn) for thing in scene.things]
        self._places: dict[str, Answer] = {}
        self._orders: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
        self._pairs: dict[tuple[str, int], Answer] = {}

    def matching(self, head: Head) -> int:
        """The objects that have every attribute of the head; attributes are never unclear."""
        result = self.all
        having = self._having
        if head.shape is not None:
            result &= having.get(("shape", head.shape), 0)
        if head.colour is not None:
            result &= having.get(("colour", head.colour), 0)
        if head.size is not None:
            result &= having.get(("size", head.size), 0)
        if head.fill is not None:
            result &= having.get(("fill", head.fill), 0)
        return result

    def solve(self, program: Description) -> Answer:
        """The objects that fit a program clearly, and those that fit it clearly or perhaps."""
        among = self.matching(program.head)
        part = program.part
        if part is None:
            return among, among
        if isinstance(part, Location):
            yes, maybe = self.place(part.place)
            return among & yes, among & maybe
        if isinstance(part, Ordinal):
            return self.ranked(among, part.side, part.rank)
        if isinstance(part, Superlative):
            return self.ranked(among, part.extreme, 1)
        if isinstance(part, Not):
            if isinstance(part.what, Location):
                yes, maybe = self.place(part.what.place)
                return among & ~maybe, among & ~yes
            assert sum(getattr(part.what, field.name) is not None for field in fields(Head)) == 1
            rest = among & ~self.matching(part.what)
            return rest, rest
        assert isinstance(part, Relation)
        anchor = only(self.solve(part.anchor))
        if anchor is None:
            return 0, among  # an anchor that is not clear makes everything unclear
        return self.related(among, part.name, anchor)

    def place(self, place: str) -> Answer:
        """The objects at one of the nine places of the image, judged by their centres."""
        if place not in self._places:
            yes = maybe = 0
            for index, thing in enumerate(self.things):
                x, y = thing.x * 1000 // self.scene.width, thing.y * 1000 // self.scene.height
                clear, possible = _at(place, x, y)
                yes |= clear << index
                maybe |= possible << index
            self._places[place] = yes, maybe
        return self._places[place]

    def ranked(self, among: int, order: str, rank: int) -> Answer:
        """Number `rank` of a set in an order: from a side, "largest" first or "smallest" first."""
        before, after = self._order(order, 0)
        return self._pick(among, before, after, rank)

    def related(self, among: int, name: str, anchor: int) -> Answer:
        """The objects of a set that are in a relation to the object number `anchor`, which itself never is."""
        among &= ~(1 << anchor)
        if name in ("closest", "farthest"):
            before, after = self._order("closest", anchor)
            if name == "farthest":
                before, after = after, before
            return self._pick(among, before, after, 1)
        if (name, anchor) not in self._pairs:
            yes = maybe = 0
            for index, thing in enumerate(self.things):
                clear, possible = _related(name, thing, self.things[anchor])
                yes |= clear << index
                maybe |= possible << index
            self._pairs[name, anchor] = yes, maybe
        yes, maybe = self._pairs[name, anchor]
        return among & yes, among & maybe

    def _pick(self, among: int, before: list[int], after: list[int], rank: int) -> Answer:
        """The object with `rank` - 1 others of the set before it, given who is clearly before and after whom."""
        yes = maybe = 0
        others = among.bit_count() - rank  # this many come after it
        for index in range(len(self.things)):
            if among >> index & 1:
                ahead = (among & before[index]).bit_count()
                behind = (among & after[index]).bit_count()
                if ahead < rank and behind <= others:
                    maybe |= 1 << index
                    if ahead == rank - 1 and behind == others:
                        yes |= 1 << index
        return yes, maybe

    def _order(self, order: str, anchor: int) -> tuple[list[int], list[int]]:
        """For every object the sets that come clearly before and clearly after it."""
        key = (order, anchor)
        if key not in self._orders:
            if order in _OPPOSITE:
                after, before = self._order(_OPPOSITE[order], anchor)
            else:
                count = len(self.things)
                before, after = [0] * count, [0] * count
                spans = self._spans(order, anchor)
                for one in range(count):
                    for two in range(count):
                        if one != two and _clearly_before(order, spans[one], spans[two]):
                            before[two] |= 1 << one
                            after[one] |= 1 << two
            self._orders[key] = before, after
        return self._orders[key]

    def _spans(self, order: str, anchor: int) -> list[tuple[int, int]]:
        """Two numbers per object that `_clearly_before` compares."""
        if order == "left":
            return [(thing.x, half[0]) for thing, half in zip(self.things, self._halves, strict=True)]
        if order == "top":
            return [(thing.y, half[1]) for thing, half in zip(self.things, self._halves, strict=True)]
        if order == "largest":
            return [(thing.side, 0) for thing in self.things]
        origin = self.things[anchor]
        spans = []
        for thing in self.things:
            distance = isqrt((thing.x - origin.x) ** 2 + (thing.y - origin.y) ** 2)
            between_borders = distance - (thing.side + origin.side) * 9 // 16
            spans.append((distance, between_borders))
        return spans


_OPPOSITE = {"right": "left", "bottom": "top", "smallest": "largest"}


def only(answer: Answer) -> int | None:
    """The index of the object if an answer is one clear object and nothing else, otherwise None."""
    yes, maybe = answer
    if yes == maybe and yes and not yes & (yes - 1):
        return yes.bit_length() - 1
    return None


def _clearly_before(order: str, one: tuple[int, int], two: tuple[int, int]) -> bool:
    if order == "largest":
        return one[0] * one[0] * 10 >= two[0] * two[0] * 13
    if order == "closest":
        return one[0] * 13 <= two[0] * 10 and one[1] < two[1]
    # Along an axis both ends of an object must come first as well, so that size does not blur the order.
    return one[0] + _GAP <= two[0] and one[0] - one[1] < two[0] - two[1] and one[0] + one[1] < two[0] + two[1]


def _at(place: str, x: int, y: int) -> tuple[bool, bool]:
    """Whether a centre, in 1 / 1000 of the image, is clearly, and clearly or perhaps, at a place."""
    if place == "center":
        off = max(abs(x - 500), abs(y - 500))
        return off <= 140, off < 270
    yes = maybe = True
    for word in place.split():
        far = {"left": x, "right": 1000 - x, "top": y, "bottom": 1000 - y}[word]
        yes = yes and far < 400
        maybe = maybe and far <= 500
    return yes, maybe


def _related(name: str, thing: Thing, anchor: Thing) -> tuple[bool, bool]:
    """Whether an object is clearly, and clearly or perhaps, in a relation to the anchor."""
    if name == "same color":
        return thing.colour == anchor.colour, thing.colour == anchor.colour
    if name == "same shape":
        return thing.shape == anchor.shape, thing.shape == anchor.shape
    if name == "bigger":
        return thing.side**2 * 10 >= anchor.side**2 * 13, thing.side > anchor.side
    if name == "smaller":
        return anchor.side**2 * 10 >= thing.side**2 * 13, anchor.side > thing.side
    dx, dy = thing.x - anchor.x, thing.y - anchor.y
    along, across = {"left of": (-dx, dy), "right of": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[name]
    across = abs(across)
    return along >= 2 * _GAP and across <= along, along > 0 and across < 2 * along
