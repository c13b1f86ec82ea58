"""Pictures of a training: bounded, the same however often a run stops, and without a trace in what is learned."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from child import run_in, weights
from PIL import Image

from refseg.data.shapes import RefShapes
from refseg.predictor import Predictor
from refseg.training import loop
from refseg.training.loop import train
from refseg.training.pictures import (
    BYTES,
    SIDE,
    choose_asked,
    clear_pictures,
    draw_pictures,
    read_pictures,
    write_pictures,
)
from refseg.types import Expression, Reference, Sample
from tiny import tiny_model


class Noise:
    """Large photos that no PNG makes small; the first ones cannot be read."""

    def __init__(self, bad=0):
        self.bad = bad

    def __len__(self):
        return 30

    def __getitem__(self, index):
        if index < self.bad:
            raise ValueError("damaged")
        mask = np.zeros((500, 700), bool)
        mask[:90, :90] = True
        image = np.random.default_rng(index).integers(0, 256, (500, 700, 3), np.uint8)
        return Sample(f"i{index}", image, (Reference("r", mask),), (Expression("e", f"the {index}", 0),))


class Stop(Exception):
    pass


def files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in (out / "pictures").rglob("*") if path.is_file()}


def test_a_run_learns_the_same_with_and_without_them(tmp_path, monkeypatch):
    run = run_in(tmp_path / "with", 4, ema=0.9, eval_every=2)
    losses = []
    expected = weights(train(run, report=lambda step, _, x: losses.append(x["loss"].hex())))
    log = [line.split(", ", 2)[2] for line in (run.out / "log.jsonl").read_text().splitlines()]
    plain = run_in(tmp_path / "without", 4, ema=0.9, eval_every=2)
    monkeypatch.setattr(loop._Training, "_draw", lambda self: None)
    without = []
    assert torch.equal(weights(train(plain, report=lambda step, _, x: without.append(x["loss"].hex()))), expected)
    assert without == losses and not (plain.out / "pictures").exists()
    assert [line.split(", ", 2)[2] for line in (plain.out / "log.jsonl").read_text().splitlines()] == log


@pytest.mark.slow
def test_a_stopped_run_has_those_of_a_whole_one_of_the_averaged_weights(tmp_path):
    whole, parts = (run_in(tmp_path / name, 8, ema=0.9) for name in ("whole", "parts"))
    model = train(whole)

    def stop(step, *_):
        if step == 7:
            raise Stop

    with pytest.raises(Stop):
        train(parts, report=stop)
    train(parts, resume=True)
    assert files(parts.out) == files(whole.out)
    assert sorted(path.name for path in (whole.out / "pictures").iterdir()) == ["00000004", "00000008", "target"]
    last = read_pictures(whole.out, 8)
    drawn = draw_pictures(Predictor(model, "cpu"), choose_asked(RefShapes("refshapes", "val")))
    assert [picture.png for picture in last] == [picture.png for picture, _ in drawn]
    assert len(last) == 6 and len({picture.image_id for picture in last}) == 6
    assert read_pictures(whole.out, 4) != last and read_pictures(whole.out, 5) == []


def test_expressions_come_from_the_whole_split():
    ids = [asked.sample.image_id for asked in choose_asked(Noise())]
    assert ids == ["i0", "i5", "i10", "i15", "i20", "i25"]
    assert [asked.sample.image_id for asked in choose_asked(Noise(bad=7))] == ["i7", "i10", "i15", "i20", "i25"]
    assert choose_asked(Noise(bad=30)) == []


def test_pictures_are_small_and_say_their_iou(tmp_path):
    drawn = draw_pictures(Predictor(tiny_model(), "cpu"), choose_asked(Noise())[:1])
    write_pictures(tmp_path, 3, drawn)
    [picture] = read_pictures(tmp_path, 3)
    for png in (picture.png, picture.target):
        assert len(png) <= BYTES
        with Image.open(io.BytesIO(png)) as opened:
            assert max(opened.size) <= SIDE and opened.format == "PNG"
    (answer,) = Predictor(tiny_model(), "cpu").answer([Noise()[0].image], [["the 0"]])[1]
    mask, target = (answer[0] > 0).numpy(), Noise()[0].mask(0)
    assert picture.iou == pytest.approx((mask & target).sum() / (mask | target).sum(), abs=1e-4)
    assert picture.expression == "the 0"


@pytest.mark.parametrize(
    "listed",
    ["", "[", "{}", "[3]", '[{"file": "../../secret.png", "iou": 1}]', '[{"file": "1.png", "iou": "x"}]',
     '[{"file": "9.png", "iou": 1}]', '[{"file": "2.png", "iou": 1}]', '[{"file": "3.png", "iou": 1}]'],
)  # fmt: skip
def test_what_is_damaged_is_left_out(tmp_path, listed):
    write_pictures(tmp_path, 3, draw_pictures(Predictor(tiny_model(), "cpu"), choose_asked(Noise())[:1]))
    folder = tmp_path / "pictures" / "00000003"
    (tmp_path / "secret.png").write_bytes((folder / "1.png").read_bytes())
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "3.png").write_bytes((folder / "1.png").read_bytes() + bytes(10**6))
    (folder / "pictures.json").write_text(listed)
    assert read_pictures(tmp_path, 3) == []


def test_only_a_runs_own_pictures_are_taken_away(tmp_path):
    run = run_in(tmp_path / "run", 4)
    mine = run.out / "pictures" / "holiday" / "1.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"precious")
    with pytest.raises(ValueError, match="holds pictures, which this command did not write"):
        train(run)
    train(replace(run, overwrite=True))
    assert mine.read_bytes() == b"precious" and len(read_pictures(run.out, 4)) == 6
    clear_pictures(run.out)
    assert [path.name for path in (run.out / "pictures").iterdir()] == ["holiday"]
    other = run_in(tmp_path / "other", 4)
    train(other)
    train(replace(other, overwrite=True, eval_every=2))
    assert json.loads((other.out / "pictures" / "00000002" / "pictures.json").read_text())
    clear_pictures(other.out)
    assert not (other.out / "pictures").exists()
    clear_pictures(other.out)
