"""Several data sets as one, without the images that one of them scores."""

from __future__ import annotations

import json
import shutil
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from refseg.data.checks.leakage import coco_number
from refseg.data.mixture import Joined, open_training


def write(folder, rows):
    """A JSONL data set from (image name, split, expressions)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, split, texts in rows:
        photo = folder.parent / "photos" / name
        photo.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((8, 8, 3), zlib.crc32(name.encode()) % 251, np.uint8)).save(photo)
        for text in texts:
            lines.append({"image": f"../photos/{name}", "split": split, "expression": text, "ref_id": f"{name}-1",
                          "mask": [[1, 1, 5, 1, 5, 5]]})  # fmt: skip
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


@pytest.fixture
def sets(tmp_path):
    """b trains on a photo that a tests and on one that a trains on; a trains on one that b scores, by another name."""
    a = write(tmp_path / "a", [
        ("1.png", "train", ["one"]), ("COCO_train2014_000000000007.png", "train", ["seven", "again seven"]),
        ("3.png", "val", ["three"]), ("4.png", "testA", ["four"]),
    ])  # fmt: skip
    b = write(tmp_path / "b", [
        ("4.png", "train", ["four too"]), ("1.png", "train", ["one too"]), ("5.png", "train", ["five"]),
        ("val2017/000000000007.png", "val", ["seven too"]),
    ])  # fmt: skip
    return a, b


def texts(data):
    return [e.text for i in range(len(data)) for e in data[i].expressions]


def test_images_that_any_set_scores_are_taken_out(sets):
    data = open_training(sets, per_reference=False)
    assert texts(data.train) == ["one", "one too", "five"] and data.taken_out == 2
    assert data.texts == ("one", "one too", "five")
    assert texts(data.val) == ["three"] and data.train.name == "a + b" and not data.train.endless
    assert texts(open_training(sets[::-1], per_reference=False).val) == ["seven too"]


def test_of_one_set_the_published_splits_stay(sets):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_training(sets[:1], per_reference=True)
    assert texts(data.train) == ["one", "seven", "again seven"] and data.taken_out == 0
    assert len(data.train) == 2  # a reference with its sentences is an item


def test_a_set_that_scores_what_it_trains_on_is_said(tmp_path):
    own = write(tmp_path / "own", [("1.png", "train", ["one"]), ("1.png", "val", ["uno"])])
    with pytest.warns(UserWarning, match="1 images of its train split are in its val or test splits too"):
        assert texts(open_training([own], per_reference=True).train) == ["one"]


def test_what_cannot_be_mixed_is_refused(sets, tmp_path):
    leaked = write(tmp_path / "leaked", [("3.png", "train", ["three too"]), ("4.png", "train", ["x"])])
    only_val = write(tmp_path / "only_val", [("9.png", "val", ["nine"])])
    only_val_of_all = write(tmp_path / "scores", [("3.png", "train", ["x"]), ("1.png", "val", ["x"]),
                                                  ("val2017/000000000007.png", "val", ["x"])])  # fmt: skip
    for names, message in (
        ((sets[0], sets[0]), "one of them twice"),
        (("refshapes", sets[0]), "an endless set cannot be mixed; export it first"),
        ((sets[0], only_val), "has no 'train' split but val; train is needed"),
        ((leaked, sets[0]), "has no 'val' split but train; train and val are needed"),
        ((only_val_of_all, sets[0]), "no image is left to train on"),
    ):
        with pytest.raises(ValueError, match=message):
            open_training(names, per_reference=False)


def test_joined_items_are_found_from_both_ends():
    class Few:
        endless = False

        def __init__(self, name, items):
            self.name, self.split, self.items = name, "train", items

        def __len__(self):
            return len(self.items)

        def __getitem__(self, index):
            return self.items[index]

    joined = Joined([Few("a", "xy"), Few("b", ""), Few("c", "z")])
    assert [joined[i] for i in range(len(joined))] == list("xyz") and joined.name == "a + b + c"
    for wrong in (3, -1):
        with pytest.raises(IndexError, match="there is no item"):
            joined[wrong]


def test_twelve_digits_alone_are_no_proof_and_content_is(tmp_path):
    digits = "000000000007.png"
    a = write(tmp_path / "one" / "a", [(digits, "train", ["seven of mine"]), ("2.png", "train", ["two"]),
                                       ("3.png", "val", ["three"])])  # fmt: skip
    b = write(tmp_path / "two" / "b", [(digits, "val", ["another seven"]), ("copy.png", "test", ["two again"])])
    Image.fromarray(np.full((8, 8, 3), 3, np.uint8)).save(tmp_path / "two" / "photos" / digits)
    shutil.copy(tmp_path / "one" / "photos" / "2.png", tmp_path / "two" / "photos" / "copy.png")
    c = write(tmp_path / "two" / "c", [("5.png", "train", ["five"])])
    (tmp_path / "two" / "b" / "data.jsonl").write_text(
        (tmp_path / "two" / "b" / "data.jsonl").read_text() + (tmp_path / "two" / "c" / "data.jsonl").read_text()
    )
    data = open_training([a, b], per_reference=False)
    assert texts(data.train) == ["seven of mine", "five"] and data.taken_out == 1
    assert coco_number("x/000000000007.jpg") is None and coco_number("x/000000000007.jpg", True) == digits[:12]
    assert coco_number("val2017/000000000007.jpg") == coco_number("a/COCO_val2014_000000000007.jpg") == digits[:12]
    assert c
