from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from child import weights

from refseg.data.formats.export import export_jsonl
from refseg.data.reading import Reading
from refseg.data.shapes import RefShapes
from refseg.presets import get_preset
from refseg.presets.base import override
from refseg.training import engine, loop
from refseg.training.checkpoint import checkpoints, load_checkpoint
from refseg.training.config import Run
from refseg.training.interrupt import Interrupt
from refseg.training.loop import train
from refseg.training.optim import rate_at
from refseg.training.processes import Processes
from refseg.weights.store import load_model, recover_model
from tiny import tiny


@pytest.fixture
def run(tmp_path):
    preset = tiny("lgformer-shapes")
    random = override(preset.model, {"bert.dropout": 0.1, "swin.drop_path": 0.3})  # draws numbers in every step
    preset = replace(preset, model=random, recipe=replace(preset.recipe, images_per_batch=2, warmup=2))
    return Run(preset, ("refshapes",), tmp_path / "run", steps=6, save_every=2, eval_every=3, eval_limit=4, workers=0)


def logged(out):
    """The log without its times."""
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


class Stop(Exception):
    """Stands for a kill."""


def stop_after(step):
    def report(done, *_):
        if done == step:
            raise Stop

    return report


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_stopped_anywhere_and_resumed_gives_the_same_bits(run, tmp_path, stop):
    whole, resumed = [], []
    expected = weights(train(run, report=lambda step, _, x: whole.append((step, x["loss"]))))
    other = replace(run, out=tmp_path / "other")
    with pytest.raises(Stop):
        train(other, report=stop_after(stop))
    if stop == 2:  # stopped before the checkpoint of step 2 was written: nothing to resume from
        assert not checkpoints(other.out)
        with pytest.raises(ValueError, match="no checkpoint to resume from"):
            train(other, resume=True)
        return
    found = weights(train(other, resume=True, report=lambda step, _, x: resumed.append((step, x["loss"]))))
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
        with pytest.raises(
            ValueError, match=r"holds a run with (seed 0, not 1|steps 6, not 7|recipe.lr 0.001, not 1e-05)"
        ):
            train(other, resume=True)


def test_a_cut_line_in_the_log_does_not_stop_a_resumed_run(run):
    with pytest.raises(Stop):
        train(run, report=stop_after(5))
    with (run.out / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "val": {"oIoU": 0.1}')
    train(run, resume=True)
    assert [entry["step"] for entry in logged(run.out)] == [3, 6, 6]
    assert len(checkpoints(run.out)) == run.keep


def test_a_damaged_checkpoint_is_passed_over_and_of_nothing_else_the_run_is_refused(run):
    expected = weights(train(run))
    last, first = (checkpoints(run.out)[i] for i in (-1, 0))
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="step-00000006.pt: not a checkpoint .* the one before it is taken"):
        assert torch.equal(weights(train(run, resume=True)), expected)
    for path in (last, first):
        path.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="not a checkpoint of this version"):
        train(run, resume=True)


def test_a_checkpoint_executes_nothing(run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"run": Evil()}, tmp_path / "step-00000001.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "step-00000001.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_names_the_expressions_and_leaves_the_moment_before(run, monkeypatch, where):
    """Running means and random numbers too are those of before the step: the run goes on as if nothing had been."""
    run = replace(run, preset=replace(tiny("lavt-shapes"), recipe=run.preset.recipe))  # has batch norms
    expected = weights(train(replace(run, out=run.out.with_name("whole"))))
    original, poison = engine.take_step, [3]

    def poisoned(trainee, optimiser, scaler, parts, *rest):
        if optimiser.param_groups[0]["lr"] == run.preset.recipe.lr * rate_at(3, 6, run.preset.recipe) and poison:
            poison.pop()
            if where == "loss":
                trainee.register_forward_hook(lambda *given: {k: v * float("nan") for k, v in given[-1].items()})
            else:
                next(iter(trainee.parameters())).register_hook(lambda gradient: gradient * float("inf"))
        return original(trainee, optimiser, scaler, parts, *rest)

    monkeypatch.setattr(engine, "take_step", poisoned)
    with pytest.raises(
        FloatingPointError, match=f"step 3: {where} (nan|inf) on refshapes-train-000006.*; a checkpoint"
    ):
        train(run)
    assert checkpoints(run.out)[-1].name == "step-00000003.pt"
    assert torch.equal(weights(train(run, resume=True)), expected)


@pytest.mark.slow
def test_averaged_weights_are_what_is_scored_and_saved(run):
    """The average is known: of the weights after each step, with the first as its start, slower and slower."""
    seen = []
    averaged = replace(run, ema=0.4, save_every=9)

    class Watch(loop._Training):
        def _step(self, *given):
            losses = super()._step(*given)
            seen.append(weights(self.model))
            return losses

    model = Watch(averaged, False, Processes("cpu"), print).go(None)
    expected = seen[0]
    for step, decay in zip(seen[1:], (2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4), strict=True):
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(weights(model), expected)
    torch.testing.assert_close(weights(load_model(str(run.out / "last"))), expected)
    plain = replace(run, out=run.out.with_name("plain"))
    assert torch.equal(weights(train(plain)), seen[-1])  # the average changes nothing in the training itself


@pytest.mark.slow
def test_averaged_weights_go_on_after_a_stop(run):
    averaged = replace(run, ema=0.9)
    expected = weights(train(replace(averaged, out=run.out.with_name("whole"))))
    with pytest.raises(Stop):
        train(averaged, report=stop_after(5))
    assert torch.equal(weights(train(averaged, resume=True)), expected)
    with pytest.raises(ValueError, match=r"holds a run with ema 0.9, not 0.0"):
        train(run, resume=True)


def test_a_warm_up_longer_than_the_run_is_said(run):
    said = []
    long = replace(run, steps=2, preset=replace(run.preset, recipe=replace(run.preset.recipe, warmup=200)))
    train(long, say=said.append)
    told = "the rate grows over 200 steps, and the run has 2: little is learned; --set recipe.warmup=0 is a tenth of it"
    assert said[0] == told and said[-1].startswith("step 2: val ") and "%" in said[-1]


def test_a_finished_run_has_nothing_left_to_do(run):
    expected, said = weights(train(run)), []
    model = train(run, resume=True, say=said.append)
    assert torch.equal(weights(model), expected) and model.training["steps"] == 6
    assert model.training == load_model(str(run.out / "last")).training
    assert said == ["nothing is left to do: all 6 steps are done"]


def test_a_run_counts_its_passes_over_data_that_has_an_end(run, tmp_path, monkeypatch):
    monkeypatch.setattr("refseg.training.pace.LEAST", 1)
    own = export_jsonl([RefShapes("refshapes", split) for split in ("train", "val")], tmp_path / "own", limit=3).parent
    train(replace(run, data=(str(own),), steps=None, epochs=3, eval_every=None, eval_limit=None))
    entries = logged(run.out)
    assert [entry["step"] for entry in entries if "val" in entry] == [1, 2, 3]  # 3 images by 2 are one whole batch
    expressions = sum(len(RefShapes("refshapes", "val")[i].expressions) for i in range(3))
    assert entries[-1]["val"]["expressions"] == expressions  # all of them
    for wrong, message in (({"steps": 3}, "one of the two"), ({"data": ("refshapes",)}, "has no end")):
        other = replace(run, out=tmp_path / "other", **({"data": (str(own),), "steps": None, "epochs": 3} | wrong))
        with pytest.raises(ValueError, match=message):
            train(other)


def test_a_paper_preset_trains_as_many_epochs_of_other_data(run, tmp_path):
    own = export_jsonl([RefShapes("refshapes", split) for split in ("train", "val")], tmp_path / "own", limit=5).parent
    printed = get_preset(run.preset.name).recipe.steps
    preset = replace(run.preset, epochs=2, recipe=replace(run.preset.recipe, steps=printed))
    said = []
    model = train(replace(run, preset=preset, data=(str(own),), steps=None), say=said.append)
    assert model.training["of_steps"] == 4  # 5 images by 2 are two whole batches
    assert f"4 steps: 2 epochs of 5 items, as the paper's {printed} steps are of its data" in said


def test_tensorboard_shows_what_the_log_says(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Stop):
        train(replace(run, tensorboard=True), report=stop_after(5))
    train(replace(run, tensorboard=True), resume=True)
    events = EventAccumulator(str(run.out / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("val/mIoU")]
    assert steps == [3, 6] and {"train/loss", "train/dice", "train/rate"} <= set(events.Tags()["scalars"])
    logged_val = [entry["val"]["mIoU"] for entry in logged(run.out) if "val" in entry]
    assert [event.value for event in events.Scalars("val/mIoU")] == pytest.approx(logged_val)


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(run):
    """The disk is full for files of over 100 kB, as the system says it; no writer is replaced."""
    expected = weights(train(replace(run, out=run.out.with_name("whole"), save_every=6)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, *_):
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))

    try:
        with pytest.raises(OSError, match=r"step-00000004.pt: cannot be written \(File too large\)"):
            train(replace(run, eval_every=99), report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (run.out / "checkpoints").iterdir()] == ["step-00000002.pt"]
    assert torch.equal(weights(train(replace(run, eval_every=99), resume=True)), expected)


@pytest.mark.slow
def test_a_run_that_stops_before_an_evaluation_makes_up_for_it(run):
    """The checkpoint is written first; the log, the best weights and the rest become those of a whole run."""
    train(replace(run, out=run.out.with_name("whole")))

    class Dies(loop._Training):
        def _evaluate(self):
            raise Stop

    with pytest.raises(Stop):
        Dies(run, False, Processes("cpu"), print).go(None)
    assert [path.name for path in checkpoints(run.out)] == ["step-00000002.pt", "step-00000003.pt"]
    train(run, resume=True)
    assert logged(run.out) == logged(run.out.with_name("whole"))
    assert load_model(str(run.out / "best")).sha256 == load_model(str(run.out.with_name("whole") / "best")).sha256


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_end_is_kept_until_the_step_is_whole(run, number):
    """A cluster may ask twice; only a person's second Ctrl-C stops at once."""

    def ask(step, *_):
        if step == 3:
            os.kill(os.getpid(), number)
            if number == signal.SIGTERM:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    expected = weights(train(replace(run, out=run.out.with_name("whole"))))
    with pytest.raises(KeyboardInterrupt):
        train(run, report=ask)
    assert checkpoints(run.out)[-1].name == "step-00000003.pt"
    assert torch.equal(weights(train(run, resume=True)), expected)
    assert logged(run.out) == logged(run.out.with_name("whole"))
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_stops_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupt(insist=True) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.wanted
        os.kill(os.getpid(), signal.SIGINT)
    with Interrupt(insist=False) as interrupt:  # one of several processes never stops alone
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupt.wanted


def test_only_the_run_that_was_begun_goes_on(run, tmp_path):
    folder = export_jsonl([RefShapes("refshapes", s) for s in ("train", "val")], tmp_path / "own", limit=3).parent
    own = replace(run, data=(str(folder),), eval_limit=4)
    train(own)
    for changed, what in (
        ({"reading": Reading(overlap="lavt")}, "overlap"),
        ({"reading": Reading(mask_values="1")}, "reading"),
        ({"eval_limit": 5}, "eval_limit"),
    ):
        with pytest.raises(ValueError, match=f"holds a run with {what}"):
            train(replace(own, **changed), resume=True)
    lines = (folder / "data.jsonl").read_text().splitlines()
    first = json.loads(lines[0])["image_id"]
    (folder / "data.jsonl").write_text("".join(f"{x}\n" for x in lines if json.loads(x)["image_id"] != first))
    with pytest.raises(ValueError, match="holds a run with items 3, not 2"):
        train(own, resume=True)


def test_what_a_damaged_or_killed_run_left_is_taken_away(run):
    """Or the checkpoint that is written next would be thought older than a damaged one, and be deleted."""
    once = replace(run, keep=1)
    train(replace(run, keep=3))
    newest = checkpoints(run.out)[-1]
    newest.write_bytes(b"damaged")
    (run.out / "checkpoints" / ".step-00000006.pt.77.part").write_bytes(b"half")

    def ask(step, *_):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.warns(UserWarning, match="the one before it is taken"), pytest.raises(KeyboardInterrupt):
        train(once, resume=True, report=ask)
    assert [path.name for path in (run.out / "checkpoints").iterdir()] == ["step-00000005.pt"]


def test_a_run_whose_checkpoints_were_deleted_is_not_written_over(run):
    train(run)
    shutil.rmtree(run.out / "checkpoints")
    with pytest.raises(ValueError, match="holds a run already"):
        train(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, "--ema 1.0: a decay from 0"),
        ({"init": "lgformer-shapes", "encoders": Path("x")}, "one of the two is accepted"),
    ],
)
def test_options_that_contradict_are_refused(run, changes, message):
    with pytest.raises(ValueError, match=message):
        train(replace(run, **changes))
    assert not run.out.exists()


@pytest.mark.parametrize("killed", ["before", "between", "after"])
def test_a_model_that_was_being_replaced_is_found_again(run, killed):
    train(run)
    last = run.out / "last"
    old, part = (last.with_name(f".last.1.{what}") for what in ("old", "part"))
    shutil.copytree(last, part)
    if killed == "between":
        last.rename(old)
    elif killed == "after":
        shutil.copytree(last, old)
        shutil.rmtree(part)
    recover_model(last)
    assert load_model(str(last)).training["steps"] == 6
    written = ["best", "checkpoints", "last", "log.jsonl", "pictures", "run.json"]
    assert sorted(path.name for path in run.out.iterdir()) == written


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
    train(longer, report=lambda _, __, x: losses.append(x["loss"]))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_ones_own_data_is_trained_on_a_reference_at_a_time(run, tmp_path, monkeypatch):
    splits = [RefShapes("refshapes", split) for split in ("train", "val")]
    export_jsonl(splits, tmp_path / "own", limit=3)
    seen = []
    real = loop.TrainingBatches
    monkeypatch.setattr(loop, "TrainingBatches", lambda data, *rest: seen.append(data) or real(data, *rest))
    paper = replace(run.preset, recipe=replace(run.preset.recipe, expressions_per_image=1))
    train(replace(run, preset=paper, data=(str(tmp_path / "own"),), steps=2))
    references = sum(len({e.reference for e in splits[0][i].expressions}) for i in range(3))
    assert len(seen[0]) == references
    train(replace(run, data=(str(tmp_path / "own"),), steps=2, out=tmp_path / "second"))
    assert len(seen[1]) == 3  # several expressions of an image at a time: an image is the item


def test_data_without_a_training_split_is_refused(run, tmp_path):
    export_jsonl(RefShapes("refshapes", "val"), tmp_path / "own", limit=1)
    with pytest.raises(ValueError, match="has no 'train' split but val; train and val are needed"):
        train(replace(run, data=(str(tmp_path / "own"),)))


def test_sentences_that_are_cut_are_said_before_training(run, tmp_path):
    folder = export_jsonl(
        [RefShapes("refshapes", split) for split in ("train", "val")], tmp_path / "own", limit=2
    ).parent
    lines = (folder / "data.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"expression": "extraordinary photographers"} for line in lines]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(UserWarning, match=r"(\d+) of \1 sentences are longer than the 3 tokens this preset reads"):
        short = replace(run.preset, input=replace(run.preset.input, max_tokens=3))
        train(replace(run, preset=short, data=(str(folder),), steps=1))


def test_what_trains_on_a_cpu_has_its_form_for_learning(run, monkeypatch):
    learning = []
    monkeypatch.setattr("refseg.training.engine.let_learn", learning.append)
    train(run)
    assert len(learning) == 1
