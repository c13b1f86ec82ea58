from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from refseg.data.formats.export import export_jsonl, export_refer
from refseg.data.sets import open_data, open_splits
from refseg.data.shapes import RefShapes
from refseg.predictor import Predictor
from refseg.scoring.evaluation import evaluate
from refseg.types import Expression, Reference, Sample
from tiny import tiny_model


class Short(RefShapes):
    """The first six scenes of a split; finite whatever the split."""

    def __init__(self, name, split):
        super().__init__(name, split)
        self.endless = False

    def __len__(self):
        return 6


VAL, TEST = Short("refshapes", "val"), Short("refshapes", "testB")


def exported(tmp_path, layout, samples):
    if layout == "refer":
        return export_refer(samples, tmp_path / "root", "shapes")
    return export_jsonl(samples, tmp_path / "out")


def assert_same(found, expected):
    assert len(found) == len(expected)
    for index in range(len(expected)):
        a, b = found[index], expected[index]
        assert a.image_id == b.image_id and a.image.dtype == b.image.dtype and np.array_equal(a.image, b.image)
        assert a.expressions == b.expressions
        for one, other in zip(a.references, b.references, strict=True):
            assert (one.ref_id, one.category) == (other.ref_id, other.category)
            assert one.same_category == other.same_category
        for one, other in zip(a.references, b.references, strict=True):
            assert one.mask.dtype == other.mask.dtype == bool and np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("layout", ["refer", "jsonl"])
def test_what_is_read_back_is_the_same_bit_for_bit_and_scores_the_same(tmp_path, layout):
    path = exported(tmp_path, layout, [VAL, TEST])
    for expected in (VAL, TEST):
        assert_same(open_data(str(path), expected.split), expected)
    assert list(open_splits(str(path.parent))) == ["val", "testB"]
    predictor = Predictor(tiny_model(), "cpu")
    scores = [evaluate(predictor, data)[0].summary() for data in (open_data(str(path), "val"), VAL)]
    assert scores[0] == scores[1]
    assert 0 < scores[0]["oIoU"] < 1  # two models that answer nothing would also be equal


def test_the_refer_layout_is_as_the_published_one(tmp_path):
    path = exported(tmp_path, "refer", VAL)
    assert path == tmp_path / "root/shapes/refs(refseg).p"
    refs = pickle.loads(path.read_bytes())
    fields = {"ref_id", "ann_id", "image_id", "category_id", "split", "file_name", "sent_ids", "sentences"}
    assert all(set(ref) == fields | {"same_category"} for ref in refs)
    instances = json.loads(path.with_name("instances.json").read_text())
    assert len(instances["images"]) == 6 and {i["file_name"] for i in instances["images"]} == {
        f"{n:06d}.png" for n in range(6)
    }
    assert {a["id"] for a in instances["annotations"]} == {ref["ann_id"] for ref in refs}
    areas = {a["id"]: a["area"] for a in instances["annotations"]}
    first = VAL[0]
    assert [areas[r["ann_id"]] for r in refs[: len(first.references)]] == [int(r.mask.sum()) for r in first.references]


class Odd:
    """No target, no category, an id that is no file name, a text with everything."""

    name, split, endless = "odd", "test", False

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 255, (9, 11, 3), dtype=np.uint8)
        masks = [
            np.zeros((9, 11), bool),
            np.random.default_rng(index + 9).random((9, 11)) < 0.5,
            np.ones((9, 11), bool),
        ]
        references = tuple(
            Reference(f"{index}/{n}", mask, category)
            for n, (mask, category) in enumerate(zip(masks, (None, None, "hat"), strict=True))
        )
        expressions = (
            Expression(f"{index}:0", "nobody ünd\u2028 \"quoted\"", 0),
            Expression(f"{index}:1", "all", 2, "attribute"),
            Expression(f"{index}:2", "", 1),
            Expression(f"{index}:3", "none\n", 0),
        )  # fmt: skip
        return Sample(f"../{index}/a b", image, references, expressions)


@pytest.mark.parametrize("layout", ["refer", "jsonl"])
def test_samples_of_any_kind_survive(tmp_path, layout):
    assert_same(open_data(str(exported(tmp_path, layout, Odd())), "test"), Odd())


def test_an_image_of_two_splits_is_written_once(tmp_path):
    one, two = Short("refshapes", "val"), Short("refshapes", "val")
    two.split = "test"  # the name that is written; the scenes are those that were made for val
    two._generated = one._generated
    two.draw = one.draw
    path = export_jsonl([one, two], tmp_path / "out")
    assert len(list((path.parent / "images").iterdir())) == 6
    assert_same(open_data(str(path), "test"), one)


@pytest.mark.parametrize("layout", ["refer", "jsonl"])
def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path, layout):
    path = exported(tmp_path, layout, VAL)
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="holds something already; a new or empty folder is accepted"):
        exported(tmp_path, layout, VAL)
    assert before == {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}


@pytest.mark.parametrize("layout", ["refer", "jsonl"])
def test_nothing_is_left_of_an_export_that_fails(tmp_path, layout):
    class Breaks(Short):
        def __getitem__(self, index):
            if index == 3:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        exported(tmp_path, layout, Breaks("refshapes", "val"))
    assert [file for file in tmp_path.rglob("*") if file.is_file() or file.name == "shapes"] == []
    exported(tmp_path, layout, VAL)


def test_whoever_made_the_splits_the_file_is_found_again(tmp_path):
    path = export_refer(VAL, tmp_path, "x+y", "me+you_2-b")
    assert len(open_data(str(path.parent), "val")) == 6 and open_data(str(path), "val").name == "x+y-me+you_2-b"


def test_endless_splits_need_a_limit(tmp_path):
    train = RefShapes("refshapes", "train")
    with pytest.raises(ValueError, match="split 'train': endless; a limit"):
        export_jsonl(train, tmp_path / "out")
    assert len(open_data(str(export_jsonl(train, tmp_path / "out", limit=3)), "train")) == 3


def test_names_that_cannot_be_files(tmp_path):
    for name, by in (("../x", "unc"), ("", "unc"), ("x", "a(b)")):
        with pytest.raises(ValueError, match="letters, digits"):
            export_refer(VAL, tmp_path, name, by)
    with pytest.raises(ValueError, match="splits val, val: at least one, each once"):
        export_jsonl([VAL, VAL], tmp_path / "out")
