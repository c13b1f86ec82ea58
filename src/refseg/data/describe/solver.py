"""Says which objects of an image a description fits, from all annotations and from nothing else.

Every statement is three-valued: it clearly holds, clearly does not hold, or people might disagree. An answer is a pair
of sets: the things that fit clearly, and those that fit clearly or perhaps. A crowd never fits clearly, and fits
perhaps wherever one of its members might stand.
"""

from __future__ import annotations

from collections.abc import Callable

from refseg.data.describe.program import Description, Extreme, Place, Rank, Relation
from refseg.data.describe.scene import Scene, Thing
from refseg.data.describe.words import alike

Answer = tuple[frozenset[int], frozenset[int]]

MOST = 5  # of a category: more are rarely all annotated, and nobody counts them
_BIGGER = 2.2  # in area: from here on people agree which one is larger
_BIGGER_THAN_CUT = 4.0  # likewise, where the smaller one is cut off by the image's border
_COUNTED = 0.006  # of the image: where there are smaller ones, there are some that nobody annotated
_COMPARED = 0.01  # of the image: smaller ones are too far away, or too little of them is seen, to compare their size
_SMALLEST = 0.03  # of the image: a smaller one may be a picture, a toy or a reflection
_STEP = 0.06  # of the width: middles closer than this have no clear order
_NEAR = 0.025  # of the diagonal: the most that is clearly "next to"
_APART = 0.12  # of the diagonal: the least that is clearly not


class Solver:
    """Answers questions about one image."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things

    def solve(self, description: Description) -> Answer:
        """The things that fit a description clearly, and those that fit it clearly or perhaps."""
        yes, maybe = self.named(description.category)
        part = description.part
        if part is None or not yes:
            return yes, maybe
        if isinstance(part, Place):
            return self._filter(yes, maybe, lambda thing: at_place(part.name, thing))
        if isinstance(part, Rank):
            return self._ranked(yes, maybe, part)
        if isinstance(part, Extreme):
            return self._extreme(yes, maybe, part.name)
        anchor = only(self.solve(part.anchor))
        if anchor is None:
            return frozenset(), maybe  # an anchor that is not clear makes everything unclear
        return self._related(yes, maybe - {anchor}, part, self.things[anchor])

    def named(self, category: str) -> Answer:
        """The things of a category, and those that people might call by its name: look-alikes and crowds."""
        yes = {i for i, thing in enumerate(self.things) if thing.category == category and not thing.crowd}
        maybe = {i for i, thing in enumerate(self.things) if alike(thing.category, category)}
        return frozenset(yes), frozenset(yes | maybe)

    def _filter(
        self, yes: frozenset[int], maybe: frozenset[int], holds: Callable[[Thing], tuple[bool, bool]]
    ) -> Answer:
        found = {i: holds(self.things[i]) for i in maybe}
        return frozenset(i for i in yes if found[i][0]), frozenset(i for i in maybe if found[i][1])

    def _ranked(self, yes: frozenset[int], maybe: frozenset[int], rank: Rank) -> Answer:
        things = self.things
        if yes != maybe or rank.number > len(yes) or len(yes) > MOST or any(things[i].area < _COUNTED for i in yes):
            return frozenset(), maybe  # without knowing who counts, nobody can count
        sign = 1 if rank.side == "left" else -1
        order = sorted(yes, key=lambda i: sign * sum(things[i].x))
        chosen = rank.number - 1
        # The outermost has to stand out from all others only; further in, everybody before must be in clear order too.
        for first in range(chosen + 1):
            for later in range(first + 1, len(order)):
                if not _before(things[order[first]], things[order[later]], rank.side):
                    return frozenset(), maybe
        if rank.number > 1 and not all(_in_a_row(things[i], things[j]) for i in yes for j in yes if i < j):
            return frozenset(), maybe
        return frozenset({order[chosen]}), frozenset({order[chosen]})

    def _extreme(self, yes: frozenset[int], maybe: frozenset[int], name: str) -> Answer:
        things = self.things
        if any(things[i].area < _COMPARED for i in maybe):
            return frozenset(), maybe
        if name == "largest":
            top = max(yes, key=lambda i: things[i].area)
            others = [things[i] for i in maybe if i != top]
            clear = all(_larger(things[top], other) for other in others)
        else:
            top = min(yes, key=lambda i: things[i].area)
            others = [things[i] for i in maybe if i != top]
            # What is cut off is seen smaller than it is, and a crowd may hide smaller ones.
            clear = not things[top].cut and things[top].area >= _SMALLEST
            clear = clear and all(_larger(other, things[top]) and not other.crowd for other in others)
        return (frozenset({top}), frozenset({top})) if clear else (frozenset(), maybe)

    def _related(self, yes: frozenset[int], maybe: frozenset[int], part: Relation, anchor: Thing) -> Answer:
        if part.name == "closest to":
            gaps = sorted((self.scene.gap(self.things[i], anchor), i) for i in maybe)
            if len(gaps) < 2 or gaps[0][1] not in yes:
                return frozenset(), maybe
            (least, nearest), (second, _) = gaps[:2]
            if least > _APART or second < 3 * least + _APART:
                return frozenset(), maybe
            return frozenset({nearest}), frozenset({nearest})
        tests = {"left of": self._beside, "right of": self._beside, "next to": self._next_to, "on": self._on}
        test = tests[part.name]
        return self._filter(yes & maybe, maybe, lambda thing: test(thing, anchor, part.name))

    def _beside(self, thing: Thing, anchor: Thing, name: str) -> tuple[bool, bool]:
        """To the left or right: boxes apart, at one height, and not far."""
        left, right = (thing, anchor) if name == "left of" else (anchor, thing)
        apart = left.box[2] <= right.box[0] + 0.15 * min(left.width, right.width)
        space = right.box[0] - left.box[2]
        clear = apart and _level(thing, anchor) and space <= 0.2 and _at_one_depth(thing, anchor)
        if thing.crowd:
            return False, left.box[0] < right.box[2]
        return clear, left.x[0] < right.x[1]

    def _next_to(self, thing: Thing, anchor: Thing, name: str) -> tuple[bool, bool]:
        """Side by side with hardly anything between, and of a size, so that neither is far behind the other."""
        gap = self.scene.gap(thing, anchor)
        shared = min(thing.box[2], anchor.box[2]) - max(thing.box[0], anchor.box[0])
        side_by_side = shared <= 0.25 * min(thing.width, anchor.width) and _level(thing, anchor)
        return gap <= _NEAR and side_by_side and _at_one_depth(thing, anchor), gap < _APART

    def _on(self, thing: Thing, anchor: Thing, name: str) -> tuple[bool, bool]:
        """The other thing begins where this one ends below; anything that touches it might be on it."""
        rests = self.scene.resting(thing, anchor)
        inside = thing.box[0] >= anchor.box[0] - 0.02 and thing.box[2] <= anchor.box[2] + 0.02
        return rests >= 0.7 and inside, self.scene.gap(thing, anchor) < 0.02


def only(answer: Answer) -> int | None:
    """The index of the thing if an answer is one clear thing and nothing else, otherwise None."""
    yes, maybe = answer
    return next(iter(yes)) if yes == maybe and len(yes) == 1 else None


def at_place(place: str, thing: Thing) -> tuple[bool, bool]:
    """Whether a thing is clearly, and clearly or perhaps, at a place of the image."""
    if place == "middle":
        clear = max(abs(thing.x[0] - 0.5), abs(thing.x[1] - 0.5)) <= 0.08 and thing.width <= 0.5
        if thing.crowd:
            return False, thing.box[0] < 0.75 and thing.box[2] > 0.25
        upright = thing.y[0] >= 0.28 and thing.y[1] <= 0.72  # what is at the top is not in the middle for everybody
        return clear and upright, thing.x[1] > 0.26 and thing.x[0] < 0.74
    near, doubtful, word = (0.2, 0.4, place.removeprefix("far ")) if place.startswith("far ") else (0.34, 0.54, place)
    clear = possible = True
    for side in word.split():
        least, greatest, edge, reach = _from_side(thing, side)
        clear = clear and greatest < near and reach < (0.62 if near > 0.2 else 0.4)
        possible = possible and (edge < doubtful if thing.crowd else least < doubtful)
    return clear and not thing.crowd, possible


def _from_side(thing: Thing, side: str) -> tuple[float, float, float, float]:
    """Distances from a side of the image: of the middle (least, greatest), the near edge and the far edge."""
    (low, high), (start, end) = (
        (thing.x, (thing.box[0], thing.box[2]))
        if side in ("left", "right")
        else (thing.y, (thing.box[1], thing.box[3]))
    )
    return (low, high, start, end) if side in ("left", "top") else (1 - high, 1 - low, 1 - end, 1 - start)


def _before(one: Thing, two: Thing, side: str) -> bool:
    """Whether one thing clearly comes first from a side: its middle, and both of its ends."""
    (_, late, start, end), (early, _, other_start, other_end) = _from_side(one, side), _from_side(two, side)
    return late + _STEP <= early and start < other_start and end < other_end


def _in_a_row(one: Thing, two: Thing) -> bool:
    """Whether two things are at one height and of a size, so that people would count them as neighbours."""
    return _level(one, two) and max(one.area, two.area) <= 6 * min(one.area, two.area)


def _level(one: Thing, two: Thing) -> bool:
    """Whether two things share half the height of the lower one."""
    shared = min(one.box[3], two.box[3]) - max(one.box[1], two.box[1])
    return shared >= 0.5 * min(one.height, two.height)


def _at_one_depth(one: Thing, two: Thing) -> bool:
    """Whether two things may stand at one distance: their lower ends are at one height, unless one is much larger."""
    lower_ends = abs(one.box[3] - two.box[3]) <= 0.6 * min(one.height, two.height)
    return lower_ends and max(one.area, two.area) <= 8 * min(one.area, two.area)


def _larger(one: Thing, two: Thing) -> bool:
    """Whether everybody would call the first one larger: in area, and not thinner or flatter."""
    factor = _BIGGER_THAN_CUT if two.cut else _BIGGER
    return one.area >= factor * two.area and one.width >= two.width and one.height >= two.height
