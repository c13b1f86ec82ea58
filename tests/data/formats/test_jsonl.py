from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rectangles import SIZE, filled
from refseg.data.formats.jsonl import read_jsonl
from refseg.data.formats.refer import EXPECTED
from refseg.data.sets import open_data, splits_of
from refseg.encoders.tokenizer import Tokenizer

SHARED = Path(__file__).parents[4] / "shared" / "data"


ONE, TWO = filled(2, 1, 4, 5), filled(9, 6, 5, 3)
POLYGON = [9, 6, 14, 6, 14, 9, 9, 9]
RUNS = {"size": [12, 16], "counts": [25, 5, 7, 5, 7, 5, 7, 5, 126]}
ROWS = [
    {"image": "images/a.png", "expression": "left one", "mask": RUNS, "ref_id": 1, "category": "cup"},
    {"image": "images/b.png", "expression": "grün 🙂, \"quoted\"", "mask": "masks/two.png", "ref_id": 3},
    {"image": "images/a.png", "expression": "right one", "mask": [POLYGON], "ref_id": 2, "kind": "location"},
    {"image": "images/a.png", "expression": "the cup", "ref_id": 1},
    {"image": "images/a.png", "expression": "an elephant", "mask": None, "ref_id": 4},
    {"image": "images/a.png", "expression": "both", "mask": [RUNS, RUNS], "ref_id": 5},
]  # fmt: skip


def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir(exist_ok=True)
    for number, name in enumerate("ab"):
        Image.new("RGB", SIZE[::-1], (100 * number, 0, 0)).save(tmp_path / "images" / f"{name}.png")
    Image.fromarray(TWO.astype(np.uint8) * 255).save(tmp_path / "masks" / "two.png")
    return tmp_path


def jsonl(tmp_path, rows, name="data.jsonl"):
    path = folder(tmp_path) / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def as_csv(tmp_path, rows):
    names = ["image", "expression", "mask", "split", "image_id", "ref_id", "sent_id", "category", "kind", "other"]
    path = folder(tmp_path) / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for row in rows:
            mask = row.get("mask", "")
            writer.writerow(row | {"mask": mask if isinstance(mask, str) else json.dumps(mask)})
    return path


@pytest.mark.parametrize("write", [jsonl, as_csv])
def test_every_form_of_mask(tmp_path, write):
    path = write(tmp_path, ROWS)
    assert splits_of(str(path)) == ["all"]
    data = open_data(str(path), "all")
    assert len(data) == 2 and not data.endless and data.name == tmp_path.name
    first, second = data[0], data[1]
    assert first.image_id == "images/a.png" and second.image_id == "images/b.png"
    assert [(e.text, e.reference, e.kind) for e in first.expressions] == [
        ("left one", 0, None), ("right one", 1, "location"), ("the cup", 0, None), ("an elephant", 2, None),
        ("both", 3, None),
    ]  # fmt: skip
    assert [r.ref_id for r in first.references] == ["1", "2", "4", "5"] and first.references[0].category == "cup"
    for number, mask in enumerate((ONE, TWO, ONE, np.zeros(SIZE, bool), ONE)):
        assert np.array_equal(first.mask(number), mask)
    assert second.expressions[0].text == 'grün 🙂, "quoted"' and np.array_equal(second.mask(0), TWO)
    assert len({e.sent_id for sample in (first, second) for e in sample.expressions}) == 6
    assert data.entries[0].size == SIZE and data.entries[1].size is None


def test_rows_without_ids_share_an_object_when_their_masks_are_equal(tmp_path):
    row = {"image": "images/a.png", "mask": [POLYGON]}
    rows = [row | {"expression": "x"}, row | {"expression": "y"}, row | {"expression": "z", "category": "hat"},
            row | {"expression": "u", "mask": POLYGON}, row | {"expression": "v", "image": "images/b.png"}]  # fmt: skip
    data = open_data(str(jsonl(tmp_path, rows)), "all")
    assert [e.reference for e in data[0].expressions] == [0, 0, 1, 2] and len(data[1].references) == 1
    assert all(np.array_equal(data[0].mask(i), TWO) for i in range(4))
    assert len({r.ref_id for entry in data.entries for r in entry.references}) == 4


def test_splits_by_their_exact_names(tmp_path):
    rows = [row | {"split": split, "sent_id": 1, "ref_id": 1} for row, split in zip(ROWS, ("testA", "test", "train"))]  # noqa: B905
    path = jsonl(tmp_path, rows)
    assert splits_of(str(path)) == ["train", "test", "testA"]
    assert [e.text for e in open_data(str(path), "test").entries[0].expressions] == ['grün 🙂, "quoted"']
    with pytest.raises(ValueError, match="no split 'val'; accepted are train, test, testA$"):
        open_data(str(path), "val")


def test_a_file_without_splits_says_so(tmp_path):
    with pytest.raises(ValueError, match="no split 'train'; accepted are all; a file whose rows have no split is one"):
        open_data(str(jsonl(tmp_path, ROWS)), "train")


def test_image_ids(tmp_path):
    rows = [ROWS[0] | {"image_id": 7}, ROWS[2], ROWS[1] | {"image_id": "b"}]
    assert [entry.image_id for entry in read_jsonl(jsonl(tmp_path, rows))["all"]] == ["7", "b"]


def test_lines_and_byte_order_marks(tmp_path):
    path = jsonl(tmp_path, ROWS)
    text = path.read_text(encoding="utf-8").replace("\n", "\r\n\n").replace("left one", "left\u2028\x85one")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_jsonl(path)["all"][0].expressions[0].text == "left\u2028\x85one"  # no line of the file ends there


def test_positions_give_the_order(tmp_path):
    rows = [ROWS[0] | {"position": 2}, ROWS[2] | {"position": 0}, ROWS[4] | {"position": 1}]
    (entry,) = read_jsonl(jsonl(tmp_path, rows))["all"]
    assert [(e.text, e.reference) for e in entry.expressions] == [("right one", 1), ("an elephant", 2), ("left one", 0)]


BASE = ROWS[0] | {"sent_id": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([5], "line 1: 5; an object"),
        ([BASE, {}], "line 2: image is missing"),
        ([{k: v for k, v in BASE.items() if k != "expression"}], "line 1: expression is missing; it has 'image'"),
        ([{k: v for k, v in BASE.items() if k != "mask"}], "line 1: mask is missing"),
        ([BASE | {"image": ""}], "line 1: image: ''"),
        ([BASE | {"image": 5}], "line 1: image: 5; a string"),
        ([BASE | {"image": "a\0"}], "line 1: image"),
        ([BASE | {"expression": ["x"]}], "line 1: expression: .*a string"),
        ([BASE | {"mask": 5}], "line 1: mask: mask 5; a list of polygons"),
        ([BASE | {"mask": ""}], "line 1: mask: ''"),
        ([BASE | {"mask": [[1, 2, 3]]}], "line 1: mask: polygon"),
        ([BASE | {"mask": {"size": [2, 2], "counts": [3]}}], "line 1: mask: .*2x2 pixels"),
        ([BASE | {"split": ""}], "line 1: split"),
        ([BASE | {"ref_id": 1.5}], "line 1: ref_id: 1.5; a whole number or a string"),
        ([BASE | {"category": 5}], "line 1: category: 5"),
        ([BASE | {"position": []}], "line 1: position"),
        ([BASE, BASE], "line 2: sent_id 1 is also at .*line 1"),
        ([BASE, BASE | {"sent_id": 2, "mask": [POLYGON]}], "line 2: ref_id 1 has another mask or category than at"),
        ([BASE, BASE | {"sent_id": 2, "image": "images/b.png"}], "line 2: ref_id 1 is of another image at .*line 1"),
        ([BASE, ROWS[1] | {"split": "val"}], "line 2: split is given, others have none"),
        ([ROWS[1] | {"split": "val"}, BASE], "line 2: split is missing, others have one"),
        ([BASE, BASE | {"sent_id": 2, "image_id": "x"}], "line 2: images/a.png has image_id x, and 'images/a.png' bef"),
        ([BASE | {"image_id": "x"}, ROWS[1] | {"image_id": "x"}], "line 2: image x is .*b.png, but .*a.png at"),
    ],
)  # fmt: skip
def test_malformed_rows_are_named(tmp_path, rows, message):
    path = jsonl(tmp_path, rows)
    with pytest.raises(ValueError, match=message) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(str(path)) and "accepted" in str(caught.value) or "it has" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"", "holds no expressions"),
        ("x.jsonl", b"{'a': 1}", "line 1: not JSON"),
        ("x.jsonl", b"\n\n[", "line 3: not JSON"),
        ("x.jsonl", b"[" * 50000, "line 1: not JSON"),
        ("x.jsonl", b"\xff\xfe\x00", "not text in UTF-8"),
        ("x.csv", b"", "holds no expressions"),
        ("x.csv", b"file;expression;mask\na;b;c", r"line 1: columns \['file;expression;mask'\]"),
        ("x.csv", b"image,expression,mask,mask\n", "line 1: columns"),
        ("x.csv", b'image,expression,mask\na,"b\nc",null\na,b', "line 4: 2 cells; 3, as in the first row"),
        ("x.csv", b'image,expression,mask\na,b,"c', "line 2: not CSV"),
        ("x.csv", b"image,expression,mask\na,b,[1", "line 2: mask: not JSON"),
        ("x.csv", b"image,expression,mask\na,b,", "line 2: mask is missing"),
    ],
)
def test_files_that_are_not_of_the_format(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_jsonl(tmp_path / name)
    assert name in str(caught.value)


def test_malformed_rows_of_csv_are_left_out_where_somebody_collects_them(tmp_path):
    path = folder(tmp_path) / "data.csv"
    lines = ["image,expression,mask", "images/a.png,one,null", "images/a.png,two", "images/a.png,three,[1",
             "images/b.png,,null", "images/b.png,five,null,", "images/b.png,six,null"]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    problems = []
    entries = read_jsonl(path, problems)["all"]
    assert [(e.sent_id, e.text) for entry in entries for e in entry.expressions] == [("row-1", "one"), ("row-6", "six")]
    assert [problem.replace(f"{path}: ", "")[:20] for problem in problems] == [
        "line 3: 2 cells; 3, ", "line 4: mask: not JS", "line 6: 4 cells; 3, ", "line 5: expression i"]  # fmt: skip


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read"):
        read_jsonl(tmp_path / "none.jsonl")


ODD = [None, True, -1, 0, 10**30, 1.5, float("nan"), "", "\0", "\ud800", "text", [], [[]], {}, [1], {"a": 1}, POLYGON]
FIELDS = ["image", "expression", "mask", "split", "image_id", "ref_id", "sent_id", "category", "kind", "position"]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_changes_are_read_or_value_errors(tmp_path, data):
    rows = copy.deepcopy(ROWS)
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.sampled_from(rows))
        if data.draw(st.integers(0, 9)) == 0:
            row.pop(data.draw(st.sampled_from(sorted(row) or [""])), None)
        else:
            row[data.draw(st.sampled_from(FIELDS))] = data.draw(st.sampled_from(ODD))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(['"', "{", "]", ",", "9", "\\", "\n", "é", ""])) + text[at + 1 :]
    path = folder(tmp_path) / "data.jsonl"
    path.write_text(text, encoding="utf-8")
    try:
        for split in splits_of(str(path)):
            found = open_data(str(path), split)
            for index in range(len(found)):
                found[index]
    except ValueError:
        pass


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_csv_is_read_or_a_value_error(tmp_path, data):
    text = as_csv(tmp_path, ROWS).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(['"', ",", "\n", "{", "\0", "é", "\r", ""])) + text[at + 1 :]
    path = tmp_path / "other.csv"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        read_jsonl(path)
    except ValueError:
        pass


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published sentences are not there")
def test_every_sentence_of_refcoco_is_read_and_tokenised(tmp_path):
    rows = []
    for split in ("val", "testA", "testB"):
        for item in json.loads((SHARED / "refcoco_text" / f"{split}.json").read_text(encoding="utf-8"))["items"]:
            image_id, ref_id, sent_id = Path(item["mask"]).stem.split("_")
            ids = {"image_id": image_id, "ref_id": ref_id, "sent_id": sent_id}
            row = {"image": item["image"], "expression": item["text"], "split": split, **ids}
            rows.append(row | {"mask": f"{ref_id}.png"})
    path = tmp_path / "refcoco.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    splits = read_jsonl(path)
    bert = Tokenizer.from_file(SHARED / "tokenizers" / "bert-base-uncased" / "vocab.txt")
    clip = Tokenizer.from_file(SHARED / "tokenizers" / "clip" / "vocab.json")
    for split, entries in splits.items():
        texts = [e.text for entry in entries for e in entry.expressions]
        counts = (sum(len(entry.references) for entry in entries), len(texts), len(entries))
        assert counts == EXPECTED["refcoco", "unc"][split]
        for tokenizer, limit in ((bert, 20), (clip, 17)):
            tokens = tokenizer(texts, limit)
            assert tokens.ids.shape == (len(texts), limit) and bool((tokens.mask.sum(1) >= 2).all())
            assert len(tokens.cut) < 0.02 * len(texts)
