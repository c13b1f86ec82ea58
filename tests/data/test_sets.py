from __future__ import annotations

import pytest

from refseg.data.formats.export import export_jsonl, export_refer
from refseg.data.index import IndexedSamples, PerReference
from refseg.data.loader import TrainingBatches
from refseg.data.sets import open_data, open_splits, splits_of
from refseg.data.shapes import RefShapes
from tiny import TOKENIZER, tiny


def test_refshapes_by_name():
    data = open_data("refshapes+", "testA")
    assert isinstance(data, RefShapes) and (data.name, data.split) == ("refshapes+", "testA")
    assert splits_of("refshapes") == ["train", "val", "testA", "testB"] == list(open_splits("refshapes"))
    with pytest.raises(ValueError, match="no split 'test'; accepted are train, val, testA, testB"):
        open_data("refshapes", "test")


def test_published_sets_by_name(tmp_path, monkeypatch):
    monkeypatch.delenv("REFSEG_DATA", raising=False)
    with pytest.raises(ValueError, match="REFSEG_DATA is not set; the folder that holds refcocog"):
        open_data("refcocog-umd", "val")
    monkeypatch.setenv("REFSEG_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"data 'refcocog-umd': .*refcocog/refs\(umd\)\.p is missing"):
        open_data("refcocog-umd", "val")
    export_refer(RefShapes("refshapes", "val"), tmp_path, "refcocog", "umd", limit=2)
    data = open_data("refcocog-umd", "val")
    assert isinstance(data, IndexedSamples) and (data.name, data.split, len(data)) == ("refcocog-umd", "val", 2)
    assert splits_of("refcocog-umd") == ["val"]
    export_refer(RefShapes("refshapes", "val"), tmp_path, "refcoco", "unc", limit=1)
    monkeypatch.delenv("REFSEG_DATA")
    monkeypatch.chdir(tmp_path)
    assert len(open_data("refcoco", "val")) == 1  # the folder here


def test_paths_of_files_and_folders(tmp_path, monkeypatch):
    refer = export_refer(RefShapes("refshapes", "val"), tmp_path, "mine", limit=1)
    plain = export_jsonl(RefShapes("refshapes", "val"), tmp_path / "plain", limit=1)
    for path, name in (
        (refer, "mine-refseg"),
        (refer.parent, "mine-refseg"),
        (plain, "plain"),
        (plain.parent, "plain"),
    ):
        assert open_data(str(path), "val").name == name
    other = plain.rename(plain.with_name("other.jsonl"))
    assert open_data(str(other), "val").name == "other"
    monkeypatch.chdir(plain.parent)
    assert open_data("other.jsonl", "val")[0].image_id == "refshapes-val-000000"


def test_folders_that_hold_several_or_nothing(tmp_path):
    path = export_refer(RefShapes("refshapes", "val"), tmp_path, "mine", "unc", limit=1)
    path.with_name("refs(google).p").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"holds refs\(google\)\.p, refs\(unc\)\.p; the path of one of them"):
        open_data(str(path.parent), "val")
    assert open_data(str(path), "val").name == "mine-unc"
    with pytest.raises(ValueError, match="no data set; there is one in mine below it; a folder with"):
        open_data(str(tmp_path), "val")


@pytest.mark.parametrize("name", ["coco", "no/such/folder", "x.jsonl"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"unknown; accepted are refshapes, .*, grefcoco, or the path of a folder"):
        open_data(name, "val")


@pytest.mark.parametrize("name", ["refs.p", "instances.json", "expressions.json", "x.txt"])
def test_files_of_no_known_format(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="of no known format"):
        open_data(str(tmp_path / name), "val")


def test_one_random_sentence_of_a_reference_at_a_time(tmp_path):
    """As the papers train: every pass takes each reference once."""
    path = export_jsonl(RefShapes("refshapes", "val"), tmp_path / "out", limit=5)
    data = PerReference(open_data(str(path), "val"))
    of = {}
    for index in range(5):
        sample = RefShapes("refshapes", "val")[index]
        of |= {e.sent_id: sample.references[e.reference].ref_id for e in sample.expressions}
    size = len(data)
    assert size == len(set(of.values()))
    batches = TrainingBatches(data, TOKENIZER, tiny("lgformer-shapes").input, 1, 1, 0, 3 * size, data.endless)
    seen = [[sent_id for batch in batches[step] for sent_id in batch.ids] for step in range(3 * size)]
    assert all(len(ids) == 1 for ids in seen)
    for start in (0, size, 2 * size):
        assert sorted(of[ids[0]] for ids in seen[start : start + size]) == sorted(set(of.values()))
    assert len({ids[0] for ids in seen}) > size  # not always the same sentence
