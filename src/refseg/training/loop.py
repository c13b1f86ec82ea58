"""The training loop."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from refseg import __version__
from refseg.data.index import IndexedSamples, Overlap, PerReference
from refseg.data.loader import TrainingBatches
from refseg.data.sets import open_splits
from refseg.evaluation import evaluate
from refseg.predictor import Predictor
from refseg.presets import Preset
from refseg.pretrained import seeded
from refseg.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from refseg.training.optim import make_optimiser, rate_at, set_rate
from refseg.types import Batch
from refseg.weights import Model, save_model, write_beside

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        preset: What is trained, and how.
        data: Name of the data set.
        out: Folder for `checkpoint.pt`, `log.jsonl`, `last/` and `best/`.
        steps: Steps of the run; the learning rate reaches zero at its end.
        seed: Seed of weights, order and expressions.
        save_every: Steps between checkpoints.
        eval_every: Steps between evaluations on `val`.
        eval_limit: Expressions of an evaluation.
        workers: Processes that prepare batches.
        device: Where the network is.
        encoders: Folder of the published encoder weights.
        images: Folder of the data set's images, where they are not in its usual place.
        overlap: What becomes of pixels that two parts of a mask cover.
    """

    preset: Preset
    data: str
    out: Path
    steps: int
    seed: int = 0
    save_every: int = 500
    eval_every: int = 1000
    eval_limit: int = 600
    workers: int = 1
    device: str = "cpu"
    encoders: Path | None = None
    images: Path | None = None
    overlap: Overlap = "union"


def train(run: Run, resume: bool = False, report: Report | None = None) -> Model:
    """Trains, and returns the model as it is after the last step.

    Args:
        run: What to do.
        resume: Go on from `checkpoint.pt` in `run.out`, bit for bit on a CPU.
        report: Called after every step with the number of steps done and its losses.

    Raises:
        ValueError: The folder already holds a run and `resume` is off, or the checkpoint does not fit.
        FloatingPointError: The loss is not finite; names the step and the batch.
        KeyboardInterrupt: Ctrl-C; a checkpoint of the last whole step has been written.
    """
    checkpoint = run.out / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise ValueError(f"{run.out}: holds a run already; --resume goes on with it, or give another folder")
    splits = open_splits(run.data, run.overlap, run.images)
    if missing := [name for name in ("train", "val") if name not in splits]:
        raise ValueError(f"{run.data}: has no {missing[0]!r} split but {', '.join(splits)}; train and val are needed")
    data, split = splits["train"], splits["val"]
    recipe = run.preset.recipe
    model = seeded(run.preset, run.seed, run.encoders)
    network = model.network.to(run.device)
    optimiser = make_optimiser(network, recipe)
    state = RunState(0, run.seed, run.steps, describe(run.preset), run.data, None, 0.0)
    if resume:
        stored = load_checkpoint(checkpoint, network, optimiser)
        for what in ("data", "seed", "steps", "preset"):
            if getattr(stored, what) != getattr(state, what):
                was = "" if what == "preset" else f" ({getattr(stored, what)}, not {getattr(state, what)})"
                raise ValueError(f"{checkpoint}: is of a run with another {what}{was}; the same is accepted")
        state = stored
        trim_log(run.out, state.step)
    if isinstance(data, IndexedSamples):
        warn_of_cut(data, model)
    # The papers take a reference at a time: an epoch has every one of them once, with one of its sentences.
    samples = PerReference(data) if recipe.expressions_per_image == 1 and isinstance(data, IndexedSamples) else data
    batches = TrainingBatches(
        samples, model.tokenizer, model.input, recipe.images_per_batch, recipe.expressions_per_image, run.seed,
        run.steps, data.endless,
    )  # fmt: skip
    order = range(state.step, run.steps)
    # A generator of its own: the loader would otherwise draw from the global one, which dropout reads.
    loader: DataLoader[Batch] = DataLoader(
        cast(Any, batches), None, sampler=order, num_workers=run.workers, generator=torch.Generator(),
        worker_init_fn=ignore_interrupts,
    )  # fmt: skip
    run.out.mkdir(parents=True, exist_ok=True)
    if not resume:
        (run.out / "log.jsonl").unlink(missing_ok=True)  # of a run that stopped before its first checkpoint
    started = time.perf_counter() - state.seconds
    network.train()
    with Interrupt() as interrupt:
        for step, batch in zip(order, loader, strict=True):
            set_rate(optimiser, recipe, rate_at(step, run.steps, recipe))
            terms = take_step(network, optimiser, batch.to(run.device), recipe.clip, step)
            losses = {"loss": sum(terms.values()), **terms}
            done = step + 1
            state = replace(state, step=done, seconds=time.perf_counter() - started)
            if report is not None:
                report(done, losses)
            if done % 50 == 0 or done == run.steps:
                log(run.out, {"step": done, "seconds": round(state.seconds, 1), **losses})
            if done % run.eval_every == 0 or done == run.steps:
                summary = validate(model, split, run)
                log(run.out, {"step": done, "seconds": round(state.seconds, 1), "val": summary})
                trained = training_record(run, state, terms, summary)
                if state.best is None or summary[recipe.select] > state.best:
                    state = replace(state, best=summary[recipe.select])
                    save_model(replace(model, training=trained), run.out / "best")
                save_model(replace(model, training=trained), run.out / "last")
                network.train()
            if done % run.save_every == 0 or done == run.steps or interrupt.wanted:
                save_checkpoint(checkpoint, network, optimiser, state)
            if interrupt.wanted:
                raise KeyboardInterrupt
    return model


def take_step(network: Any, optimiser: torch.optim.Optimizer, batch: Batch, clip: float, step: int) -> dict[str, float]:
    """One step of the optimiser; returns the named terms of the loss."""
    image = network.encode_image(batch.pixels)
    output = network(image, network.encode_text(batch.tokens, batch.token_mask), batch.image_index)
    terms = network.loss(output, batch.targets)
    total = sum(terms.values())
    value = float(total.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"loss {value} at step {step} on {', '.join(batch.ids)}; the last checkpoint is kept")
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()
    return {name: float(term.detach()) for name, term in terms.items()}


def validate(model: Model, split: Any, run: Run) -> dict[str, float]:
    """Scores on the validation split."""
    scores, _ = evaluate(Predictor(model, run.device), split, run.eval_limit)
    return {"expressions": len(scores.pairs), **scores.summary()}


def training_record(run: Run, state: RunState, losses: dict[str, float], summary: dict[str, float]) -> dict[str, Any]:
    """What a model says about how it was trained, the terms of its loss among it."""
    start = run.preset.encoders
    names = ", ".join(name for name in vars(start).values() if name) if start else ""
    return {
        "preset": run.preset.name,
        "data": run.data,
        "steps": state.step,
        "of_steps": run.steps,
        "seed": run.seed,
        "loss": list(losses),
        "hours": round(state.seconds / 3600, 2),
        "val": {k: round(v, 4) for k, v in summary.items()},
        "version": __version__,
        "source": "trained from scratch" if start is None else f"encoders of {names}",
    }


def warn_of_cut(data: IndexedSamples, model: Model) -> None:
    """Says so if more than one in a hundred of the first 5,000 sentences loses its end."""
    texts = [expression.text for entry in data.entries for expression in entry.expressions][:5000]
    limit = model.input.max_tokens
    cut = len(model.tokenizer(texts, limit).cut) if texts else 0
    if 100 * cut > len(texts):
        message = (
            f"{cut} of {len(texts)} sentences are longer than the {limit} tokens this preset reads, and lose their end"
        )
        if model.tokenizer.size < 1000:
            message += "; its small vocabulary spells words that it does not know letter by letter"
        warnings.warn(message, stacklevel=2)


def trim_log(out: Path, step: int) -> None:
    """Takes back what the log says of steps behind the checkpoint; they are run again."""
    path = out / "log.jsonl"
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if logged_step(line) <= step]
        write_beside(path, lambda beside: beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8"))


def logged_step(line: str) -> float:
    """The step of a line of the log; infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def describe(preset: Preset) -> str:
    """All that decides what a preset computes; a checkpoint is only resumed with the same."""
    return json.dumps([preset.name, asdict(preset.model), asdict(preset.input), asdict(preset.recipe)], sort_keys=True)


def ignore_interrupts(_: int) -> None:
    """In a worker: Ctrl-C reaches all processes, but the run itself decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Interrupt:
    """Turns Ctrl-C into a wish that is asked for between two steps, where a checkpoint can be written."""

    wanted = False

    def __enter__(self) -> Interrupt:
        self.before = None
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_: object) -> None:
        if self.wanted:  # asked twice: now
            raise KeyboardInterrupt
        self.wanted = True

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


def log(out: Path, entry: dict[str, Any]) -> None:
    """Appends one line to the run's log."""
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
