"""Chooses a scene and what is asked about it.

The kinds of the expressions are drawn first, from the mix of the set, so that the mix holds exactly in expectation.
Then scenes are drawn until one has room for all of them: for every expression a program that fits exactly one object,
and that fits at least two when the part that gives the expression its kind is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from refseg.data.shapes.draw import visible
from refseg.data.shapes.language import phrase
from refseg.data.shapes.mix import mix_of
from refseg.data.shapes.program import (
    DIRECTIONS,
    EXTREMES,
    PLACES,
    RELATIONS,
    SIDES,
    Description,
    Head,
    Location,
    Not,
    Ordinal,
    Relation,
    Superlative,
    anchors,
)
from refseg.data.shapes.scene import HELD_OUT_PAIRS, Scene, Thing, plan
from refseg.data.shapes.solver import Solver, only
from refseg.data.shapes.stream import Stream

_STYLES = {
    "refshapes": (("terse", 38), ("plain", 50), ("long", 12)),
    "refshapes+": (("terse", 38), ("plain", 50), ("long", 12)),
    "refshapesg": (("plain", 80), ("long", 20)),
}
_PLUS_RELATIONS = tuple(name for name in RELATIONS if name not in DIRECTIONS)

# A relation to an anchor of this shape never occurs outside testB.
HELD_OUT_RELATIONS = (
    ("left of", "star"),
    ("above", "heart"),
    ("closest", "cross"),
    ("farthest", "moon"),
    ("bigger", "triangle"),
    ("same color", "square"),
)

_COUNTS = ((1, 10), (2, 20), (3, 30), (4, 20), (5, 12), (6, 8))
_LEAST_SHARE = 3, 1000  # of the image, for the visible part of every object
_LEAST_VISIBLE = 55  # percent of an object that is not hidden
_MOST_WORDS = 20


@dataclass(frozen=True)
class Question:
    """One expression.

    Attributes:
        kind: One of `KINDS`.
        program: What it says.
        text: The sentence.
        target: Index into the scene's objects.
    """

    kind: str
    program: Description
    text: str
    target: int


def generate(name: str, split: str, index: int) -> tuple[Scene, tuple[Question, ...]]:
    """The scene number `index` of a set and split, and its questions, grouped by target."""
    stream = Stream("refshapes 1", name, split, index)
    kinds = [stream.weighted(mix_of(name, split)) for _ in range(stream.weighted(_COUNTS))]
    held_out = split == "testB"
    while True:
        scene = plan(stream, held_out)
        if scene is None:
            continue
        questions = _Asker(name, held_out, scene, stream).ask(kinds)
        if questions is not None and _well_visible(scene):
            return scene, questions


def _well_visible(scene: Scene) -> bool:
    width, height = scene.size
    _, seen, whole = visible(scene)
    return all(
        part * 100 >= full * _LEAST_VISIBLE and part * _LEAST_SHARE[1] >= width * height * _LEAST_SHARE[0]
        for part, full in zip(seen, whole, strict=True)
    )


class _Asker:
    """Finds questions about one scene."""

    def __init__(self, name: str, held_out: bool, scene: Scene, stream: Stream) -> None:
        self.name = name
        self.held_out = held_out
        self.things = scene.things
        self.stream = stream
        self.solver = Solver(scene)
        plus = name == "refshapes+"
        self.relations = _PLUS_RELATIONS if plus else RELATIONS
        self.extremes = ("largest", "smallest") if plus else EXTREMES
        self.places = () if plus else PLACES
        self._heads: dict[int, list[Head]] = {}

    def ask(self, kinds: list[str]) -> tuple[Question, ...] | None:
        """Questions of these kinds about 1 to 3 objects, or None if the scene has no room for one of them."""
        stream = self.stream
        for _ in range(2):
            targets = stream.shuffled(range(len(self.things)))[: min(len(kinds), stream.between(1, 3))]
            questions: list[Question] = []
            for slot, kind in enumerate(kinds):
                turn = slot % len(targets)
                for target in targets[turn:] + targets[:turn]:
                    question = self._question(kind, target, questions)
                    if question is not None:
                        questions.append(question)
                        break
                else:
                    break
            else:
                return tuple(sorted(questions, key=lambda question: targets.index(question.target)))
        return None

    def _question(self, kind: str, target: int, earlier: list[Question]) -> Question | None:
        for program in self._programs(kind, target):
            if not self._allowed(program, target):
                continue
            assert only(self.solver.solve(program)) == target, program
            for _ in range(3):
                text = phrase(program, self.stream.weighted(_STYLES[self.name]), self.stream)
                if len(text.split()) <= _MOST_WORDS and all(text != question.text for question in earlier):
                    return Question(kind, program, text, target)
        return None

    def _allowed(self, program: Description, target: int) -> bool:
        """Keeps held-out pairs out of every split but testB, and asks for one there."""
        pairs = [(relation, anchor) for relation, anchor in anchors(program)]
        if self.held_out:
            thing = self.things[target]
            return (thing.colour, thing.shape) in HELD_OUT_PAIRS or any(
                (relation, anchor.head.shape) in HELD_OUT_RELATIONS for relation, anchor in pairs
            )
        for relation, anchor in pairs:
            index = only(self.solver.solve(anchor))
            assert index is not None
            if (relation, self.things[index].shape) in HELD_OUT_RELATIONS:
                return False
        return True

    def _programs(self, kind: str, target: int) -> Iterator[Description]:
        """Up to a few programs of a kind that fit the target only."""
        if kind == "attribute":
            program = self._attribute(target)
            if program is not None:
                yield program
            return
        for _ in range(3):
            if kind == "relation":
                program = self._relation(target, self._vague_head(target), 0)
            elif kind == "two-hop":
                program = self._two_hop(target)
            else:
                program = self._simple(kind, target)
            if program is not None:
                yield program

    def _attribute(self, target: int) -> Description | None:
        heads = self._own_heads(target)
        if not heads:
            return None
        # Mostly such that noun and colour alone leave a choice.
        if self.stream.chance(62):
            hard = [
                head
                for head in heads
                if self.solver.matching(Head(shape=head.shape, colour=head.colour)).bit_count() >= 2
            ]
            heads = hard or heads
        elif self.stream.chance(70):
            heads = [head for head in heads if head.size is None and head.fill is None] or heads
        return Description(self.stream.choice(heads))

    def _simple(self, kind: str, target: int) -> Description | None:
        """Location, ordinal, superlative or negation."""
        solver = self.solver
        head = self._vague_head(target)
        among = solver.matching(head)
        want = 1 << target
        parts: list[Location | Ordinal | Superlative | Not] = []
        if kind == "location":
            for place in self.places:
                yes, maybe = solver.place(place)
                if among & yes == among & maybe == want:
                    parts.append(Location(place))
        elif kind == "ordinal":
            for side in SIDES:
                for rank in range(1, min(3, among.bit_count()) + 1):
                    if solver.ranked(among, side, rank) == (want, want):
                        # "First" is the least interesting one.
                        parts.extend([Ordinal(rank, side)] * (1 if rank == 1 else 2))
        elif kind == "superlative":
            for extreme in self.extremes:
                if extreme in ("largest", "smallest") and head.size is not None:
                    continue
                if solver.ranked(among, extreme, 1) == (want, want):
                    parts.append(Superlative(extreme))
        else:
            parts.extend(self._negations(head, among, want))
        return Description(head, self.stream.choice(parts)) if parts else None

    def _negations(self, head: Head, among: int, want: int) -> list[Not]:
        parts = []
        seen = []
        for index, thing in enumerate(self.things):
            if not among >> index & 1 or 1 << index == want:
                continue
            for attribute in ("colour", "shape", "size", "fill"):
                if getattr(head, attribute) is not None:
                    continue
                value = Head(**{attribute: getattr(thing, attribute)})
                if value not in seen:
                    seen.append(value)
                    if among & ~self.solver.matching(value) == want:
                        parts.append(Not(value))
        for place in self.places:
            if " " not in place:
                yes, maybe = self.solver.place(place)
                if among & ~maybe == among & ~yes == want:
                    parts.append(Not(Location(place)))
        return parts

    def _relation(self, target: int, head: Head, without: int) -> Description | None:
        """A relation to an anchor with attributes of its own; the objects in the set `without` cannot be the anchor."""
        for name, anchor in self._some(self._found(target, head, without)):
            heads = [own for own in self._own_heads(anchor) if _fair(name, own)]
            if heads:
                own = min((self.stream.choice(heads) for _ in range(5)), key=_effort)
                return Description(head, Relation(name, Description(own)))
        return None

    def _two_hop(self, target: int) -> Description | None:
        """A relation to an anchor that is itself described by a relation, because its head fits several objects."""
        head = self._vague_head(target)
        for name, anchor in self._some(self._found(target, head, 0)):
            vague = self._vague_head(anchor, beside=1 << target)
            if (self.solver.matching(vague) & ~(1 << target)).bit_count() < 2 or not _fair(name, vague):
                continue
            inner = self._relation(anchor, vague, 1 << target)
            if inner is not None:
                return Description(head, Relation(name, inner))
        return None

    def _found(self, target: int, head: Head, without: int) -> list[tuple[str, int]]:
        """Relations and anchors that single the target out among what the head describes."""
        among = self.solver.matching(head)
        want = 1 << target
        found = []
        for name in self.relations:
            if name == "same color" and head.colour is not None or name == "same shape" and head.shape is not None:
                continue
            if name in ("bigger", "smaller") and head.size is not None:
                continue
            for anchor in range(len(self.things)):
                if (want | without) >> anchor & 1:
                    continue
                if name in ("closest", "farthest") and (among & ~(1 << anchor)).bit_count() < 2:
                    continue
                if self.solver.related(among, name, anchor) == (want, want):
                    found.append((name, anchor))
        return found

    def _some(self, found: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """A few of the relations found, spread over the names, and in testB those with a held-out pair first."""
        if not found:
            return []
        names = sorted({name for name, _ in found})
        picked = []
        for _ in range(3):
            name = self.stream.choice(names)
            picked.append(self.stream.choice([pair for pair in found if pair[0] == name]))
        if self.held_out and self.stream.chance(50):
            held = [pair for pair in found if (pair[0], self.things[pair[1]].shape) in HELD_OUT_RELATIONS]
            if held:
                picked.insert(0, self.stream.choice(held))
        return picked

    def _vague_head(self, target: int, beside: int = 0) -> Head:
        """Attributes of the target that fit at least one more object, not counting those in the set `beside`."""
        stream = self.stream
        thing = self.things[target]
        for _ in range(4):
            head = Head(
                shape=thing.shape if stream.chance(58) else None,
                colour=thing.colour if stream.chance(42) else None,
                size=thing.size if stream.chance(9) else None,
                fill=thing.fill if stream.chance(11) else None,
            )
            if (self.solver.matching(head) & ~beside).bit_count() >= 2:
                return head
        return Head()

    def _own_heads(self, target: int) -> list[Head]:
        """Every choice of attributes that fits the object and no other."""
        if target not in self._heads:
            full = _full_head(self.things[target])
            self._heads[target] = [
                head
                for head in (replace(full, **dict.fromkeys(dropped)) for dropped in _DROPPED)
                if self.solver.matching(head) == 1 << target
            ]
        return self._heads[target]


_DROPPED = tuple(
    tuple(name for bit, name in enumerate(("shape", "colour", "size", "fill")) if pattern >> bit & 1)
    for pattern in range(15)
)


def _full_head(thing: Thing) -> Head:
    return Head(thing.shape, thing.colour, thing.size, thing.fill)


def _effort(head: Head) -> int:
    """How far a description is from the plain "blue star" that people use for an anchor."""
    rare = (head.size is not None) + (head.fill is not None) + (head.shape is None)
    return 2 * rare + (head.colour is not None)


def _fair(name: str, anchor: Head) -> bool:
    """Whether the anchor's description does not give away what the relation compares."""
    if name == "same color":
        return anchor.colour is None
    if name == "same shape":
        return anchor.shape is None
    return True
