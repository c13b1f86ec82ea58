"""The training loop."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from refseg.data.index import IndexedSamples
from refseg.data.loader import TrainingBatches
from refseg.data.mixture import TrainingData, open_training
from refseg.data.verify import Progress, refuse_bad, without_bad
from refseg.predictor import Predictor
from refseg.presets.base import Preset
from refseg.scoring.evaluation import evaluate
from refseg.scoring.metrics import Scores
from refseg.training.checkpoint import Checkpoint, RunState
from refseg.training.config import Run, data_names, describe, init_name
from refseg.training.engine import ENDLESS_EPOCH, Engine, Report, Say
from refseg.training.inside import crowded, look_inside
from refseg.training.pace import pace_warnings, reading_warning, steps_between_evaluations
from refseg.training.pictures import Asked, choose_asked, draw_pictures, write_pictures
from refseg.training.processes import Processes, find_processes
from refseg.training.settings import own_steps
from refseg.training.step import Trainee
from refseg.types import Sample
from refseg.weights.start import Start, first_weights
from refseg.weights.store import Model, save_model


def train(
    run: Run,
    resume: bool = False,
    report: Report | None = None,
    say: Say | None = None,
    processes: Processes | None = None,
    looked: Progress | None = None,
) -> Model:
    """Trains, and returns the model as it is after the last step.

    Args:
        run: What to do.
        resume: Go on from the last checkpoint in `run.out`, bit for bit on a CPU.
        report: Called after every step with the number of steps done, that of the whole run, and its losses.
        say: Called with what a user should read before the first step.
        processes: Who trains together; whoever the launcher started by default.
        looked: Called while the data's files are looked at, with how many images are done, of how many.

    Raises:
        ValueError: The folder already holds a run and `resume` is off, the checkpoint does not fit, or data, model and
            options do not go together.
        FloatingPointError: The loss or its gradient is not finite; names the step and the expressions. A checkpoint of
            the moment before it has been written.
        OSError: The disk is full; the checkpoints that were written stay.
        KeyboardInterrupt: Ctrl-C or a request to end; a checkpoint of the last whole step has been written.
    """
    with nullcontext(processes) if processes is not None else find_processes(run.device) as team:
        told = say if say is not None and team.main else lambda _: None
        return _Training(run, resume, team, told, looked if looked is not None and team.main else None).go(report)


class _Training(Engine[Model]):
    """A method's training."""

    def __init__(self, run: Run, resume: bool, team: Processes, say: Say, looked: Progress | None = None) -> None:
        self._looked = looked if looked is not None else lambda done, of: None
        self._crowded: list[Sample] | None = None
        self._asked: list[Asked] | None = None
        super().__init__(run, resume, team, say)

    def _look(self, split: IndexedSamples) -> IndexedSamples:
        """Looks at a split's files before the first step, so that no run ends at a bad one hours later."""
        if self.run.reading.skip_bad:
            return without_bad(split, self._looked)
        if not self.run.trust_data:
            refuse_bad(split, self._looked)
        return split

    def _open(self, resume: bool) -> Checkpoint | None:
        """The data, the number of steps, and where an earlier run stopped."""
        run, recipe = self.run, self.run.preset.recipe
        self.data = open_training(run.data, recipe.expressions_per_image == 1, run.reading, self._look)
        self.items = 0 if self.data.train.endless else len(self.data.train)
        # Whole batches, as the papers' code counts: 40 epochs of 42,404 references by 32 are 53,000 steps.
        self.epoch = max(1, self.items // recipe.images_per_batch) if self.items else ENDLESS_EPOCH
        self.steps = _steps_of(run, self.data, self.epoch)
        return self._stored(resume)

    def _begin(self, stored: Checkpoint | None) -> Start:
        """The model with the weights that it begins with, and the batches that it reads."""
        run, team, data, recipe = self.run, self.team, self.data, self.run.preset.recipe
        words = None if stored is None else stored.run.tokenizer
        init = None if run.init is None else init_name(run.init)
        start = first_weights(run.preset, run.seed, data.texts, run.encoders, init, words)
        self.model = start.model
        self.network = self.model.network.to(team.device)
        self.batches = TrainingBatches(
            data.train, self.model.tokenizer, self.model.input, recipe.images_per_batch, recipe.expressions_per_image,
            run.seed, self.steps, data.train.endless, team.rank, team.count, run.accumulate,
        )  # fmt: skip
        return start

    def _describe(self, start: Start | None) -> None:
        """Where the run stands before its first step, and all that it must have in common with whoever goes on."""
        run = self.run
        self.state = RunState(
            step=0, seed=run.seed, steps=self.steps, preset=describe(run.preset), items=self.items,
            data=" + ".join(data_names(run.data)), texts=_fingerprint(self.data.texts), overlap=run.reading.overlap,
            reading=run.reading.told, eval_limit=run.eval_limit, precision=run.precision, ema=run.ema,
            source=start.source if start is not None else "", tokenizer=self.model.tokenizer.to_json(),
        )  # fmt: skip

    def _trainee(self) -> Trainee:
        return Trainee(self.network, self.team.device.type, self.run.precision)

    def _score(self) -> dict[str, Any]:
        """The scores on `val`, of all processes together."""
        run, team = self.run, self.team
        predictor = Predictor(self._result(), team.device, "fp32")
        own, _ = evaluate(
            predictor, self.data.val, run.eval_limit, images_per_batch=run.eval_batch, at_once=run.eval_batch,
            shard=(team.rank, team.count),
        )  # fmt: skip
        scores = Scores(protocol=own.protocol)
        for part in team.gather(own):
            scores = scores.merge(part)
        return {"expressions": len(scores.pairs), **scores.summary()}

    def _inside(self) -> dict[str, float]:
        """Whether it begins to read; see `refseg.training.inside`."""
        if self._crowded is None:
            self._crowded = crowded(self.data.val)
        return look_inside(Predictor(self._result(), self.team.device, "fp32"), self._crowded)

    def _draw(self) -> None:
        """Pictures of a few answers about `val`; see `refseg.training.pictures`."""
        if self._asked is None:
            self._asked = choose_asked(self.data.val)
        drawn = draw_pictures(Predictor(self._result(), self.team.device, "fp32"), self._asked)
        write_pictures(self.run.out, self.state.step, drawn)

    def _write(self, folder: Path) -> None:
        save_model(self._result(), folder)

    def _result(self) -> Model:
        return replace(self.model, network=self._kept(), training=self.state.record)

    def _tell(self, start: Start | None, say: Say) -> None:
        if start is not None and start.of:
            first = ", ".join(start.new[:10]) + (f", and {len(start.new) - 10} more" if len(start.new) > 10 else "")
            all_new = "; log.jsonl names all" if len(start.new) > 10 else ""
            say(f"--init {self.run.init}: {len(start.new)} of {start.of} tensors are new{': ' if first else ''}"
                f"{first}{all_new}")  # fmt: skip
        if self.steps != (printed := self.run.preset.recipe.steps) and self.run.steps is self.run.epochs is None:
            say(f"{self.steps} steps: {self.run.preset.epochs} epochs of {self.items} items, as the paper's {printed} "
                "steps are of its data")  # fmt: skip
        if self.data.left_out:
            say(f"--skip-bad: {len(self.data.left_out)} images, masks and rows were left out, the first: "
                f"{self.data.left_out[0]}")  # fmt: skip
        for message in _pace(self.run.preset, self.data, self.steps, self._between, self.run.eval_limit):
            say(message)
        if self.data.taken_out:
            say(f"{self.data.taken_out} images were taken out of training: val or test of one of the sets has them")
        if self.team.main:
            warn_of_cut(self.data.texts, self.model)
        super()._tell(start, say)


def plan_warnings(
    preset: Preset, data: TrainingData, steps: int | None, eval_every: int | None, eval_limit: int | None, workers: int
) -> list[str]:
    """What a run on data with an end will spend its time on, as far as a user may not expect it; reads a few items."""
    items = len(data.train)
    between = eval_every or steps_between_evaluations(max(1, items // preset.recipe.images_per_batch))
    told = _pace(preset, data, steps or own_steps(preset, items), between, eval_limit)
    return told + reading_warning(data.train, workers)


def _pace(preset: Preset, data: TrainingData, steps: int, between: int, limit: int | None) -> list[str]:
    recipe, asked = preset.recipe, limit
    if isinstance(data.val, IndexedSamples):  # else only drawing it would tell
        has = sum(len(entry.expressions) for entry in data.val.entries)
        asked = has if limit is None else min(has, limit)
    items = 0 if data.train.endless else len(data.train)
    expressions = recipe.images_per_batch * recipe.expressions_per_image
    return pace_warnings(items, recipe.images_per_batch, expressions, steps, between, asked)


def _fingerprint(texts: Sequence[str]) -> str:
    """Tells the sentences of one training from those of another."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def _steps_of(run: Run, data: TrainingData, epoch: int) -> int:
    if run.epochs is None:
        return run.steps or own_steps(run.preset, None if data.train.endless else len(data.train))
    if run.steps is not None:
        raise ValueError(f"--steps {run.steps} and --epochs {run.epochs}: one of the two is accepted")
    if data.train.endless:
        raise ValueError(f"--epochs {run.epochs}: {data.train.name} has no end; --steps is accepted")
    return run.epochs * epoch


def warn_of_cut(texts: Sequence[str], model: Model) -> None:
    """Says so if more than one in a hundred of the first 5,000 sentences loses its end."""
    some, limit = list(texts[:5000]), model.input.max_tokens
    cut = len(model.tokenizer(some, limit).cut) if some else 0
    if 100 * cut > len(some):
        message = (
            f"{cut} of {len(some)} sentences are longer than the {limit} tokens this preset reads, and lose their end; "
            "--set input.max_tokens=N reads more where the text encoder has the positions"
        )
        warnings.warn(message, stacklevel=2)
