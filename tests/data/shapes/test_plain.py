"""Scenes without questions: true, deterministic, apart from those of val and test, without the pairs kept for testB."""

from __future__ import annotations

import numpy as np

from refseg.data.shapes import RefShapes
from refseg.data.shapes.plain import ATTRIBUTES, plain_scene, sentences
from refseg.data.shapes.scene import COLOURS, HELD_OUT_PAIRS, SHAPES

# What a description may call an attribute.
WORDS = {
    "circle": {"circle", "disk"}, "square": {"square", "box"}, "triangle": {"triangle"}, "star": {"star"},
    "diamond": {"diamond", "rhombus"}, "cross": {"cross", "plus"}, "heart": {"heart"}, "moon": {"moon", "crescent"},
    "small": {"small", "little", "tiny"}, "medium": {"medium"}, "large": {"large", "big"},
    "solid": {"solid", "filled", "plain"}, "striped": {"striped", "stripes"}, "outlined": {"outlined", "hollow"},
} | {colour: {colour} for colour in COLOURS}  # fmt: skip


def test_a_scene_says_what_it_shows():
    for index in range(40):
        scene = plain_scene("train", index, (96, 128))
        assert scene.image.shape == (96, 128, 3) and scene.ids.shape == (96, 128)
        count = len(scene.descriptions)
        assert scene.looks.shape == (count + 1, 4) and not scene.looks[0].any() and scene.looks[1:].all()
        assert set(np.unique(scene.ids)) <= set(range(count + 1)) and scene.said.any(1).all()
        for look, said, text in zip(scene.looks[1:], scene.said, scene.descriptions, strict=True):
            for (_name, values), place, named in zip(ATTRIBUTES.items(), look, said, strict=True):
                assert bool(WORDS[values[place - 1]] & set(text.split())) == named, text
            others = {word for words in WORDS.values() for word in words} & set(text.split())
            assert others <= {word for values, place in zip(ATTRIBUTES.values(), look, strict=True)
                              for word in WORDS[values[place - 1]]}, text  # fmt: skip
        # The pixels of an object have about its colour: the nearest nominal one, for most of a solid object's pixels.
        colours = np.array(list(COLOURS.values()))
        for number, look in enumerate(scene.looks[1:], 1):
            pixels = scene.image[scene.ids == number].astype(int)
            if look[3] == 1 and len(pixels) > 60:
                nearest = ((pixels[:, None] - colours[None]) ** 2).sum(-1).argmin(1)
                assert np.bincount(nearest, minlength=8).argmax() + 1 == look[1]


def test_scenes_repeat_and_those_of_val_are_others():
    for split in ("train", "val"):
        one, two = (plain_scene(split, 7, (64, 64)) for _ in range(2))
        assert np.array_equal(one.image, two.image) and one.descriptions == two.descriptions
    pictures = {plain_scene(split, i, (48, 48)).image.tobytes() for split in ("train", "val") for i in range(20)}
    asked = {RefShapes("refshapes", "val").draw(i, 48, 48).image.tobytes() for i in range(40)}
    assert len(pictures) == 40 and not pictures & asked


def test_the_pairs_of_test_b_are_never_seen():
    held_out = {(list(COLOURS).index(colour) + 1, SHAPES.index(shape) + 1) for colour, shape in HELD_OUT_PAIRS}
    seen = {tuple(look[[1, 0]]) for i in range(150) for look in plain_scene("train", i, (16, 16)).looks[1:]}
    assert not seen & held_out and len(seen) == 56


def test_sentences_are_those_of_the_three_training_sets():
    for index, (name, place) in enumerate([("refshapes", 0), ("refshapes+", 0), ("refshapesg", 0), ("refshapes", 1)]):
        assert list(sentences("train", index)) == [e.text for e in RefShapes(name, "train").expressions(place)]
