from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from refseg.data.export import export_jsonl
from refseg.data.shapes import RefShapes
from refseg.presets import override
from refseg.training import loop
from refseg.training.checkpoint import load_checkpoint
from refseg.training.loop import Run, train
from refseg.training.optim import rate_at
from refseg.weights import load_model
from tiny import tiny


@pytest.fixture
def run(tmp_path):
    preset = tiny("lgformer-shapes")
    random = override(preset.model, {"bert.dropout": 0.1, "swin.drop_path": 0.3})  # draws numbers in every step
    preset = replace(preset, model=random, recipe=replace(preset.recipe, images_per_batch=2, warmup=2))
    return Run(preset, "refshapes", tmp_path / "run", steps=6, save_every=2, eval_every=3, eval_limit=4, workers=0)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def logged(out):
    """The log without its times."""
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


class Stop(Exception):
    """Stands for a kill."""


def stop_after(step):
    def report(done, _):
        if done == step:
            raise Stop

    return report


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_stopped_anywhere_and_resumed_gives_the_same_bits(run, tmp_path, stop):
    whole, resumed = [], []
    expected = weights(train(run, report=lambda step, x: whole.append((step, x["loss"]))))
    other = replace(run, out=tmp_path / "other")
    with pytest.raises(Stop):
        train(other, report=stop_after(stop))
    if stop == 2:  # stopped before the checkpoint of step 2 was written: nothing to resume from
        assert not (other.out / "checkpoint.pt").exists()
        with pytest.raises(ValueError, match="no checkpoint to resume from"):
            train(other, resume=True)
        return
    found = weights(train(other, resume=True, report=lambda step, x: resumed.append((step, x["loss"]))))
    assert torch.equal(found, expected)
    assert logged(other.out) == logged(run.out)
    assert resumed == whole[stop - stop % 2 - (stop % 2 == 0) * 2 :]


def test_a_run_leaves_models_a_log_and_a_checkpoint(run):
    train(run)
    for name in ("best", "last"):
        model = load_model(str(run.out / name))
        assert model.training["data"] == "refshapes" and 0 <= model.training["val"]["mIoU"] <= 1
    entries = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "val" in entry] == [3, 6]
    assert {"loss", "pixel_text", "dice", "seconds"} <= set(entries[-2])


def test_another_run_in_the_same_folder_is_refused(run):
    train(run)
    with pytest.raises(ValueError, match="holds a run already"):
        train(run)
    slower = replace(run.preset, recipe=replace(run.preset.recipe, lr=1e-5))
    for other in (replace(run, seed=1), replace(run, preset=slower), replace(run, steps=7)):
        with pytest.raises(ValueError, match="is of a run with another (seed|preset|steps)"):
            train(other, resume=True)


def test_a_cut_line_in_the_log_does_not_stop_a_resumed_run(run):
    with pytest.raises(Stop):
        train(run, report=stop_after(5))
    with (run.out / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "val": {"oIoU": 0.1}')
    train(run, resume=True)
    assert [entry["step"] for entry in logged(run.out)] == [3, 6, 6]


def test_a_damaged_checkpoint_is_refused(run):
    train(run)
    file = run.out / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a checkpoint of this preset"):
        train(run, resume=True)


def test_a_checkpoint_executes_nothing(run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"run": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt", torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)]))
    assert not (tmp_path / "owned").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(run, monkeypatch):
    original = loop.take_step

    def poisoned(network, optimiser, batch, clip, step):
        if step == 3:
            with torch.no_grad():
                next(network.parameters()).fill_(float("nan"))
        return original(network, optimiser, batch, clip, step)

    monkeypatch.setattr(loop, "take_step", poisoned)
    with pytest.raises(FloatingPointError, match="loss nan at step 3 on refshapes-train-000006"):
        train(run)
    assert (run.out / "checkpoint.pt").is_file()


def test_rate_warms_up_and_falls_to_zero():
    recipe = replace(tiny("lgformer-shapes").recipe, warmup=10, power=0.9)
    rates = [rate_at(step, 100, recipe) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[100] == 0
    assert rates[50] == pytest.approx(0.5**0.9)
    assert rates.index(max(rates)) == 9
    assert rate_at(0, 100, replace(recipe, warmup=0)) == 1.0


@pytest.mark.slow
def test_learns_from_the_words(run):
    """A tiny model on RefShapes: the loss falls well below that of the first steps."""
    losses = []
    recipe = replace(run.preset.recipe, images_per_batch=8, warmup=20, lr=3e-3)
    longer = replace(run, preset=replace(run.preset, recipe=recipe), steps=150, save_every=150, eval_every=150)
    train(longer, report=lambda _, x: losses.append(x["loss"]))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_ones_own_data_is_trained_on_a_reference_at_a_time(run, tmp_path, monkeypatch):
    splits = [RefShapes("refshapes", split) for split in ("train", "val")]
    export_jsonl(splits, tmp_path / "own", limit=3)
    seen = []
    real = loop.TrainingBatches
    monkeypatch.setattr(loop, "TrainingBatches", lambda data, *rest: seen.append(data) or real(data, *rest))
    paper = replace(run.preset, recipe=replace(run.preset.recipe, expressions_per_image=1))
    train(replace(run, preset=paper, data=str(tmp_path / "own"), steps=2))
    references = sum(len({e.reference for e in splits[0][i].expressions}) for i in range(3))
    assert len(seen[0]) == references
    train(replace(run, data=str(tmp_path / "own"), steps=2, out=tmp_path / "second"))
    assert len(seen[1]) == 3  # several expressions of an image at a time: an image is the item


def test_data_without_a_training_split_is_refused(run, tmp_path):
    export_jsonl(RefShapes("refshapes", "val"), tmp_path / "own", limit=1)
    with pytest.raises(ValueError, match="has no 'train' split but val; train and val are needed"):
        train(replace(run, data=str(tmp_path / "own")))


def test_sentences_that_are_cut_are_said_before_training(run, tmp_path):
    folder = export_jsonl(
        [RefShapes("refshapes", split) for split in ("train", "val")], tmp_path / "own", limit=2
    ).parent
    lines = (folder / "data.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"expression": "extraordinary photographers"} for line in lines]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(UserWarning, match=r"(\d+) of \1 sentences are longer than the 20 tokens .* letter by letter"):
        train(replace(run, data=str(folder), steps=1))
