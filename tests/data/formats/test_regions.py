from __future__ import annotations

import json
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from rectangles import SIZE, box, filled
from refseg.data.formats.entries import Entry
from refseg.data.formats.mask_pictures import read_mask
from refseg.data.formats.outlines import fill_outline
from refseg.data.formats.regions import RawReference, Region, check_size, draw, parse_segmentation, rasterise
from refseg.data.formats.rle import decode_rle, encode_rle
from refseg.data.index import IndexedSamples, PerReference
from refseg.types import Expression


def reference(*segmentations):
    regions = tuple(parse_segmentation(s, "here") for s in segmentations)
    return RawReference("1", None, regions)


LEFT, RIGHT = filled(2, 1, 4, 5), filled(9, 6, 5, 3)


def test_polygons_codes_and_pictures_give_the_same_pixels(tmp_path):
    Image.fromarray(LEFT).save(tmp_path / "left.png")
    runs = [25, 5, 7, 5, 7, 5, 7, 5, 126]  # columns of 12: two empty, then one pixel above and five inside
    stored = [
        [box(2, 1, 4, 5)],
        {"size": list(SIZE), "counts": runs},
        {"size": list(SIZE), "counts": coco.encode(np.asfortranarray(LEFT, dtype=np.uint8))["counts"].decode()},
    ]
    for segmentation in stored:
        assert np.array_equal(rasterise(reference(segmentation), SIZE), LEFT)
    picture = RawReference("1", None, (Region(file=tmp_path / "left.png"),))
    assert np.array_equal(rasterise(picture, SIZE), LEFT)


def test_several_parts_are_one_mask():
    for found in (
        reference([box(2, 1, 4, 5), box(9, 6, 5, 3)]),
        reference([encode_rle(LEFT), encode_rle(RIGHT)]),  # RefCLEF
        reference([box(2, 1, 4, 5)], encode_rle(RIGHT)),
    ):
        assert np.array_equal(rasterise(found, SIZE), LEFT | RIGHT)
        assert np.array_equal(rasterise(found, SIZE, "lavt"), LEFT | RIGHT)  # nothing overlaps
    nothing = RawReference("1", None, ())
    assert not rasterise(nothing, SIZE).any() and rasterise(nothing, SIZE).shape == SIZE


def test_overlapping_parts_are_their_union_and_lavt_cuts_a_hole():
    overlapping = reference([box(2, 1, 6, 5), box(5, 3, 6, 6), box(6, 4, 1, 1)])
    one, two = filled(2, 1, 6, 5), filled(5, 3, 6, 6)
    assert np.array_equal(rasterise(overlapping, SIZE), one | two)
    assert np.array_equal(rasterise(overlapping, SIZE, "lavt"), one ^ two)  # three times covered is also background
    both = reference([encode_rle(one), encode_rle(two)])
    assert np.array_equal(rasterise(both, SIZE, "lavt"), one ^ two)
    for number in (256, 257):  # a byte that counts them would come back to 0 and 1
        many = reference([box(2, 1, 4, 5)] * number)
        assert np.array_equal(rasterise(many, SIZE), LEFT) and not rasterise(many, SIZE, "lavt").any()
    with pytest.raises(ValueError, match="accepted are union, lavt"):
        rasterise(overlapping, SIZE, "xor")


def test_outlines_leave_the_image_or_have_two_points():
    assert np.array_equal(rasterise(reference([box(-3, -2, 9, 8)]), SIZE), filled(0, 0, 6, 6))
    # Two points are no area, and not the box that COCO's library takes them for.
    line = draw(reference([[2.0, 3.0, 9.0, 3.0], box(2, 1, 4, 5), [1.0, 1.0], []]), SIZE)
    assert np.array_equal(line.mask, LEFT) and line.notes == (("parts without area", "3 of its parts"),)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(3, 9), st.integers(0, 2**32 - 1),
       st.sampled_from([1, 3, 20, 150]), st.sampled_from([0, 1, 14]))  # fmt: skip
def test_outlines_are_filled_as_by_cocos_library(height, width, corners, seed, spread, digits):
    """Also where they leave the image by far, on whole numbers and tenths, where edges meet the middles of pixels."""
    points = np.random.default_rng(seed).random((corners, 2)) - 0.5
    points = (points * [width * spread, height * spread] + [width / 2, height / 2]).round(digits)
    expected = coco.decode(coco.frPyObjects([points.ravel().tolist()], height, width))[:, :, 0].astype(bool)
    assert np.array_equal(fill_outline(points, (height, width)), expected)


def test_an_outline_far_beyond_a_small_image_costs_what_the_image_needs():
    """COCO's library would keep 360 million steps of it, which is some gigabytes."""
    far = reference([[0, 0, *[-9e5, 9e5, 9e5, -9e5] * 20], [-9e5, -9e5, 9e5, -9e5, 9e5, 6, -9e5, 6]])
    tracemalloc.start()
    started = time.perf_counter()
    mask = rasterise(far, SIZE)
    assert time.perf_counter() - started < 1 and tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert np.array_equal(mask, filled(0, 0, 16, 6))  # the first goes there and back along one line


def test_long_outlines_are_filled_a_few_crossings_at_a_time(monkeypatch):
    random = np.random.default_rng(5)
    points = np.stack([np.tile([-30.0, 90.0], 600), random.random(1200) * 50], 1)
    expected = coco.decode(coco.frPyObjects([points.ravel().tolist()], 50, 64))[:, :, 0].astype(bool)
    polygon = reference([points.ravel().tolist()])
    assert np.array_equal(rasterise(polygon, (50, 64)), expected)
    monkeypatch.setattr("refseg.data.formats.outlines._AT_ONCE", 7)
    assert np.array_equal(fill_outline(points, (50, 64)), expected) and 0 < expected.mean() < 1


def test_an_object_of_many_parts_is_drawn_one_by_one():
    many = reference([box(x % 400, x // 400, 1, 1) for x in range(0, 40_000, 100)])
    tracemalloc.start()
    assert rasterise(many, (400, 400)).sum() == 400
    assert tracemalloc.get_traced_memory()[1] < 10 * 400 * 400  # not 400 masks
    tracemalloc.stop()


@pytest.mark.parametrize(
    "value",
    [
        None, 5, "text", [1, 2, 3, 4], [[1, 2, 3, 4, 5]], [[1, 2, None, 4, 5, 6]], [["1", "2", "3", "4"]],
        [[1, 2, float("nan"), 4, 5, 6]], [[1, 2, float("inf"), 4, 5, 6]], [[1, 2, 1e300, 4, 5, 6]], [[True] * 6], {},
        {"size": [4, 4]}, {"counts": [16]}, {"size": [4], "counts": [16]}, {"size": [4, "4"], "counts": [16]},
        {"size": [4, 4], "counts": [15]}, {"size": [4, 4], "counts": [17]}, {"size": [4, 4], "counts": [-1, 17]},
        {"size": [4, 4], "counts": [2.5]}, {"size": [4, 4], "counts": "hello\xff"}, {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": "o"}, {"size": [4, 4], "counts": "oooooooooooo0"}, {"size": [0, 4], "counts": []},
        {"size": [10**6, 10**6], "counts": [10**12]}, {"size": [4, 4], "counts": {}}, [{"size": [4, 4]}, [1, 2, 3, 4]],
        {"size": [4, 4], "counts": [2**70, 1]},
    ],
)  # fmt: skip
def test_malformed_masks_are_refused(value):
    with pytest.raises(ValueError, match="^here: .*accepted|^here: .*not a COCO run-length code"):
        parse_segmentation(value, "here")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0, 0.05, 0.5, 0.95, 1]))
def test_codes_equal_cocos_library(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    ours = {"size": [height, width], "counts": code["counts"].decode()}
    assert encode_rle(mask) == ours
    assert np.array_equal(decode_rle(json.loads(json.dumps(ours))), mask)


def test_a_long_run_is_read():
    mask = np.zeros((700, 900), dtype=bool)
    mask[:, 450:] = True
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=[chr(c) for c in range(40, 125)], max_size=12), st.integers(1, 6), st.integers(1, 6))
def test_random_codes_are_masks_or_value_errors(counts, height, width):
    try:
        assert decode_rle({"size": [height, width], "counts": counts}).shape == (height, width)
    except ValueError:
        pass


def test_pictures_of_masks(tmp_path):
    def saved(picture, name):
        picture.save(tmp_path / name)
        return read_mask(tmp_path / name)

    grey = Image.fromarray(LEFT.astype(np.uint8) * 7)
    assert np.array_equal(saved(grey, "grey.png"), LEFT)
    assert np.array_equal(saved(Image.fromarray(LEFT.astype(np.uint16) * 300), "deep.png"), LEFT)
    palette = Image.new("P", SIZE[::-1])
    palette.putpalette([255, 255, 255, 0, 0, 0])  # what is white is the object, whatever its number
    palette.putdata((~LEFT).astype(int).ravel().tolist())
    assert np.array_equal(saved(palette, "palette.png"), LEFT)
    colour = np.zeros((*SIZE, 3), np.uint8)
    colour[LEFT] = (0, 0, 200)
    assert np.array_equal(saved(Image.fromarray(colour), "colour.png"), LEFT)
    opaque = np.dstack([colour, np.full(SIZE, 255, np.uint8)])
    assert np.array_equal(saved(Image.fromarray(opaque), "opaque.png"), LEFT)
    (tmp_path / "text.png").write_text("hello")
    for name in ("text.png", "none.png", "."):
        with pytest.raises(ValueError, match="accepted"):
            read_mask(tmp_path / name)


@pytest.mark.parametrize(
    "sides",
    [(None, 4), (4, 0), (-1, 4), (4.5, 4), ("4.5", 4), ("-4", 4), (float("nan"), 4), (10**6, 10**6), (True, 4)],
)
def test_sizes_that_no_image_has(sides):
    with pytest.raises(ValueError, match="^here: .*accepted"):
        check_size(*sides, "here")


def indexed(tmp_path, **changes):
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[LEFT] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture[:, ::-1]).save(tmp_path / "b.png")
    entries = [
        Entry(
            "a",
            tmp_path / "a.png",
            changes.get("size", SIZE),
            (reference([box(2, 1, 4, 5)]), RawReference("2", "hat", changes.get("regions", ()))),
            (Expression("s1", "left", 0), Expression("s2", "hat", 1), Expression("s3", "red", 0, "attribute")),
        ),
        Entry("b", tmp_path / "b.png", None, (RawReference("3", None, ()),), (Expression("s4", "none", 0),)),
    ]
    return IndexedSamples("own", "val", entries, tmp_path / "data.jsonl"), picture


def test_samples_are_read_when_asked_for(tmp_path):
    data, picture = indexed(tmp_path)
    assert (data.name, data.split, data.endless, len(data)) == ("own", "val", False, 2)
    data = pickle.loads(pickle.dumps(data))  # a worker's copy
    sample = data[0]
    assert sample.image_id == "a" and np.array_equal(sample.image, picture)
    assert [(r.ref_id, r.category, int(r.mask.sum())) for r in sample.references] == [("1", None, 20), ("2", "hat", 0)]
    assert [(e.sent_id, e.reference, e.kind) for e in sample.expressions] == [
        ("s1", 0, None),
        ("s2", 1, None),
        ("s3", 0, "attribute"),
    ]
    assert np.array_equal(sample.mask(2), LEFT) and data[1].references[0].mask.shape == SIZE
    for index in (2, -1):
        with pytest.raises(IndexError, match="it has 2"):
            data[index]


def test_one_item_per_reference(tmp_path):
    data = PerReference(indexed(tmp_path)[0])
    assert len(data) == 3 and not data.endless and (data.name, data.split) == ("own", "val")
    assert [[e.sent_id for e in data[i].expressions] for i in range(3)] == [["s1", "s3"], ["s2"], ["s4"]]
    assert [[r.ref_id for r in data[i].references] for i in range(3)] == [["1"], ["2"], ["3"]]
    assert all(e.reference == 0 for i in range(3) for e in data[i].expressions)
    assert np.array_equal(data[0].mask(1), LEFT) and not data[1].mask(0).any()
    with pytest.raises(IndexError, match="it has 3"):
        data[3]


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"data\.jsonl: image a: annotated as 16x99 pixels, .*a\.png has 16x12"):
        indexed(tmp_path, size=(99, 16))[0][0]
    wrong = parse_segmentation(encode_rle(np.ones((5, 5), bool)), "here")
    with pytest.raises(
        ValueError, match=r"data\.jsonl: image a, reference 2: mask of 5x5 pixels for an image of 16x12"
    ):
        indexed(tmp_path, regions=(wrong,))[0][0]
    Image.fromarray(np.ones((5, 6), bool)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"reference 2: .*small\.png: mask of 6x5 pixels"):
        indexed(tmp_path, regions=(Region(file=tmp_path / "small.png"),))[0][0]
    many = parse_segmentation([[0, 0] + [0, 5, 15, 5] * 700_000], "here")
    with pytest.raises(ValueError, match="reference 2: polygon with an outline that crosses the image many million ti"):
        indexed(tmp_path, regions=(many,))[0][0]
    data, _ = indexed(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.png: no such file"):
        data[0]
