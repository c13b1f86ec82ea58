"""A run's folder knows what the run was told."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from child import run_in

from refseg.data.reading import Reading
from refseg.presets import get_preset
from refseg.training.config import RUN_FILE, Run, read_run, run_to_json
from refseg.training.loop import train
from refseg.training.settings import with_settings


def every_field(out: Path) -> Run:
    """A run in which nothing is as it would be by default."""
    preset = with_settings(get_preset("alignformer-shapes"), ["recipe.lr=0.5", "model.generator.layers=1"])
    return Run(
        preset=preset, data=("refshapes", "own"), out=out, steps=7, epochs=3, seed=5, save_every=6, keep=9,
        eval_every=11, eval_limit=12, eval_batch=13, workers=0, device="cpu", encoders=out / "encoders",
        reading=Reading("lavt", out / "images", "1,2", "stored", True), trust_data=True, init="lavt-shapes",
        precision="bf16", accumulate=2, recompute=True, ema=0.5, tensorboard=True,
    )  # fmt: skip


def test_everything_that_a_run_was_told_is_read_again(tmp_path):
    run = every_field(tmp_path)
    default = Run(run.preset, run.data, run.out)
    unchanged = {field.name for field in fields(Run) if getattr(run, field.name) == getattr(default, field.name)}
    assert unchanged == {"preset", "data", "out", "overwrite"}  # the last is not kept
    (tmp_path / RUN_FILE).write_text(run_to_json(run))
    assert read_run(tmp_path) == run


def test_a_folder_that_was_moved_is_where_it_is_now(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / RUN_FILE).write_text(run_to_json(every_field(tmp_path / "old")))
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_run(tmp_path / "new").out == tmp_path / "new"


class _Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_run_goes_on_without_being_told_again(tmp_path, monkeypatch):
    monkeypatch.setattr("refseg.training.config.get_preset", lambda name: run_in(tmp_path).preset)
    whole = train(replace(run_in(tmp_path / "whole"), save_every=1))

    def stop(done: int, of: int, losses: dict[str, float]) -> None:
        if done == 2:
            raise _Stopped

    with pytest.raises(_Stopped):
        train(replace(run_in(tmp_path / "parts"), save_every=1), report=stop)
    run = read_run(tmp_path / "parts")
    told = replace(run_in(tmp_path / "parts"), save_every=1)
    found = replace(told.preset, encoders=run.preset.encoders)  # where it would start, which is not kept
    assert run == replace(told, preset=found)
    parts = train(run, resume=True)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, parts.network.state_dict()[name]), name


@pytest.mark.parametrize("content", ["null", "[]", "{}", "no JSON", '{"format": 9}', '{"format": 2, "preset": null}',
                                     '{"format": 2, "preset": {"name": "unet"}}'])  # fmt: skip
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"run\.json: not what a run was told") as error:
        read_run(tmp_path)
    assert "NoneType" not in str(error.value)


def test_an_unknown_field_is_named(tmp_path):
    told = json.loads(run_to_json(every_field(tmp_path))) | {"colour": "red"}
    (tmp_path / RUN_FILE).write_text(json.dumps(told))
    with pytest.raises(ValueError, match="colour"):
        read_run(tmp_path)
