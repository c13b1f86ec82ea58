from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from refseg.data.checks.identity import DataIdentity, identify, same_data, stated_identity
from refseg.data.sets import open_data

BUILT_IN = DataIdentity("refshapes", "refshapes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder `birds` in JSONL layout below the current one, and another data set of the same name beside it."""
    for place, text in (("birds", "a bird"), ("other/birds", "another bird")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "data.jsonl").write_text(json.dumps({"image": "i.png", "expression": text, "mask": None}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(spelled):
    return identify(spelled, open_data(spelled, "all"))


def test_one_set_in_all_its_spellings(folder):
    (folder / "link").symlink_to(folder / "birds")
    spellings = ["birds", "birds/data.jsonl", str(folder / "birds"), "./other/../birds", "link"]
    assert all(same_data(opened(a), opened(b)) for a in spellings for b in spellings)
    assert all(same_data(stated_identity({"data": a}), opened("birds")) for a in spellings)  # of an older header
    assert opened("birds").data == "birds" and Path(opened("link").data_file).is_absolute()
    kept = stated_identity(json.loads(json.dumps(opened("link").as_dict())))
    assert kept == opened("link")


def test_different_sets(folder):
    assert not same_data(opened("birds"), opened("other/birds"))  # two files of one name
    assert not same_data(opened("birds"), BUILT_IN)
    assert not same_data(DataIdentity("refshapes+", "refshapes+"), BUILT_IN)
    shutil.copytree(folder / "birds", folder / "refshapes")  # a folder may be called so
    assert not same_data(opened("./refshapes"), BUILT_IN) and not same_data(BUILT_IN, opened("./refshapes"))
    shutil.copytree(folder / "birds", folder / "copy")
    assert same_data(opened("copy"), opened("birds"))  # holds the same


def test_a_name_and_the_path_of_a_published_set(tmp_path, monkeypatch):
    place = tmp_path / "refcocog"
    place.mkdir()
    (place / "refs(umd).p").write_bytes(b"")  # identities read no data
    monkeypatch.setenv("REFSEG_DATA", str(tmp_path))
    by_name, by_path = (stated_identity({"data": data}) for data in ("refcocog-umd", str(place)))
    assert by_name != by_path and same_data(by_name, by_path) and by_name.data_name == by_path.data_name


def test_where_the_files_are_not_the_name_decides(folder):
    elsewhere = DataIdentity("/scratch/birds", "birds", "/scratch/birds/data.jsonl")
    assert same_data(elsewhere, opened("birds")) and same_data(opened("birds"), elsewhere)
    assert not same_data(DataIdentity("/x", "cats", "/scratch/cats/data.jsonl"), opened("birds"))
    assert same_data(stated_identity({"data": "Birds"}), opened("birds"))  # another project's name for it
    assert not same_data(stated_identity({"data": "/scratch/cats"}), opened("birds"))
    too_long = DataIdentity("birds", "birds", "/" + "x" * 300)  # for any system
    assert same_data(too_long, opened("birds"))


def test_what_says_nothing_and_what_says_nonsense():
    assert stated_identity({"model": "theirs"}) is None
    with pytest.raises(ValueError, match="data 3: the name or the path"):
        stated_identity({"data": 3})
    assert stated_identity({"data": "x" * 5000}).data_name == "x" * 5000
    assert identify("mine", [1, 2]) == DataIdentity("mine", "mine")
