"""Evaluations and trainings that are started again: what another one wrote, and other data, are never taken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

SMALL = (
    "--set", "recipe.images_per_batch=2", "--set", "input.size=[64, 64]", "--set", "recipe.warmup=0", "--workers", 0,
    "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def own(refseg, tmp_path):
    """A data set of one's own with train and val."""
    rows = []
    for split in ("train", "val"):
        refseg("data", "export", "refshapes", tmp_path / split, "--split", split, "--limit", 3)
        lines = (tmp_path / split / "data.jsonl").read_text().splitlines()
        rows += [json.loads(line) | {"image": f"../{split}/{json.loads(line)['image']}"} for line in lines]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "own"


def rewrite(own, change):
    file = own / "data.jsonl"
    rows = [change(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_answers_to_other_words_are_not_taken(refseg, model, own, tmp_path):
    given = ("eval", model, "--data", own, "--split", "val", "--out", tmp_path / "E")
    assert refseg(*given, "--limit", 3)[0] == 0
    rewrite(own, lambda row: row | {"expression": f"not {row['expression']}"})
    code, _, complaint = refseg(*given, "--limit", 6)
    assert code == 2 and "and the data now say 'not " in complaint and "a new folder is accepted" in complaint


def test_another_config_of_the_same_weights_is_refused(refseg, model, tmp_path):
    other = tmp_path / "model"
    shutil.copytree(model, other)
    given = ("eval", other, "--out", tmp_path / "E")
    assert refseg(*given, "--limit", 6)[0] == 0
    config = json.loads((other / "config.json").read_text())
    config["input"]["mean"] = [0.1, 0.1, 0.1]
    (other / "config.json").write_text(json.dumps(config))
    code, _, complaint = refseg(*given, "--limit", 8)
    assert code == 2 and "differ in identity" in complaint


def test_the_report_of_another_evaluation_and_a_file_of_ones_own_stay(refseg, model, tmp_path):
    two = tmp_path / "two"
    shutil.copytree(model, two)
    assert refseg("eval", model, "--limit", 6, "--out", tmp_path / "A")[0] == 0
    assert refseg("eval", two, "--limit", 6, "--out", tmp_path / "B")[0] == 0
    before = (tmp_path / "A" / "report.json").read_bytes()
    code, _, complaint = refseg("eval", "--predictions", tmp_path / "B" / "predictions.jsonl", "--out", tmp_path / "A")
    assert code == 2 and "holds the report on" in complaint and "differs in model" in complaint
    assert refseg("eval", "--predictions", tmp_path / "A" / "predictions.jsonl", "--out", tmp_path / "A")[0] == 0
    assert json.loads((tmp_path / "A" / "report.json").read_bytes())["mIoU"] == json.loads(before)["mIoU"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.json").write_text('{"quarter": 3}')
    code, _, complaint = refseg("eval", model, "--limit", 6, "--out", tmp_path / "mine")
    assert code == 2 and "it is not replaced" in complaint
    assert (tmp_path / "mine" / "report.json").read_text() == '{"quarter": 3}'


def test_a_grown_evaluation_that_was_stopped_twice_keeps_what_it_has(refseg, model, tmp_path, monkeypatch):
    from refseg.scoring.predictions import PredictionWriter

    out = tmp_path / "E"
    assert refseg("eval", model, "--limit", 6, "--out", out)[0] == 0
    keep, done = PredictionWriter.keep, []

    def stopped(self, question, answer):
        keep(self, question, answer)
        done.append(question)
        if len(done) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(PredictionWriter, "keep", stopped)
    lines = []
    for stop in (4, 2):  # noqa: B007, read by `stopped`
        done.clear()
        assert refseg("eval", model, "--limit", 60, "--out", out, "--batch", 1)[0] == 130
        lines.append(len((out / ".predictions.jsonl.part").read_text().splitlines()))
    assert lines[1] > lines[0] > 7


@pytest.mark.parametrize("row", [b'{"a": 1}\n', b"[]\n", b"no json\n"])
def test_a_damaged_row_is_named(refseg, model, tmp_path, row):
    out = tmp_path / "E"
    assert refseg("eval", model, "--limit", 6, "--out", out)[0] == 0
    lines = (out / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (out / "predictions.jsonl").write_bytes(b"".join([*lines[:2], row, *lines[3:]]))
    code, _, complaint = refseg("eval", model, "--limit", 9, "--out", out)
    assert code == 2 and "predictions.jsonl" in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize("training", [5, {"loss": 5}, {"loss": [1]}])
def test_a_models_odd_training_is_said_before_the_evaluation(refseg, model, tmp_path, training):
    other = tmp_path / "model"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"training": training}))
    code, _, complaint = refseg("eval", other, "--limit", 3)
    assert code == 2 and "config.json: training" in complaint


@pytest.mark.slow
def test_a_run_goes_on_from_any_folder_with_the_same_data_only(refseg, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ("train", "lgformer-shapes", "--data", "own", "--steps", 2, "--save-every", 1, "--out", "run", *SMALL)
    code, _, complaint = refseg(*given, "--eval-limit", 2)
    assert code == 0, complaint
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    code, _, complaint = refseg("train", "--resume", "--out", "../run")
    assert code == 0, complaint
    assert "nothing is left to do" in complaint
    code, _, complaint = refseg("train", "--resume", "--out", "../run", "--data", "../own")
    assert code == 0, complaint
    rewrite(own, lambda row: row | {"expression": f"not {row['expression']}"})
    code, _, complaint = refseg("train", "--resume", "--out", "../run")
    assert code == 2 and "had other sentences; the same data are accepted" in complaint
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    for resume in ((), ("--resume",)):
        code, _, complaint = refseg("train", "lgformer-shapes", "--data", "../own", "--out", "../run", *SMALL, *resume)
        assert code == 2 and "--init ../run/last with" in complaint.replace(
            "with --init ../run/last", "--init ../run/last with"
        )


@pytest.mark.slow
def test_a_run_from_weights_in_a_folder_goes_on_from_any_folder(refseg, model, own, tmp_path, monkeypatch):
    """And a folder that is called like a named set or a packaged model is not taken for it."""
    monkeypatch.chdir(tmp_path)
    for name in ("start", "lavt-shapes", "refshapes"):
        (tmp_path / name).mkdir()
    refseg("train", "lgformer-shapes", "--steps", 1, "--eval-limit", 2, "--out", "start", *SMALL)
    for init, data, source in (("start", "own", str(tmp_path / "start")), ("lavt-shapes", "refshapes", "lavt-shapes")):
        out = tmp_path / f"run-{source.rsplit('/', 1)[-1]}"
        code, _, complaint = refseg("train", "lgformer-shapes", "--init", init, "--data", data, "--steps", 1,
                                    "--eval-limit", 2, "--out", out, *SMALL)  # fmt: skip
        assert code == 0, complaint
        told = json.loads((out / "run.json").read_text())
        assert told["init"] == source and told["data"] == [str(own) if data == "own" else data]
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(out)
            code, _, complaint = refseg("train", "--resume", "--out", out)
            assert code == 0 and "nothing is left to do" in complaint


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"save_every": 0}, {"workers": "x"}, {"workers": -1}, {"seed": None}, {"ema": "x"},
                                    {"data": [5]}, {"data": "refshapes"}])  # fmt: skip
def test_a_damaged_run_file_is_named(refseg, tmp_path, change):
    given = ("train", "lgformer-shapes", "--steps", 1, "--eval-limit", 2, "--out", tmp_path / "run", *SMALL)
    assert refseg(*given)[0] == 0
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code, _, complaint = refseg("train", "--resume", "--out", tmp_path / "run")
    assert code == 2 and "run.json: not what a run was told" in complaint and next(iter(change)) in complaint


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("recipe.lr=" + "[" * 5000, "nested too deeply"),
        ("recipe.lr=" + "9" * 400, "a number is accepted"),
        ("recipe.select=nope", "'oIoU' or 'mIoU' is accepted"),
        ("input.size=128", "a list of 2: a whole number, a whole number is accepted"),
    ],
)
def test_settings_that_no_type_fits(refseg, tmp_path, setting, message):
    code, _, complaint = refseg("train", "lgformer-shapes", "--out", tmp_path / "run", "--set", setting)
    assert code == 2 and message in complaint and len(complaint) < 400


def test_images_of_a_set_that_draws_its_own_are_refused_and_those_of_a_list_are_found(refseg, model, own, tmp_path):
    code, _, complaint = refseg("eval", model, "--images", tmp_path, "--limit", 2)
    assert code == 2 and "draws its own" in complaint
    rows = [json.loads(line) for line in (own / "data.jsonl").read_text().splitlines()]
    rows = [row | {"image": row["image"].rsplit("/", 1)[1]} for row in rows if row["split"] == "val"]
    (own / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in (tmp_path / "val").rglob("*.png"):
        shutil.copy(file, photos)
    code, said, complaint = refseg("eval", model, "--data", own, "--split", "val", "--images", photos, "--json")
    assert code == 0, complaint
    assert json.loads(said)["expressions"] == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_ends_with_one_line_when_a_worker_fails(own, tmp_path, workers):
    """In a process of its own, which has to end: workers that ignored the request to do so kept it alive for ever."""
    rewrite(own, lambda row: row | ({"image": "gone.png", "image_id": "gone"} if row["split"] == "train" else {}))
    given = ("train", "lgformer-shapes", "--data", own, "--steps", 2, "--out", tmp_path / "run", *SMALL[:-4])
    command = [sys.executable, "-m", "refseg", *map(str, given), "--workers", str(workers), "--device", "cpu"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 2 and ended.stderr.count("refseg: ") == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("refseg: ") and "gone.png: no such file" in ended.stderr


def test_a_folder_that_somebody_writes_into_is_refused(refseg, model, photo, tmp_path):
    from refseg.files import FolderLock

    commands = {
        "run": ("train", "lgformer-shapes", "--steps", 1, "--eval-limit", 2, *SMALL),
        "evaluation": ("eval", model, "--limit", 3),
        "pictures": ("segment", photo, "red", "--model", model),
        "towers": ("pretrain", "bert-shapes", "--steps", 1, "--workers", 0),
    }
    for name, command in commands.items():
        out = tmp_path / name
        out.mkdir()
        with FolderLock(out):
            code, _, complaint = refseg(*command, "--out", out)
            assert code == 2 and "is writing into it; another folder is accepted" in complaint
        code, _, complaint = refseg(*command, "--out", out)
        assert code == 0, complaint
        assert not (out / ".refseg.lock").exists()
