from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rectangles import SIZE, box, filled
from refseg.data.formats import coco
from refseg.data.formats.coco import read_coco, read_instances
from refseg.data.sets import open_data, splits_of

INSTANCES = {
    "images": [
        {"id": 1, "file_name": "one.png", "height": 12, "width": 16},
        {"id": "two", "file_name": "sub/two.png"},
    ],
    "annotations": [
        {"id": 10, "image_id": 1, "category_id": 1, "segmentation": [box(2, 1, 6, 5)], "iscrowd": 0},
        {"id": 11, "image_id": 1, "category_id": 1, "segmentation": [box(12, 0, 3, 3)], "iscrowd": 0},
        {"id": 12, "image_id": "two", "segmentation": {"size": [12, 16], "counts": [12, 24, 156]}, "iscrowd": 1},
        {"id": 13, "image_id": 1, "category_id": 1},
    ],
    "categories": [{"id": 1, "name": "cup"}],
}
ROWS = [
    {"expression": "left cup", "ann_id": 10, "kind": "location"},
    {"expression": "stripe", "ann_id": "12"},
    {"expression": "the big cup", "ann_id": 10},
    {"expression": "both cups", "ann_id": [11, 10]},
    {"expression": "all cups", "ann_id": [10, 11, 10]},
    {"expression": "a horse", "ann_id": None, "image_id": 1},
    {"expression": "nobody", "ann_id": [], "image_id": "two"},
]


def root(tmp_path, rows=ROWS, instances=INSTANCES, name="expressions.jsonl", images="images"):
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    path = tmp_path / name
    path.write_text(json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows))
    for file in ("one.png", "sub/two.png"):
        (tmp_path / images / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], "red").save(tmp_path / images / file)
    return path


@pytest.mark.parametrize("name", ["expressions.jsonl", "expressions.json"])
@pytest.mark.parametrize("images", ["images", "."])
def test_expressions_point_to_annotations(tmp_path, name, images):
    path = root(tmp_path, name=name, images=images)
    for given in (path, tmp_path):
        data = open_data(str(given), "all")
        assert len(data) == 2 and data.name == tmp_path.name
    first, second = data[0], data[1]
    assert (first.image_id, second.image_id) == ("1", "two")
    assert [(e.text, e.reference) for e in first.expressions] == [
        ("left cup", 0), ("the big cup", 0), ("both cups", 1), ("all cups", 1), ("a horse", 2),
    ]  # fmt: skip
    assert [r.category for r in first.references] == ["cup", "cup", None]
    left, right = filled(2, 1, 6, 5), filled(12, 0, 3, 3)
    assert np.array_equal(first.mask(0), left) and np.array_equal(first.mask(2), left | right)
    assert not first.mask(4).any() and not second.mask(1).any()
    assert np.array_equal(second.mask(0), filled(1, 0, 2, 12)) and second.references[0].category is None
    assert first.expressions[0].kind == "location"
    assert dict(data.entries[0].references[0].extra) == {"ann_ids": ("10",), "same_category": 3}
    assert data.entries[0].size == SIZE and data.entries[1].size is None


def test_splits_and_ids(tmp_path):
    rows = [ROWS[0] | {"split": "val", "ref_id": 5, "sent_id": 8}, ROWS[1] | {"split": "train"}]
    path = root(tmp_path, rows)
    assert splits_of(str(path)) == ["train", "val"]
    entry = open_data(str(path), "val").entries[0]
    assert entry.references[0].ref_id == "5" and entry.expressions[0].sent_id == "8"


def test_other_names_and_places(tmp_path):
    path = root(tmp_path, images="photos").rename(tmp_path / "mine.jsonl")
    (tmp_path / "instances.json").rename(tmp_path / "val2017.json")
    entries = read_coco(tmp_path / "val2017.json", path, tmp_path / "photos")["all"]
    assert [entry.file for entry in entries] == [tmp_path / "photos/one.png", tmp_path / "photos/sub/two.png"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (7, "line 1: 7; an object"),
        ({"ann_id": 10}, "line 1: expression is missing"),
        ({"expression": "x"}, "line 1: ann_id is missing"),
        ({"expression": "x", "ann_id": 99}, "line 1: ann_id 99 without image_id"),
        ({"expression": "x", "ann_id": None}, "line 1: ann_id None without image_id"),
        ({"expression": "x", "ann_id": 99, "image_id": 1}, "line 1: annotation 99 is not in"),
        ({"expression": "x", "ann_id": 12, "image_id": 1}, "line 1: annotation 12 is of image two, not of 1"),
        ({"expression": "x", "ann_id": [10, 12]}, "line 1: annotation 12 is of image two, not of 1"),
        ({"expression": "x", "ann_id": None, "image_id": 9}, "line 1: image 9 is not in"),
        ({"expression": "x", "ann_id": 1.5}, "line 1: ann_id: 1.5"),
        ({"expression": "x", "ann_id": 13}, "annotation 13: mask None"),
    ],
)
def test_malformed_rows_are_named(tmp_path, row, message):
    path = root(tmp_path, [row])
    with pytest.raises(ValueError, match=message):
        read_coco(tmp_path / "instances.json", path)


def test_one_ref_id_for_two_objects_is_refused(tmp_path):
    path = root(tmp_path, [ROWS[0] | {"ref_id": 1}, ROWS[3] | {"ref_id": 1}])
    with pytest.raises(ValueError, match=r"line 2: ref_id 1 has another mask"):
        read_coco(tmp_path / "instances.json", path)


def test_instances_count_objects_of_a_category(tmp_path):
    root(tmp_path)
    known = read_instances(tmp_path / "instances.json")
    assert known.counts["1", "cup"] == 3 and known.counts["two", None] == 1
    assert {key: annotation.crowd for key, annotation in known.annotations.items()} == {
        "10": False, "11": False, "12": True, "13": False}  # fmt: skip
    assert known.images == {"1": ("one.png", SIZE), "two": ("sub/two.png", None)}


@pytest.mark.parametrize("name", ["expressions.jsonl", "expressions.json"])
def test_malformed_rows_are_left_out_where_somebody_collects_them(tmp_path, name):
    instances = INSTANCES | {
        "images": [*INSTANCES["images"], {"id": 1, "file_name": "again.png"}],
        "annotations": [*INSTANCES["annotations"], {"id": 14, "image_id": 9}],
        "categories": [*INSTANCES["categories"], {"id": 2}],
    }
    rows = [ROWS[0], {"expression": "x", "ann_id": 13}, 7, {"expression": "y", "ann_id": 14}, ROWS[3], ROWS[1]]
    path = root(tmp_path, rows, instances, name=name)
    problems = []
    entries = read_coco(tmp_path / "instances.json", path, problems=problems)["all"]
    assert [[e.text for e in entry.expressions] for entry in entries] == [["left cup", "both cups"], ["stripe"]]
    line = "line" if name.endswith("jsonl") else "row"
    starts = ["category number 1: name", "image 1: there twice", "annotation 14: image 9", "annotation 13: mask None",
              f"{line} 3: 7", f"{line} 4: ann_id 14"]  # fmt: skip
    assert len(problems) == len(starts)
    for problem, start in zip(problems, starts, strict=True):
        assert problem.split(".json: ")[-1].split(".jsonl: ")[-1].startswith(start), problem
    with pytest.raises(ValueError, match="category number 1: name"):  # training and evaluation stop at the first
        read_coco(tmp_path / "instances.json", path)


def test_lines_that_are_no_json_are_left_out_where_somebody_collects_them(tmp_path):
    path = root(tmp_path)
    path.write_text("{\n" + path.read_text())
    problems = []
    entries = read_coco(tmp_path / "instances.json", path, problems=problems)["all"]
    assert sum(len(entry.expressions) for entry in entries) == len(ROWS) and "line 1: not JSON" in problems[0]


def _with(tmp_path, annotation):
    return root(tmp_path, rows=[{"expression": "it", "ann_id": 10}],
                instances=INSTANCES | {"annotations": [INSTANCES["annotations"][0] | annotation]})  # fmt: skip


@pytest.mark.parametrize("text", [
    "[[2, 1, 8.5, 1.0, 8.5e0, 6, 2, 6]]", "[ [2,1,8,1,8,6,2,6] ]",
    "[\n[2,\t1, 8, 1, 8, 6, 2, 6], [12, 0, 15, 0, 15, 3]\n]",
    "[]", "[[]]", "[[1, 2]]", "null", '{"size": [12, 16], "counts": [12, 24, 156]}',
])  # fmt: skip
def test_a_segmentation_is_what_the_file_says(tmp_path, text):
    path = _with(tmp_path, {"segmentation": "HERE", "name": 'a "segmentation": [[1, 2]] in a text'})
    instances = tmp_path / "instances.json"
    instances.write_text(instances.read_text().replace('"HERE"', text))
    (annotation,) = read_instances(instances).annotations.values()
    assert annotation.segmentation("here") == json.loads(text)
    if text != "null":
        (entries,) = read_coco(instances, path).values()
        assert len(entries[0].references[0].regions) == 1


@pytest.mark.parametrize(("text", "message"), [
    ("[[1, 2, 3]]", "annotation 10: polygon"), ("[[1,, 2]]", "annotation 10: segmentation: not JSON"),
    ("[[[1, 2]]]", "annotation 10: polygon"), ("[[1 2]]", "annotation 10: segmentation: not JSON"),
    ("[[1, 1e400]]", "annotation 10: polygon"), (f"[[1, {10**400}]]", "annotation 10: polygon"),
    ('"[[1, 2]]"', "annotation 10: mask"), ("[[1, true]]", "annotation 10: polygon"),
    ("[[1, 2], 3]", "annotation 10: polygon"), ("[" * 200 + "]" * 200, "nested too deeply"),
])  # fmt: skip
def test_malformed_segmentations_are_named(tmp_path, text, message):
    path = _with(tmp_path, {"segmentation": "HERE"})
    instances = tmp_path / "instances.json"
    instances.write_text(instances.read_text().replace('"HERE"', text))
    with pytest.raises(ValueError, match=message):
        read_coco(instances, path)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_is_parsed_once_however_it_is_written(tmp_path, indent, monkeypatch):
    root(tmp_path)
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps(INSTANCES, indent=indent))
    parsed, parse = [], coco.parse_json
    monkeypatch.setattr(coco, "parse_json", lambda text, where: parsed.append(where) or parse(text, where))
    found = read_instances(instances).annotations
    assert parsed == [str(instances)]
    assert found["10"].segmentation("here") == INSTANCES["annotations"][0]["segmentation"]


def test_a_file_that_is_no_json_says_where(tmp_path):
    path = root(tmp_path)
    instances = tmp_path / "instances.json"
    text = instances.read_text()
    end = text.index('"categories"')
    instances.write_text(text[:end] + "," + text[end:])
    with pytest.raises(ValueError, match=rf"instances.json: not JSON .*char {end}"):
        read_coco(instances, path)


@pytest.mark.parametrize("number", [10**400, 1e308, "7", None, True])
def test_odd_boxes_and_areas_are_no_boxes_and_areas(tmp_path, number):
    path = _with(tmp_path, {"bbox": [number, number, number, number], "area": number})
    sample = open_data(str(path), "all")[0]
    assert np.array_equal(sample.mask(0), filled(2, 1, 6, 5))
