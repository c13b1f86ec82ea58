"""Nobody's files are replaced or deleted unasked, by any command; what killed processes left is taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import save_file

from ball import OUTLINE, coco_data
from refseg.files import FolderLock
from refseg.training.folder import refuse_others
from refseg.weights.store import save_model
from tiny import tiny_model

TRAIN = (
    "train", "lgformer-shapes", "--steps", 2, "--save-every", 1, "--eval-every", 2, "--eval-limit", 2, "--workers", 0,
    "--device", "cpu", "--set", "recipe.images_per_batch=2", "--set", "input.size=[64, 64]", "--set", "recipe.warmup=0",
)  # fmt: skip


def ended():
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def mine(folder, *names):
    """Files that a person put there."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    return {name: folder / name for name in names}


def test_a_training_touches_nothing_that_it_did_not_write(refseg, tmp_path):
    out = tmp_path / "mine"
    files = mine(out, "best/notes.txt", "log.jsonl", "thesis.txt")
    code, _, complaint = refseg(*TRAIN, "--out", out)
    assert code == 2 and "holds best and log.jsonl, which this command did not write" in complaint
    assert all(file.read_text() == "precious" for file in files.values())
    code, _, complaint = refseg(*TRAIN, "--out", out, "--overwrite")
    assert code == 0 and files["thesis.txt"].read_text() == "precious"
    assert not files["best/notes.txt"].exists() and (out / "best" / "model.safetensors").is_file()
    code, _, complaint = refseg(*TRAIN, "--out", out)
    assert code == 2 and "holds a run already" in complaint
    before = (out / "best" / "model.safetensors").stat().st_mtime_ns
    assert refseg(*TRAIN, "--out", out, "--overwrite", "--seed", 1)[0] == 0
    assert (out / "best" / "model.safetensors").stat().st_mtime_ns != before
    code, _, complaint = refseg(*TRAIN, "--out", out, "--overwrite", "--resume")
    assert code == 2 and "one of the two is accepted" in complaint


@pytest.fixture
def lavt(tmp_path):
    """Something that is no checkpoint of LAVT, but there."""
    import torch

    torch.save({"model": {}}, tmp_path / "lavt.pth")
    return tmp_path / "lavt.pth"


def test_convert_asks_before_it_replaces(refseg, lavt, tmp_path):
    out = tmp_path / "mywork"
    files = mine(out, "thesis.txt")
    code, _, complaint = refseg("convert", "lavt", lavt, out)
    assert code == 2 and "mywork: holds what this command did not write" in complaint
    save_model(tiny_model(), tmp_path / "trained")  # a model, but not a converted one
    code, _, complaint = refseg("convert", "lavt", lavt, tmp_path / "trained")
    assert code == 2 and "holds what this command did not write" in complaint
    for folder in (tmp_path / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert "did not write" not in refseg("convert", "lavt", lavt, folder)[2]
    assert "did not write" not in refseg("convert", "lavt", lavt, out, "--overwrite")[2]
    assert files["thesis.txt"].read_text() == "precious"


def test_a_model_is_saved_beside_what_else_is_in_its_folder(tmp_path):
    files = mine(tmp_path / "model", "thesis.txt", "figures/one.txt")
    save_file({}, tmp_path / "model" / "model.safetensors")
    save_model(tiny_model(), tmp_path / "model")
    assert all(file.read_text() == "precious" for file in files.values())
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > 1000


def test_an_evaluation_that_was_stopped_is_protected_as_one_that_was_not(refseg, model, tmp_path):
    out = tmp_path / "E"
    given = ("eval", model, "--out", out, "--save-scores")
    assert refseg(*given, "--limit", 6)[0] == 0
    (out / "predictions.jsonl").rename(out / ".predictions.jsonl.part")
    (out / "report.json").unlink()
    part, scores = (out / ".predictions.jsonl.part").read_bytes(), sorted(p.name for p in (out / "scores").iterdir())
    for other in (("--split", "testA"), ("--protocol", "cris"), ("--words", "swapped")):
        code, _, complaint = refseg(*given, "--limit", 6, *other)
        assert code == 2 and "holds predictions of" in complaint
        assert (out / ".predictions.jsonl.part").read_bytes() == part
        assert sorted(p.name for p in (out / "scores").iterdir()) == scores
    code, said, _ = refseg(*given, "--limit", 6, "--split", "testA", "--overwrite", "--json")
    assert code == 0 and json.loads(said)["split"] == "testA"
    code, _, complaint = refseg(*given, "--limit", 6)
    assert code == 2 and "differ in split" in complaint


def test_saved_scores_of_another_evaluation_stay(refseg, model, tmp_path):
    assert refseg("eval", model, "--out", tmp_path / "E", "--save-scores", "--limit", 4)[0] == 0
    (tmp_path / "E" / "predictions.jsonl").unlink()
    (tmp_path / "E" / "report.json").unlink()
    given = ("eval", model, "--out", tmp_path / "E", "--save-scores", "--limit", 4, "--split", "testB")
    code, _, complaint = refseg(*given)
    assert code == 2 and "scores: holds the scores of another evaluation" in complaint


def test_an_export_beside_other_files(refseg, tmp_path):
    files = mine(tmp_path / "data", "thesis.txt", "images/mine.png", "data.jsonl")
    given = ("data", "export", "refshapes", tmp_path / "data", "--split", "val", "--limit", 2)
    code, _, complaint = refseg(*given)
    assert code == 2 and "holds something already" in complaint and files["data.jsonl"].read_text() == "precious"
    assert refseg(*given, "--overwrite")[0] == 0
    assert files["thesis.txt"].read_text() == files["images/mine.png"].read_text() == "precious"
    assert len((tmp_path / "data" / "data.jsonl").read_text().splitlines()) == 2


def test_descriptions_replace_no_summary_and_wait_for_nobody(refseg, tmp_path):
    folder = coco_data(tmp_path / "coco", [OUTLINE])
    given = ("data", "refer", folder / "instances.json", folder, tmp_path / "out")
    files = mine(tmp_path / "out", "summary.json")
    code, _, complaint = refseg(*given)
    assert code == 2 and "summary.json: exists" in complaint and files["summary.json"].read_text() == "precious"
    with FolderLock(tmp_path / "out"):
        code, _, complaint = refseg(*given, "--overwrite")
    assert code == 2 and f"process {os.getpid()} is writing into it" in complaint


def test_what_killed_processes_left_is_taken_away_and_nothing_else(refseg, model, photo, tmp_path):
    out, dead = tmp_path / "out", ended()
    gone = mine(out, f".photo.1.mask.png.{dead}.part", f".segments.jsonl.{dead}.part")
    kept = mine(out, f".photo.1.mask.png.{os.getppid()}.part", ".hidden", "a.part", f".x.{dead}.parts", ".x.1a.part")
    assert refseg("segment", photo, "red", "--model", model, "--out", out)[0] == 0
    assert not any(file.exists() for file in gone.values()) and all(file.exists() for file in kept.values())
    folder = mine(tmp_path, f".data.{dead}.part/images/1.png", f".other.{dead}.part/1.png")
    assert refseg("data", "export", "refshapes", tmp_path / "data", "--split", "val", "--limit", 1)[0] == 0
    assert [file.exists() for file in folder.values()] == [False, True]


def test_a_run_that_was_killed_in_its_first_checkpoint_begins_again(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "checkpoints" / ".step-00000002.pt.99999999.part").write_bytes(b"half of it")
    refuse_others(tmp_path)
    (tmp_path / "checkpoints" / "mine.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="holds checkpoints and run.json"):
        refuse_others(tmp_path)
