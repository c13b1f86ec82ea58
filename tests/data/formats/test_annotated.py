"""Objects that nobody refers to, and the words that a data set counts, from files in REFER and COCO layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rectangles import SIZE, box, filled
from refseg.data.sets import open_data
from refseg.data.shapes import RefShapes

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "refer_fixture" / "refcocog" / "refs(umd).p"


def instances():
    """One image with two people, a hat, a crowd, and outlines that nobody can draw; and another image."""
    annotations = [
        (10, 1, [box(0, 0, 4, 4)], 0),
        (11, 1, [box(6, 0, 4, 4)], 0),
        (12, 3, [box(0, 6, 3, 3)], 0),
        (13, 1, {"size": [12, 16], "counts": [0, 192]}, 1),
        (14, 1, "nonsense", 0),
        (15, 1, {"size": [3, 3], "counts": [0, 9]}, 0),
        (16, 1, [], 0),
    ]
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 12, "width": 16} for n in (1, 2)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": c, "segmentation": s, "iscrowd": crowd}
            for i, c, s, crowd in annotations
        ]
        + [{"id": 20, "image_id": 2, "category_id": 3, "segmentation": [box(1, 1, 2, 2)], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "hat"}],
    }


@pytest.fixture(params=["refer", "coco"])
def folder(request, tmp_path):
    (tmp_path / "images").mkdir()
    for n in (1, 2):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images" / f"{n}.png")
    (tmp_path / "instances.json").write_text(json.dumps(instances()))
    if request.param == "refer":
        refs = [
            {"ref_id": n, "ann_id": ann_id, "image_id": image, "split": "val", "sentences": [
                {"sent_id": n, "raw": "The man, on the left.", "sent": "the man on the left", "tokens": tokens}]}
            for n, ann_id, image, tokens in ((1, 10, 1, ["a"] * 7), (2, [10, 11], 1, []), (3, -1, 2, "man"))
        ]  # fmt: skip
        (tmp_path / "refs(x).p").write_bytes(pickle.dumps(refs, 2))
        return tmp_path, "val"
    rows = [{"expression": "left", "ann_id": 10}, {"expression": "both", "ann_id": [10, 11]}]
    rows += [{"expression": "nothing", "ann_id": None, "image_id": 2}]
    (tmp_path / "expressions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path, "all"


def test_all_objects_but_references_and_crowds(folder):
    data = open_data(str(folder[0]), folder[1])
    found = {other.ref_id: other for other in data.others(0, SIZE)}
    # 10 is a reference of its own; 11 is only half of one; 14 and 15 cannot be drawn; 16 is given but empty.
    assert list(found) == ["11", "12"]
    assert np.array_equal(found["11"].mask, filled(6, 0, 4, 4)) and found["11"].category == "person"
    assert np.array_equal(found["12"].mask, filled(0, 6, 3, 3)) and found["12"].category == "hat"
    assert [other.ref_id for other in data.others(1, SIZE)] == ["20"]
    with pytest.raises(IndexError):
        list(data.others(2, SIZE))


def test_nothing_is_read_before_somebody_asks(folder):
    data = open_data(str(folder[0]), folder[1])
    (folder[0] / "instances.json").unlink()
    asked = data.others(0, SIZE)
    assert data[0].references[0].mask.any()
    with pytest.raises(ValueError, match="instances.json"):
        next(asked)


def test_a_layout_without_annotations_knows_no_others(tmp_path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "1.png")
    row = {"image": "1.png", "expression": "it", "mask": [box(0, 0, 4, 4)]}
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    (tmp_path / "instances.json").write_text(json.dumps(instances()))  # of something else
    assert list(open_data(str(tmp_path), "all").others(0, SIZE)) == []


def test_rows_that_name_their_annotation_know_the_others(tmp_path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "1.png")
    content = instances()
    (tmp_path / "instances.json").write_text(json.dumps(content))
    first = content["annotations"][0]
    row = {"image": "1.png", "expression": "it", "mask": [box(0, 0, 4, 4)], "image_id": first["image_id"]}
    (tmp_path / "data.jsonl").write_text(json.dumps(row | {"ann_id": first["id"]}))
    data = open_data(str(tmp_path), "all")
    alike = [a for a in content["annotations"] if a["image_id"] == first["image_id"] and not a.get("iscrowd")]
    known = {other.ref_id for other in data.others(0, SIZE)}
    assert data.knows_objects and known and known <= {str(a["id"]) for a in alike} - {str(first["id"])}
    (tmp_path / "instances.json").unlink()
    alone = open_data(str(tmp_path), "all")
    assert not alone.knows_objects and list(alone.others(0, SIZE)) == []
    (tmp_path / "data.jsonl").write_text(json.dumps(row | {"ann_id": [1]}))
    with pytest.raises(ValueError, match="line 1: ann_id"):
        open_data(str(tmp_path), "all")


def test_words_are_counted_as_the_file_counts_them(folder):
    data = open_data(str(folder[0]), folder[1])
    counted = [expression.words for index in range(2) for expression in data[index].expressions]
    assert counted == ([7, None, None] if folder[1] == "val" else [None] * 3)
    assert [e.words for i in range(2) for e in data.expressions(i)] == counted


@pytest.mark.skipif(not GENUINE.is_file(), reason="the genuine file pair is not there")
def test_the_genuine_files_annotations_and_words():
    published = pickle.loads(GENUINE.read_bytes())  # our own copy, known to be plain
    words = {str(s["sent_id"]): len(s["tokens"]) for ref in published for s in ref["sentences"]}
    known = json.loads(GENUINE.with_name("instances.json").read_text())
    size = {str(image["id"]): (image["height"], image["width"]) for image in known["images"]}
    seen, counted = 0, 0
    for split in ("train", "val", "test"):
        data = open_data(str(GENUINE), split)
        for index, entry in enumerate(data.entries):
            for expression in data.expressions(index):
                assert expression.words == words[expression.sent_id]
                counted += 1
            meant = {ann_id for reference in entry.references for ann_id in reference.extra["ann_ids"]}
            wanted = [a for a in known["annotations"] if str(a["image_id"]) == entry.image_id and not a["iscrowd"]]
            found = list(data.others(index, size[entry.image_id]))
            assert [other.ref_id for other in found] == [str(a["id"]) for a in wanted if str(a["id"]) not in meant]
            for other in found:
                (area,) = (a["area"] for a in wanted if str(a["id"]) == other.ref_id)
                # An outline's own area is a little less than that of the pixels that it touches.
                assert abs(int(other.mask.sum()) - area) <= 0.1 * area + 40
            seen += len(found)
    assert counted == 28 and seen > 50


def test_other_things_of_a_scene():
    data = RefShapes("refshapes", "val")
    for index in range(8):
        sample, scene = data[index], data.scene(index)
        others = list(data.others(index, sample.image.shape[:2]))
        assert len(others) + len(sample.references) == len(scene.things)
        every = [*(r.mask for r in sample.references), *(other.mask for other in others)]
        assert np.stack(every).sum(0).max() == 1 and all(mask.any() for mask in every)
        for reference in sample.references:
            alike = sum(some.category == reference.category for some in (*sample.references, *others))
            assert alike == reference.same_category
