"""Scenes, pixels, masks and baselines of RefShapes."""

from __future__ import annotations

import pickle
from functools import cache

import numpy as np
import pytest

from refseg.data.shapes import SETS, SPLITS, RefShapes
from refseg.data.shapes.draw import render, visible
from refseg.data.shapes.geometry import ONE, depth, extent
from refseg.data.shapes.scene import BACKGROUNDS, COLOURS, FILLS, SHAPES, SIZES, UNIT, Background, Scene, Thing
from refseg.data.shapes.stream import Stream
from refseg.types import Sample


@cache
def val() -> tuple[RefShapes, list[Sample]]:
    data = RefShapes("refshapes", "val")
    return data, [data[index] for index in range(500)]


def alone(shape: str, fill: str = "solid", turn: int = 4, side: int = 3000) -> Scene:
    """One red object in the middle of a plain picture of 192 x 128 pixels."""
    thing = Thing(shape, "red", "medium", fill, 96 * UNIT, 64 * UNIT, side, turn, COLOURS["red"])
    grey = (120, 120, 120)
    return Scene(192 * UNIT, 128 * UNIT, Background("plain", grey, grey, 0, 0), (thing,))


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.sum(one & two) / np.sum(one | two))


def test_unknown_names_say_what_is_accepted() -> None:
    with pytest.raises(ValueError, match=r"'refcoco'.*refshapes, refshapes\+, refshapesg"):
        RefShapes("refcoco")
    with pytest.raises(ValueError, match=r"'test'.*train, val, testA, testB"):
        RefShapes("refshapes", "test")
    with pytest.raises(ValueError, match="0 x 5"):
        RefShapes().draw(0, 0, 5)


def test_lengths_of_the_splits() -> None:
    assert [len(RefShapes("refshapesg", split)) for split in SPLITS[1:]] == [1000, 1000, 1000]
    train = RefShapes("refshapes", "train")
    assert train.endless and len(train) == 2**31 - 1
    assert train[len(train) - 1].expressions
    for index in (1000, -1):
        with pytest.raises(IndexError, match="0 to 999"):
            RefShapes("refshapes", "val")[index]


def test_a_sample_is_a_pure_function_of_set_split_and_index() -> None:
    forward = RefShapes("refshapes+", "train")
    samples = [forward[index] for index in range(6)]
    backward = pickle.loads(pickle.dumps(RefShapes("refshapes+", "train")))
    for index in (5, 0, 3, 3, 1):
        again = backward[index]
        assert again.expressions == samples[index].expressions and again.image_id == samples[index].image_id
        assert np.array_equal(again.image, samples[index].image)
        for one, two in zip(again.references, samples[index].references, strict=True):
            assert one.ref_id == two.ref_id and np.array_equal(one.mask, two.mask)


def test_sets_and_splits_do_not_share_scenes() -> None:
    scenes = [RefShapes(name, split).scene(index) for name in SETS for split in SPLITS for index in range(20)]
    assert len(set(scenes)) == len(scenes)


def test_a_sample_is_complete_and_consistent() -> None:
    data, samples = val()
    ids: list[str] = []
    for index, sample in enumerate(samples):
        assert sample.image_id == f"refshapes-val-{index:06d}"
        width, height = data.scene(index).size
        assert sample.image.shape == (height, width, 3) and sample.image.dtype == np.uint8
        assert 1 <= len(sample.expressions) <= 6 and 1 <= len(sample.references) <= 3
        assert {expression.reference for expression in sample.expressions} == set(range(len(sample.references)))
        for expression, question in zip(sample.expressions, data.questions(index), strict=True):
            thing = data.scene(index).things[question.target]
            assert sample.references[expression.reference].category == thing.shape
            mask = sample.mask(sample.expressions.index(expression))
            assert mask.shape == (height, width) and mask.dtype == bool
            rows, columns = np.nonzero(mask)
            assert abs(columns.mean() - thing.x / UNIT) < 12 and abs(rows.mean() - thing.y / UNIT) < 12
        ids += [expression.sent_id for expression in sample.expressions]
    assert len(set(ids)) == len(ids)
    assert {len(sample.expressions) for sample in samples} == {1, 2, 3, 4, 5, 6}
    assert {len(sample.references) for sample in samples} == {1, 2, 3}


def test_sizes_and_aspects() -> None:
    data, samples = val()
    sizes = [data.scene(index).size for index in range(len(samples))]
    assert all(max(size) == 192 and min(size) >= 108 for size in sizes)
    aspects = [width / height for width, height in sizes]
    assert min(aspects) < 0.6 and max(aspects) > 1.7 and min(abs(aspect - 1) for aspect in aspects) < 0.02
    assert 0.3 < np.mean(np.array(aspects) < 1) < 0.5


def test_targets_are_small_but_visible() -> None:
    areas = np.array([reference.mask.mean() for sample in val()[1] for reference in sample.references])
    assert 0.015 < np.median(areas) < 0.04
    assert areas.min() >= 0.003


def test_scenes_have_what_the_issue_asks_for() -> None:
    scenes = [val()[0].scene(index) for index in range(500)]
    things = [thing for scene in scenes for thing in scene.things]
    assert {len(scene.things) for scene in scenes} == {3, 4, 5, 6, 7, 8, 9}
    assert {thing.shape for thing in things} == set(SHAPES) and len(SHAPES) >= 8
    assert {thing.colour for thing in things} == set(COLOURS) and len(COLOURS) >= 8
    assert {thing.size for thing in things} == set(SIZES) and {thing.fill for thing in things} == set(FILLS)
    assert {scene.background.kind for scene in scenes} == set(BACKGROUNDS)
    hidden = 0
    for scene in scenes:
        ids, seen, whole = visible(scene)
        width, height = scene.size
        assert all(part >= 0.55 * full for part, full in zip(seen, whole, strict=True))
        assert min(seen) >= 0.003 * width * height
        hidden += any(part < 0.98 * full for part, full in zip(seen, whole, strict=True))
        border = np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
        assert border.max() == -1  # everything lies inside the picture
        for thing in scene.things:
            share = thing.side**2 / (scene.width * scene.height)
            low, high = {"small": (0.0045, 0.0091), "medium": (0.0179, 0.0301), "large": (0.0459, 0.0741)}[thing.size]
            assert low < share < high
    assert 0.15 < hidden / len(scenes) < 0.35


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_covers_the_area_it_should_and_stays_in_its_box(shape: str) -> None:
    across = np.arange(-5000, 5001, 8, dtype=np.int32)
    inside = depth(shape, across, across[:, None]) >= 0
    assert abs(inside.sum() * 64 / ONE**2 - 1) < 0.01
    for turn in range(9):
        scene = alone(shape, turn=turn)
        ids = render(scene, 960, 640)[1]
        assert abs(np.mean(ids == 0) * scene.width * scene.height / 3000**2 - 1) < 0.02
        half_x, half_y = extent(shape, 3000, turn)
        rows, columns = np.nonzero(ids == 0)
        # The box is where drawing stops, so the shape must not reach its border, except where it just touches.
        xs, ys = (2 * columns + 1) * scene.width // 1920 - 96 * UNIT, (2 * rows + 1) * scene.height // 1280 - 64 * UNIT
        assert np.abs(xs).max() <= half_x and np.abs(ys).max() <= half_y
        assert np.abs(xs).max() < 1.001 * half_x and np.abs(ys).max() < 1.001 * half_y


def test_shapes_differ_from_each_other_even_when_small() -> None:
    masks = {
        (shape, turn): render(alone(shape, turn=turn, side=10 * UNIT), 192, 128)[1] == 0
        for shape in SHAPES
        for turn in (0, 4, 8)
    }
    for (one, _), first in masks.items():
        for (two, _), second in masks.items():
            assert one == two or iou(first, second) < 0.9, (one, two)


@pytest.mark.parametrize("shape", SHAPES)
def test_fills_differ_when_an_object_is_twelve_pixels_wide(shape: str) -> None:
    pictures = {fill: render(alone(shape, fill, side=12 * UNIT), 192, 128) for fill in FILLS}
    mask = pictures["solid"][1] == 0
    for fill in FILLS:
        assert np.array_equal(pictures[fill][1] == 0, mask)  # the mask is the whole shape whatever its fill
    light = {fill: np.sum(pictures[fill][0][mask].min(axis=1) > 130) / mask.sum() for fill in FILLS}
    assert light["solid"] == 0 and light["striped"] > 0.1 and light["outlined"] > 0.1
    assert np.abs(pictures["striped"][0].astype(int) - pictures["outlined"][0]).max(axis=2)[mask].mean() > 25


def test_drawing_is_anti_aliased_and_the_mask_is_exact() -> None:
    scene = alone("circle", side=3000)
    image, ids = render(scene, 192, 128)
    mask = ids == 0
    changed = (image != 120).any(axis=2)
    assert np.array_equal(mask & changed, mask)  # every pixel of the mask is painted
    border = changed & ~mask
    assert border.any()  # pixels that the shape covers by less than half
    distance = np.hypot(np.arange(192) + 0.5 - 96, (np.arange(128) + 0.5 - 64)[:, None]) - 3000 / UNIT / np.sqrt(np.pi)
    assert np.array_equal(mask, distance <= 0) or np.abs(distance[mask != (distance <= 0)]).max() < 0.05
    assert distance[border].max() < 0.75
    assert len(np.unique(image[..., 0])) > 8


def test_a_scene_has_no_resolution() -> None:
    data = RefShapes("refshapes", "testA")
    for index in range(40):
        width, height = data.scene(index).size
        own, double, triple = (data.draw(index, width * k, height * k) for k in (1, 2, 3))
        small = data.draw(index, 96, 96)
        assert small.image.shape == (96, 96, 3)
        assert [e.text for e in small.expressions] == [e.text for e in own.expressions]
        for one, two, three in zip(own.references, double.references, triple.references, strict=True):
            mean = two.mask.reshape(height, 2, width, 2).mean(axis=(1, 3))
            assert iou(mean >= 0.5, one.mask) > 0.8
            assert np.array_equal(three.mask[1::3, 1::3], one.mask)  # the same points, so the very same answer
            assert abs(three.mask.mean() / one.mask.mean() - 1) < 0.1
        if data.scene(index).background.kind != "noisy":
            shrunk = double.image.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
            assert np.abs(shrunk - own.image).mean() < 2


def test_visible_is_what_render_shows() -> None:
    data = RefShapes("refshapesg", "testB")
    for index in range(30):
        scene = data.scene(index)
        ids = render(scene, *scene.size)[1]
        quick, seen, _ = visible(scene)
        assert np.array_equal(ids, quick)
        assert seen == [np.count_nonzero(ids == thing) for thing in range(len(scene.things))]


def test_backgrounds_never_look_like_an_object() -> None:
    for index in range(60):
        scene = val()[0].scene(index)
        image, ids = render(scene, *scene.size)
        far = np.ones_like(ids, dtype=bool)
        for rows, columns in zip(*np.nonzero(ids >= 0), strict=True):
            far[max(rows - 1, 0) : rows + 2, max(columns - 1, 0) : columns + 2] = False
        pixels = image[far].astype(int)
        assert (pixels.max(axis=1) - pixels.min(axis=1)).max() <= 60
        assert all(max(thing.rgb) - min(thing.rgb) > 80 for thing in scene.things)


def test_baselines() -> None:
    data, samples = val()
    scores: dict[str, list[float]] = {}
    for index, sample in enumerate(samples):
        answers = data.baselines(index)
        again = RefShapes("refshapes", "val").baselines(index) if index < 5 else answers
        for name, masks in answers.items():
            assert len(masks) == len(sample.expressions)
            assert all(np.array_equal(one, two) for one, two in zip(masks, again[name], strict=True))
            for number, mask in enumerate(masks):
                scores.setdefault(name, []).append(iou(mask, sample.mask(number)))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    assert set(means) == {"random object", "largest object", "noun and colour"}
    assert 0.12 < means["random object"] < 0.25
    assert 0.12 < means["largest object"] < 0.28
    assert 0.28 < means["noun and colour"] < 0.42


def test_the_stream_is_splitmix64_and_fair() -> None:
    stream = Stream()
    stream._state = 1234567  # the reference values of SplitMix64 for this seed
    assert [stream.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    draws = [stream.below(6) for _ in range(6000)]
    assert all(900 < draws.count(value) < 1100 for value in range(6))
    assert {stream.between(-2, 2) for _ in range(200)} == {-2, -1, 0, 1, 2}
    assert sorted(stream.shuffled(range(9))) == list(range(9))
    weighted = [stream.weighted((("a", 3), ("b", 1))) for _ in range(4000)]
    assert 2850 < weighted.count("a") < 3150
