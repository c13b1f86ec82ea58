"""The page of a run, and of several, as a browser and a person read it."""

from __future__ import annotations

import base64
import io
import json
import shlex
from dataclasses import replace

import pytest
from child import run_in
from PIL import Image
from test_history import LINES, made

from refseg.data.reading import Reading
from refseg.presets import get_preset
from refseg.training.command import command_of
from refseg.training.config import run_to_json
from refseg.training.history import read_history
from refseg.training.loop import train
from refseg.training.pretrain import encoder_preset
from refseg.training.run_page import MOST_PICTURES, names_of, write_for
from webpage import Reader

EVIL = "<script>alert('x')</script> & \"q\""


def page_of(*folders):
    page = write_for(folders, {folder: read_history(folder) for folder in folders})
    reader = Reader(page)
    assert "script" not in reader.tags and "<script" not in page
    assert "http" not in page.replace("http-equiv", "") and "url(" not in page and "@import" not in page
    assert all(address.startswith("data:image/png;base64,") for address in reader.addresses)
    return reader


def test_a_run_on_one_page(tmp_path):
    reader = page_of(made(tmp_path / "run"))
    charts = [said.split(":")[0] for said in reader.charts]
    assert charts == ["mIoU, oIoU and P@0.5", "loss", "dice", "pixel_text", "Learning rate",
                      "Norm of the gradient", "The inside"]  # fmt: skip
    assert "mIoU: 30 at 100, 25 at 150" in reader.charts[0] and "lowest -0.01 at 100" in reader.charts[-1]
    for word in ("30.0 %", "at step 100", "150 of 150", "as logged", "smoothed", "lgformer-shapes", "fp32"):
        assert word in reader.said
    assert "finished" in reader.said and "--steps" in reader.said and "damaged" not in reader.said


@pytest.mark.slow
def test_what_a_training_really_writes(tmp_path):
    run = run_in(tmp_path / "run", 12, eval_every=1)
    train(run)
    reader = page_of(run.out)
    assert len(reader.addresses) == 6 * (MOST_PICTURES + 1)
    for address in reader.addresses:
        with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as picture:
            assert max(picture.size) <= 256
    assert "step 1" in reader.said and "step 12" in reader.said and "of 12 evaluations" in reader.said
    assert "torch" in reader.said and "trained from scratch" in reader.said


def test_several_runs_over_each_other(tmp_path):
    other = [{name: x for name, x in line.items() if name != "inside"} | {"step": 2 * line["step"]} for line in LINES]
    reader = page_of(made(tmp_path / "one"), made(tmp_path / "two", other, seed=3))
    assert reader.charts[0].startswith("mIoU: percent over steps. one: 30 at 100")
    assert "two: 30 at 200, 25 at 300" in reader.charts[0]
    assert [chart.split(":")[0] for chart in reader.charts[-2:]] == ["words", "gap"] and "two" not in reader.charts[-1]
    assert reader.said.count("two") > 8 and "mIoU 30.00 at 200" in reader.said


@pytest.mark.parametrize("lines", [[], LINES[:1], LINES[:2], [{"step": 5, "val": {"mean": 0.5}}]])
def test_a_page_of_little(tmp_path, lines):
    one, two = made(tmp_path / "one", lines), made(tmp_path / "two")
    page_of(one)
    page_of(one, two)
    (one / "log.jsonl").unlink()
    assert "unknown" in page_of(one).said


def test_a_page_of_damaged_files_says_so_and_escapes_all(tmp_path):
    folder = made(tmp_path / EVIL.replace("/", "-"))
    (folder / "log.jsonl").write_text(
        json.dumps({"step": 50, EVIL: 1.0, "loss": 2.0, "val": {EVIL: 0.5}, "inside": {EVIL: 1}}) + "\n" + '{"st'
    )
    (folder / "run.json").write_text(json.dumps({"preset": {"name": EVIL}, "data": [EVIL], "seed": EVIL, "ema": EVIL}))
    reader = page_of(folder)
    assert reader.said.count("<script>") >= 8
    assert "line 2: was cut off" in reader.said and "unknown: " in reader.said
    (folder / "run.json").write_text("{")
    assert "run.json: cannot be read" in page_of(folder).said


def test_names_are_as_short_as_they_can_be_told_apart(tmp_path):
    folders = [tmp_path / name for name in ("a/run", "b/run", "a/other")]
    assert names_of(folders) == ["a/run", "b/run", "a/other"]
    assert names_of(folders[1:]) == ["run", "other"] and names_of(folders[:1]) == ["run"]


def told_of(words):
    """Options of a command as a mapping; of one given several times all its values."""
    found, name = {}, ""
    for word in words[3:]:
        if word.startswith("--"):
            name = word
            found.setdefault(name, [])
        else:
            found[name].append(word)
    return found


def test_the_command_says_what_differs(tmp_path):
    preset = get_preset("lgformer-shapes")
    preset = replace(preset, recipe=replace(preset.recipe, lr=0.01), input=replace(preset.input, size=(64, 32)))
    out = tmp_path / "a run"
    run = run_in(out, 7, save_every=500, eval_every=None, eval_limit=None, workers=1, device=None)
    run = replace(run, preset=preset, recompute=True, precision="bf16", reading=Reading("lavt", skip_bad=True), seed=3)
    out.mkdir()
    (out / "run.json").write_text(run_to_json(run))
    words = shlex.split(command_of(out, preset.name))
    assert words[:3] == ["refseg", "train", "lgformer-shapes"]
    assert told_of(words) == {
        "--data": ["refshapes"], "--set": ["input.size=[64, 32]", "recipe.lr=0.01"], "--steps": ["7"], "--seed": ["3"],
        "--precision": ["bf16"], "--gradient-checkpointing": [], "--overlap": ["lavt"], "--skip-bad": [],
        "--out": [str(out)],
    }  # fmt: skip


def test_the_command_of_a_pretraining(tmp_path):
    run = replace(run_in(tmp_path, 7), preset=encoder_preset("swin-shapes"), eval_every=None, device=None)
    (tmp_path / "run.json").write_text(run_to_json(replace(run, save_every=500, eval_limit=None, workers=1)))
    assert command_of(tmp_path, "swin-shapes") == f"refseg pretrain swin-shapes --steps 7 --out {tmp_path}"
    with pytest.raises(ValueError, match="not what a run was told"):
        command_of(tmp_path, "x")
