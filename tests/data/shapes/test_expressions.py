"""What RefShapes says is true, fits one object only, needs its part, and is said in the right words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import sqrt
from typing import Any

import pytest
import shapes_truth as truth

from refseg.data.shapes import SETS, SPLITS, VOCABULARY, RefShapes
from refseg.data.shapes.generate import HELD_OUT_RELATIONS, Question
from refseg.data.shapes.mix import KINDS
from refseg.data.shapes.program import Description, Head, Location, Not, Relation
from refseg.data.shapes.scene import COLOURS, HELD_OUT_PAIRS, SHAPES, Scene

MIX = {
    "refshapes": {"attribute": 30, "location": 20, "ordering": 20, "relation": 15, "two-hop": 8, "negation": 7},
    "refshapes+": {"attribute": 35, "ordering": 15, "relation": 28, "two-hop": 10, "negation": 12},
    "refshapesg": {"attribute": 12, "location": 10, "ordering": 12, "relation": 40, "two-hop": 18, "negation": 8},
}
LOCATION_WORDS = set(
    "left right top bottom upper lower above below over under beneath middle center central corner side first second "
    "third 1st 2nd 3rd leftmost rightmost topmost bottommost highest lowest".split()
)


@cache
def questions(name: str, split: str, count: int) -> list[tuple[Scene, Question]]:
    data = RefShapes(name, split)
    return [(data.scene(index), question) for index in range(count) for question in data.questions(index)]


def every(count: int) -> Iterator[tuple[str, str, Scene, Question]]:
    for name in SETS:
        for split in SPLITS:
            for scene, question in questions(name, split, 1000 if split == "val" else count):
                yield name, split, scene, question


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_mix_of_kinds_is_the_documented_one(name: str) -> None:
    kinds = Counter(question.kind for _, question in questions(name, "val", 1000))
    kinds["ordering"] = kinds.pop("ordinal", 0) + kinds.pop("superlative", 0)
    total = sum(kinds.values())
    assert set(kinds) == set(MIX[name])
    for kind, percent in MIX[name].items():
        deviation = sqrt(percent / 100 * (1 - percent / 100) / total)
        assert abs(kinds[kind] / total - percent / 100) < 3.5 * deviation, (kind, kinds[kind] / total)


def test_every_expression_fits_exactly_its_target() -> None:
    for _, _, scene, question in every(80):
        assert truth.referents(scene, question.program) == [question.target], question


def test_the_part_that_names_the_kind_is_needed() -> None:
    for _, _, scene, question in every(80):
        program = question.program
        if question.kind == "attribute":
            assert program.part is None
            continue
        assert type(program.part).__name__ == {"two-hop": "Relation", "negation": "Not"}.get(
            question.kind, question.kind.capitalize()
        )
        without_part = truth.referents(scene, Description(program.head))
        assert len(without_part) >= 2 and question.target in without_part, question
        if isinstance(program.part, Relation):
            anchor = program.part.anchor
            assert isinstance(anchor.part, Relation) == (question.kind == "two-hop")
            if question.kind == "two-hop":
                without_hop = set(truth.referents(scene, Description(anchor.head))) - {question.target}
                assert len(without_hop) >= 2, question


def test_noun_and_colour_often_do_not_settle_an_attribute_expression() -> None:
    left = [
        len(truth.referents(scene, Description(Head(question.program.head.shape, question.program.head.colour))))
        for scene, question in questions("refshapes", "val", 1000)
        if question.kind == "attribute"
    ]
    assert 0.5 < sum(count >= 2 for count in left) / len(left) < 0.9


def test_training_shows_more_negations_and_leaves_no_kind_out() -> None:
    shares = {}
    for split in ("train", "val"):
        kinds = [question.kind for _, question in questions("refshapes", split, 400)]
        shares[split] = {kind: kinds.count(kind) / len(kinds) for kind in KINDS}
    assert shares["train"]["negation"] > 1.5 * shares["val"]["negation"]
    assert all(shares["train"][kind] > 0.7 * share for kind, share in shares["val"].items())


def test_colour_shape_pairs_are_held_out() -> None:
    assert len({colour for colour, _ in HELD_OUT_PAIRS}) == len(COLOURS) == 8
    assert len({shape for _, shape in HELD_OUT_PAIRS}) == len(SHAPES) == 8
    for name in SETS:
        seen = set()
        for split in ("train", "val", "testA"):
            for scene, _ in questions(name, split, 1000 if split == "val" else 80):
                seen |= {(thing.colour, thing.shape) for thing in scene.things}
        assert not seen & set(HELD_OUT_PAIRS)
        assert len(seen) == 64 - 8  # everything else does occur


def test_relation_shape_pairs_are_held_out() -> None:
    for _, split, scene, question in every(80):
        if split == "testB":
            continue
        program = question.program
        while isinstance(program.part, Relation):
            (anchor,) = truth.referents(scene, program.part.anchor)
            assert (program.part.name, scene.things[anchor].shape) not in HELD_OUT_RELATIONS
            program = program.part.anchor


@pytest.mark.parametrize("name", SETS)
def test_every_testb_expression_has_a_pair_that_training_never_shows(name: str) -> None:
    by_colour, by_relation = 0, 0
    for scene, question in questions(name, "testB", 250):
        thing = scene.things[question.target]
        held = (thing.colour, thing.shape) in HELD_OUT_PAIRS
        program, related = question.program, False
        while isinstance(program.part, Relation):
            related = related or (program.part.name, program.part.anchor.head.shape) in HELD_OUT_RELATIONS
            program = program.part.anchor
        assert held or related, question
        by_colour += held
        by_relation += related
    assert by_colour > 100 and by_relation > 15


def test_words() -> None:
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    used = set()
    for _, _, _, question in every(80):
        words = question.text.split(" ")
        assert 1 <= len(words) <= 20
        assert question.text == question.text.lower()
        used |= set(words)
    assert used <= set(VOCABULARY)
    assert len(set(VOCABULARY) - used) <= 5  # rare plurals


def test_refshapes_plus_has_no_location_words() -> None:
    for split in SPLITS:
        for _, question in questions("refshapes+", split, 1000 if split == "val" else 80):
            assert not LOCATION_WORDS & set(question.text.split()), question.text
    others = {word for _, question in questions("refshapes", "val", 1000) for word in question.text.split()}
    assert len(LOCATION_WORDS & others) > 20


def test_lengths() -> None:
    mean = {
        name: sum(len(question.text.split()) for _, question in questions(name, "val", 1000))
        / len(questions(name, "val", 1000))
        for name in SETS
    }
    assert 8.0 <= mean["refshapesg"] <= 8.8
    assert mean["refshapes"] < 7 and mean["refshapes+"] < 7
    assert {1, 2, 3, 15} <= {len(question.text.split()) for _, question in questions("refshapes", "val", 1000)}


def test_sentences_of_one_scene_differ_and_wording_varies() -> None:
    data = RefShapes("refshapes", "val")
    for index in range(200):
        texts = [question.text for question in data.questions(index)]
        assert len(texts) == len(set(texts))
    texts = [question.text for _, question in questions("refshapes", "val", 1000)]
    assert len(set(texts)) > 0.6 * len(texts)
    assert any(text.split()[-1] == "left" and "the" not in text.split() for text in texts)  # "blue star left"


MEANING = {
    "shape": {
        **{shape: shape for shape in SHAPES},
        **{"disk": "circle", "box": "square", "rhombus": "diamond", "plus": "cross", "crescent": "moon"},
        **{"boxes": "square", "crosses": "cross", "pluses": "cross", "rhombuses": "diamond"},
        **{f"{shape}s": shape for shape in (*SHAPES, "disk") if shape != "cross"},
        **{"disks": "circle", "crescents": "moon"},
    },
    "colour": {colour: colour for colour in COLOURS},
    "size": {
        "small": "small",
        "little": "small",
        "tiny": "small",
        "medium": "medium",
        "large": "large",
        "big": "large",
    },
    "fill": {
        **{"solid": "solid", "filled": "solid", "plain": "solid", "outlined": "outlined", "hollow": "outlined"},
        **{"striped": "striped", "stripes": "striped"},
    },
}
PART_WORDS: dict[str, set[str]] = {
    "top": {"top", "upper", "topmost", "highest"},
    "bottom": {"bottom", "lower", "bottommost", "lowest"},
    "left": {"left", "leftmost"},
    "right": {"right", "rightmost"},
    "center": {"middle", "center", "central"},
    "largest": {"largest", "biggest"},
    "smallest": {"smallest"},
    "left of": {"left"},
    "right of": {"right"},
    "above": {"above", "over"},
    "below": {"below", "under", "beneath"},
    "closest": {"closest", "nearest"},
    "farthest": {"farthest", "furthest"},
    "same color": {"color"},
    "same shape": {"shape"},
    "bigger": {"bigger", "larger"},
    "smaller": {"smaller"},
}


ORDINALS = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3}


def heads(program: Description) -> Iterator[Head]:
    yield program.head
    if isinstance(program.part, Relation):
        yield from heads(program.part.anchor)
    elif isinstance(program.part, Not) and isinstance(program.part.what, Head):
        yield program.part.what


def parts(program: Description) -> Iterator[str]:
    part: Any = program.part
    if isinstance(part, Relation):
        yield part.name
        yield from parts(part.anchor)
        return
    if isinstance(part, Not):
        part = part.what
    if isinstance(part, Location):
        yield from part.place.split()
    elif part is not None and not isinstance(part, Head):
        yield getattr(part, "side", None) or part.extreme


def test_the_words_say_what_the_program_means() -> None:
    for _, _, _, question in every(80):
        words = question.text.split()
        for attribute, meaning in MEANING.items():
            said = Counter(meaning[word] for word in words if word in meaning)
            meant = Counter(value for head in heads(question.program) if (value := getattr(head, attribute)))
            assert said == meant, (question.text, attribute)
        for part in parts(question.program):
            assert PART_WORDS[part] & set(words), (question.text, part)
        if question.kind == "negation":
            assert {"not", "without", "no"} & set(words), question.text
        if question.kind == "ordinal":
            (rank,) = (ORDINALS[word] for word in words if word in ORDINALS)
            assert rank == getattr(question.program.part, "rank", None), question.text
