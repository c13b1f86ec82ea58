"""Runs are read as they are found: half written, damaged, or of something else."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from child import run_in

from refseg.files import FolderLock, writer_of
from refseg.training.config import run_to_json
from refseg.training.history import find_runs, read_history
from refseg.training.listing import age_text, list_runs

LINES = [
    {"step": 0, "seconds": 0.0, "init": "lavt-shapes", "new_tensors": ["a"], "of": 3},
    {"step": 50, "seconds": 55.0, "loss": 1.5, "dice": 1.0, "pixel_text": 0.5, "gradient": 9.0, "rate": 0.001},
    {"step": 100, "seconds": 110.0, "loss": 1.0, "dice": 0.7, "pixel_text": 0.3, "gradient": None, "rate": 0.0005},
    {"step": 100, "seconds": 110.0, "val": {"expressions": 4, "mIoU": 0.3, "oIoU": 0.2, "P@0.5": 0.1},
     "inside": {"words": 0.2, "gap": -0.01}},
    {"step": 150, "seconds": 165.0, "loss": 0.9, "dice": 0.6, "pixel_text": 0.3, "gradient": 0.5, "rate": 0.0},
    {"step": 150, "seconds": 165.0, "val": {"expressions": 4, "mIoU": 0.25, "oIoU": 0.22, "P@0.5": 0.1},
     "inside": {"words": 0.3, "gap": 0.05}},
]  # fmt: skip


def made(folder: Path, lines=LINES, **changes) -> Path:
    """A folder of a run that has a log and no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    run = replace(run_in(folder, 150), **changes)
    (folder / "run.json").write_text(run_to_json(run))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_whole_log(tmp_path):
    found = read_history(made(tmp_path / "run"))
    assert (found.preset, found.data, found.step, found.of_steps, found.seconds) == (
        "lgformer-shapes", ["refshapes"], 150, 150, 165.0)  # fmt: skip
    assert found.train["loss"] == [(50, 1.5), (100, 1.0), (150, 0.9)] and "of" not in found.train
    assert found.val["mIoU"] == [(100, 0.3), (150, 0.25)] and found.inside["gap"] == [(100, -0.01), (150, 0.05)]
    assert found.metric == "mIoU" and found.best == (100, 0.3) and found.is_done and found.problems == ()
    assert math.isnan(found.train["gradient"][1][1])  # of a step that float16's scale left out: no fault


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-30], "log.jsonl: line 6: was cut off, and left out"),
        (lambda text: text.replace('"loss": 1.5', '"loss": NaN'), "log.jsonl: line 2: loss is not finite"),
        (lambda text: text.replace('"loss": 1.5', '"loss": null') + '{"step": 151, "loss": null}\n',
         "log.jsonl: line 7: loss is not finite"),
        (lambda text: text.replace('"mIoU": 0.3', '"mIoU": NaN'), "log.jsonl: line 4: mIoU is not finite"),
        (lambda text: text.replace('"loss": 1.5', '"loss": 1' + 400 * "0"), "log.jsonl: line 2: loss is not finite"),
        (lambda text: "[" * 100_000 + "\n" + text, "log.jsonl: line 1: is damaged, and left out"),
        (lambda text: "\x00\ufffd\n" + text, "log.jsonl: line 1: is damaged, and left out"),
        (lambda text: text + "7\n", "log.jsonl: line 7: says no step, and is left out: 7"),
        (lambda text: text + '{"step": "50"}\n', "log.jsonl: line 7: says no step"),
        (lambda text: text + '{"step": true}\n', "log.jsonl: line 7: says no step"),
        (lambda text: text + '{"step": 160, "val": 3}\n', "log.jsonl: line 7: val is 3, and left out"),
        (lambda text: text + '{"step": 50, "loss": 2}\n', "log.jsonl: line 7: goes back from step 150 to 50"),
        (lambda text: "", "log.jsonl: is empty"),
        (lambda text: 20 * "{\n", "and 15 more"),
    ],
)  # fmt: skip
def test_a_damaged_log_is_told_and_the_rest_is_used(tmp_path, damage, said):
    folder = made(tmp_path / "run")
    text = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text(damage(text))
    found = read_history(folder)
    assert any(said in problem for problem in found.problems), found.problems
    assert len(found.problems) <= 6
    if said not in ("log.jsonl: is empty", "and 15 more"):
        assert len(found.train["dice"]) == 3 and len(found.val["oIoU"]) >= 1
    [row] = list_runs([tmp_path])  # it never ends a listing
    assert row["problems"] == list(found.problems)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"preset": 3}', '{"preset": {"name": "x"}, "steps": "many"}',
                                     "\udcff"])  # fmt: skip
def test_a_damaged_run_json_leaves_the_log(tmp_path, content):
    folder = made(tmp_path / "run")
    (folder / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    found = read_history(folder)
    assert found.best == (100, 0.3) and found.of_steps is None and not found.is_done
    assert bool(found.problems) == ("name" not in content) or content == ""
    assert list_runs([tmp_path])[0]["step"] == 150


def test_numbers_without_end_are_bounded(tmp_path):
    wide = {"step": 1, **{f"x{i}": i for i in range(5000)}}
    found = read_history(made(tmp_path / "run", [wide]))
    assert len(found.train) == 40


def test_steps_that_only_the_data_tell_are_unknown_until_the_weights_say_them(tmp_path):
    folder = made(tmp_path / "run", steps=None, epochs=3)
    assert read_history(folder).of_steps is None
    (folder / "last").mkdir()
    (folder / "last" / "config.json").write_text(json.dumps({"training": {"of_steps": 150, "source": "scratch"}}))
    assert read_history(folder).of_steps == 150 and read_history(folder).is_done
    assert read_history(made(tmp_path / "drawn", steps=None)).of_steps == 6500  # RefShapes has no end


def test_runs_are_found_below_and_nothing_else_is_one(tmp_path):
    for name in ("b", "a/deep/er", "a"):
        made(tmp_path / name)
    begun = made(tmp_path / "begun")
    (begun / "log.jsonl").unlink()
    made(tmp_path / "b" / "best")  # no run of its own
    made(tmp_path / ".hidden")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"scripts": {}}')  # of another program
    found = [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)]
    assert found == ["a", "a/deep/er", "b", "begun"]
    rows = list_runs([tmp_path, tmp_path / "a", tmp_path / "b"])
    assert [row["name"] for row in rows] == found  # each once
    assert rows[-1]["loss"] is rows[-1]["age"] is rows[-1]["best"] is None and rows[-1]["step"] == 0
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        list_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="other: no run is there; folders with a run.json and a log.jsonl"):
        list_runs([tmp_path / "other"])


def test_a_running_run_is_known_by_its_lock(tmp_path):
    folder = made(tmp_path / "run")
    assert list_runs([folder])[0]["state"] == "finished"
    with FolderLock(folder):
        row = list_runs([folder])[0]
        assert (row["state"], row["process"], row["name"]) == ("running", str(os.getpid()), "run")
    assert not (folder / ".refseg.lock").exists()
    (folder / ".refseg.lock").write_text("1")  # left by a killed process
    assert writer_of(folder) is None and (folder / ".refseg.lock").read_text() == "1"
    made(folder, LINES[:4])
    assert list_runs([folder])[0]["state"] == "stopped"


def test_looking_does_not_keep_a_run_from_beginning(tmp_path):
    """Whoever looks at a leftover lock holds it for a moment, which whoever begins waits for."""
    looks = "import sys, time; from pathlib import Path; from refseg.files import writer_of\n"
    looks += "while True: writer_of(Path(sys.argv[1])); time.sleep(0.001)"
    (tmp_path / ".refseg.lock").write_text("1")
    child = subprocess.Popen([sys.executable, "-c", looks, str(tmp_path)])
    try:
        for _ in range(200):
            with FolderLock(tmp_path):
                pass
            (tmp_path / ".refseg.lock").write_text("1")
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (90, "2 min"), (3600, "1 h"), (86_400, "1 day"), (86_400 * 40, "40 days")],
)
def test_ages_are_short(seconds, text):
    assert age_text(seconds) == text
