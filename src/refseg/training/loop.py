"""The training loop."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from refseg import __version__
from refseg.data.loader import TrainingBatches
from refseg.data.mixture import TrainingData, open_training
from refseg.files import prepare_folder, write_text_beside
from refseg.predictor import Predictor
from refseg.scoring.evaluation import evaluate
from refseg.scoring.metrics import Scores
from refseg.training.checkpoint import (
    Checkpoint,
    RunState,
    checkpoints,
    last_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
    tidy,
)
from refseg.training.config import RUN_FILE, Run, describe, run_to_json
from refseg.training.interrupt import Interrupt, ignore_signals
from refseg.training.log import Log, find_tensorboard
from refseg.training.optim import make_optimiser, rate_at, set_rate
from refseg.training.processes import Processes, find_processes
from refseg.training.recompute import recompute_blocks
from refseg.training.settings import own_steps
from refseg.training.step import Trainee, leaves_out, take_step
from refseg.types import Batch
from refseg.weights.start import Start, first_weights
from refseg.weights.store import Model, recover_model, save_model

Report = Callable[[int, int, dict[str, float]], None]
Say = Callable[[str], None]
MEASURED = ("loss", "gradient", "rate")  # what a step reports beside the terms of its loss
ENDLESS_EPOCH = 1000  # steps between evaluations on data without an end


def train(
    run: Run,
    resume: bool = False,
    report: Report | None = None,
    say: Say | None = None,
    processes: Processes | None = None,
) -> Model:
    """Trains, and returns the model as it is after the last step.

    Args:
        run: What to do.
        resume: Go on from the last checkpoint in `run.out`, bit for bit on a CPU.
        report: Called after every step with the number of steps done, that of the whole run, and its losses.
        say: Called with what a user should read before the first step.
        processes: Who trains together; whoever the launcher started by default.

    Raises:
        ValueError: The folder already holds a run and `resume` is off, the checkpoint does not fit, or data, model and
            options do not go together.
        FloatingPointError: The loss or its gradient is not finite; names the step and the expressions. A checkpoint of
            the moment before it has been written.
        OSError: The disk is full; the checkpoints that were written stay.
        KeyboardInterrupt: Ctrl-C or a request to end; a checkpoint of the last whole step has been written.
    """
    with nullcontext(processes) if processes is not None else find_processes(run.device) as team:
        return _Training(run, resume, team, say if say is not None and team.main else lambda _: None).go(report)


class _Training:
    """A run under way: everything that a step changes, and what it is written to."""

    def __init__(self, run: Run, resume: bool, team: Processes, say: Say) -> None:
        self.run, self.team = run, team
        _check(run, resume)
        stored = self._open(resume)
        start = self._begin(stored)
        self._build()
        self._describe(start)
        torch.manual_seed(run.seed + 1 + team.rank)  # each process drops other parts out
        if stored is not None:
            self._put_back(stored)
        self._prepare_folder(resume)
        self._share()
        self._tell(start, say)
        self._open_log(start, resume)

    def _open(self, resume: bool) -> Checkpoint | None:
        """The data, the number of steps, and where an earlier run stopped."""
        run, recipe = self.run, self.run.preset.recipe
        self.data = open_training(run.data, recipe.expressions_per_image == 1, run.overlap, run.images)
        self.items = 0 if self.data.train.endless else len(self.data.train)
        # Whole batches, as the papers' code counts: 40 epochs of 42,404 references by 32 are 53,000 steps.
        self.epoch = max(1, self.items // recipe.images_per_batch) if self.items else ENDLESS_EPOCH
        self.steps = _steps_of(run, self.data, self.epoch)
        if not resume and (checkpoints(run.out) or (run.out / "last").exists()):
            raise ValueError(f"{run.out}: holds a run already; --resume goes on with it, or give another folder")
        return last_checkpoint(run.out) if resume else None

    def _begin(self, stored: Checkpoint | None) -> Start:
        """The model with the weights that it begins with, and the batches that it reads."""
        run, team, data, recipe = self.run, self.team, self.data, self.run.preset.recipe
        words = None if stored is None else stored.run.tokenizer
        start = first_weights(run.preset, run.seed, data.texts, run.encoders, run.init, words)
        self.model = start.model
        self.network = self.model.network.to(team.device)
        self.batches = TrainingBatches(
            data.train, self.model.tokenizer, self.model.input, recipe.images_per_batch, recipe.expressions_per_image,
            run.seed, self.steps, data.train.endless, team.rank, team.count, run.accumulate,
        )  # fmt: skip
        return start

    def _build(self) -> None:
        """What changes the weights: optimiser, loss scale, average."""
        run = self.run
        if run.recompute:
            recompute_blocks(self.network)
        self.optimiser = make_optimiser(self.network, run.preset.recipe)
        self.scaler = torch.amp.GradScaler(self.team.device.type, enabled=run.precision == "fp16")
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(run.ema)) if run.ema else None

    def _describe(self, start: Start) -> None:
        """Where the run stands before its first step, and all that it must have in common with whoever goes on."""
        run = self.run
        self.state = RunState(
            step=0, seed=run.seed, steps=self.steps, preset=describe(run.preset), data=" + ".join(run.data),
            items=self.items, overlap=run.overlap, eval_limit=run.eval_limit, precision=run.precision, ema=run.ema,
            source=start.source, tokenizer=self.model.tokenizer.to_json(),
        )  # fmt: skip

    def _prepare_folder(self, resume: bool) -> None:
        """Makes sure that it can be written to, and tidies what a killed run left."""
        out = self.run.out
        prepare_folder(out)
        if not self.team.main:
            return
        if not resume:
            write_text_beside(out / RUN_FILE, run_to_json(self.run))
        tidy(out, self.state.step)
        for name in ("best", "last"):
            recover_model(out / name)

    def _share(self) -> None:
        """The network as all processes train it together."""
        team = self.team
        trainee = Trainee(self.network, team.device.type, self.run.precision)
        self.trainee = team.share(trainee, team.count > 1 and self._leaves_out(trainee))

    def _open_log(self, start: Start, resume: bool) -> None:
        run = self.run
        self.log = Log(run.out, self.state.step if resume else None, run.tensorboard) if self.team.main else None
        if start.new and not resume:
            self._log(init=run.init, new_tensors=list(start.new), of=start.of)

    def _leaves_out(self, trainee: Trainee) -> bool:
        """Asks a batch, of which nothing stays."""
        before = _Before(self.network, self.team.device)
        self.network.train()
        found = leaves_out(trainee, self.batches[0][0].to(self.team.device))
        before.put_back()
        set_random_state(before.random, self.team.device)
        return found

    def go(self, report: Report | None) -> Model:
        """Runs the steps that are left."""
        run, team = self.run, self.team
        order = range(self.state.step, self.state.steps)
        # A generator of its own: the loader would otherwise draw from the global one, which dropout reads.
        loader: DataLoader[tuple[Batch, ...]] = DataLoader(
            cast(Any, self.batches), None, sampler=order, num_workers=run.workers, generator=torch.Generator(),
            worker_init_fn=ignore_signals,
        )  # fmt: skip
        if self._due and self.state.evaluated < self.state.step:  # it was stopped in between
            self._evaluate()
        started = time.perf_counter() - self.state.seconds
        self.network.train()
        with Interrupt(insist=team.count == 1) as interrupt:
            for step, parts in zip(order, loader, strict=True):
                losses = self._step(step, parts)
                done, last, terms = step + 1, step + 1 == self.state.steps, [x for x in losses if x not in MEASURED]
                self.state = replace(self.state, step=done, seconds=time.perf_counter() - started, terms=terms)
                if report is not None:
                    report(done, self.state.steps, losses)
                if done % 50 == 0 or last:
                    self._log(**losses)
                stop = sum(team.total([interrupt.wanted])) > 0
                # Before an evaluation, which takes long, so that whatever stops the run costs no step.
                if done % run.save_every == 0 or self._due or stop:
                    self._save(team.gather(random_state(team.device)))
                if stop:
                    raise KeyboardInterrupt(f"at step {done}; --resume goes on")
                if self._due:
                    self._evaluate()
        if self.log is not None:
            self.log.close()
        return self._scored()

    @property
    def _due(self) -> bool:
        """Whether the model is to be scored after as many steps as are done."""
        done = self.state.step
        return done > 0 and (done % (self.run.eval_every or self.epoch) == 0 or done == self.state.steps)

    def _step(self, step: int, parts: Sequence[Batch]) -> dict[str, float]:
        """One step of the optimiser; of one that cannot be taken nothing stays, and the run stops."""
        recipe, before = self.run.preset.recipe, _Before(self.network, self.team.device)
        set_rate(self.optimiser, recipe, rate_at(step, self.state.steps, recipe))
        try:
            losses = take_step(self.trainee, self.optimiser, self.scaler, parts, recipe.clip, self.team)
        except FloatingPointError as error:
            before.put_back()
            self._save(self.team.gather(before.random))
            raise FloatingPointError(
                f"step {step}: {error}; a checkpoint of {step} whole steps is kept. The same settings stop here "
                "again: a new run with a lower recipe.lr, or with recipe.clip, is accepted"
            ) from error
        if self.average is not None:
            self.average.update_parameters(self.network)
        return losses

    def _evaluate(self) -> None:
        """Scores the model on `val`, all processes together, and keeps it."""
        run, team, select = self.run, self.team, self.run.preset.recipe.select
        team.agree(self._scored().network)
        predictor = Predictor(self._scored(), team.device)
        own, _ = evaluate(
            predictor, self.data.val, run.eval_limit, images_per_batch=run.eval_batch, at_once=run.eval_batch,
            shard=(team.rank, team.count),
        )  # fmt: skip
        scores = Scores(protocol=own.protocol)
        for part in team.gather(own):
            scores = scores.merge(part)
        summary = {"expressions": len(scores.pairs), **scores.summary()}
        self._log(val=summary)
        better = self.state.best is None or summary[select] > self.state.best
        best = summary[select] if better else self.state.best
        self.state = replace(self.state, best=best, evaluated=self.state.step, record=self._record(summary))
        for name in ("best", "last") if better else ("last",):
            self._on_main(partial(save_model, self._scored(), run.out / name))
        if self.state.step == self.state.steps:
            self._save(team.gather(random_state(team.device)))
        self.network.train()

    def _scored(self) -> Model:
        """The model whose weights are scored and saved: the averaged ones where there are such."""
        network = self.network if self.average is None else cast(Any, self.average.module)
        return replace(self.model, network=network, training=self.state.record)

    def _save(self, random: list[dict[str, Any]]) -> None:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        self._on_main(lambda: save_checkpoint(self.run.out, Checkpoint(self.state, parts, random), self.run.keep))

    def _on_main(self, write: Callable[[], object]) -> None:
        """Lets the first process write; if it cannot, all of them stop with what it says."""
        said = ""
        if self.team.main:
            try:
                write()
            except OSError as error:
                said = str(error)
        if said := "".join(self.team.gather(said)):
            raise OSError(said)

    def _parts(self) -> dict[str, Any]:
        """Everything with a state, by the name it has in a checkpoint."""
        parts = {"network": self.network, "optimiser": self.optimiser, "scaler": self.scaler}
        return parts | ({"average": self.average} if self.average is not None else {})

    def _put_back(self, stored: Checkpoint) -> None:
        init = self.run.init
        if init is not None and stored.run.source != f"weights of {init}":
            raise ValueError(f"--init {init}: the run in {self.run.out} began with another ({stored.run.source}); "
                             "--resume without it is accepted")  # fmt: skip
        for what in RunState.FIXED:
            is_, was = getattr(self.state, what), getattr(stored.run, what)
            if is_ != was:
                told = _difference(was, is_) if what == "preset" else f"{what} {was}, not {is_}"
                raise ValueError(f"{self.run.out}: holds a run with {told}; the same is accepted")
        for name, part in self._parts().items():
            part.load_state_dict(stored.parts[name])
        self.state = stored.run
        if len(stored.random) == self.team.count:
            set_random_state(stored.random[self.team.rank], self.team.device)

    def _tell(self, start: Start, say: Say) -> None:
        if start.of:
            first = ", ".join(start.new[:10]) + (f", and {len(start.new) - 10} more" if len(start.new) > 10 else "")
            all_new = "; log.jsonl names all" if len(start.new) > 10 else ""
            say(f"--init {self.run.init}: {len(start.new)} of {start.of} tensors are new{': ' if first else ''}"
                f"{first}{all_new}")  # fmt: skip
        if self.steps != (printed := self.run.preset.recipe.steps) and self.run.steps is self.run.epochs is None:
            say(f"{self.steps} steps: {self.run.preset.epochs} epochs of {self.items} items, as the paper's {printed} "
                "steps are of its data")  # fmt: skip
        if self.state.step == self.state.steps:
            say(f"nothing is left to do: all {self.state.steps} steps are done")
        if self.data.taken_out:
            say(f"{self.data.taken_out} images were taken out of training: val or test of one of the sets has them")
        if self.team.main:
            warn_of_cut(self.data.texts, self.model)
        if self.state.steps <= (warmup := self.run.preset.recipe.warmup):
            say(f"the rate grows over {warmup} steps, and the run has {self.state.steps}: little is learned; "
                f"--set recipe.warmup={self.state.steps // 10} is a tenth of it")  # fmt: skip

    def _log(self, **entry: Any) -> None:
        log = self.log
        self._on_main(lambda: log.write(self.state.step, self.state.seconds, **entry) if log is not None else None)

    def _record(self, summary: dict[str, float]) -> dict[str, Any]:
        """What a model says about how it was trained, the terms of its loss among it."""
        run, state = self.run, self.state
        return {
            "preset": run.preset.name,
            "data": state.data,
            "steps": state.step,
            "of_steps": state.steps,
            "seed": run.seed,
            "loss": state.terms,
            "hours": round(state.seconds / 3600, 2),
            "val": {k: round(v, 4) for k, v in summary.items()},
            "version": __version__,
            "source": state.source,
            "precision": run.precision,
            "ema": run.ema,
        }


class _Before:
    """What a step changes in a network before the optimiser does: running means, and what was drawn at random."""

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self.random = random_state(device)
        self._buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]

    def put_back(self) -> None:
        for buffer, value in self._buffers:
            buffer.copy_(value)


def _check(run: Run, resume: bool) -> None:
    """Refuses options that contradict each other, before anything is read."""
    if not 0 <= run.ema < 1:
        raise ValueError(f"--ema {run.ema}: a decay from 0 (none) to below 1 is accepted")
    if not resume and run.init is not None and run.encoders is not None:
        raise ValueError(f"--init {run.init} and --encoders {run.encoders}: one of the two is accepted")
    if run.tensorboard:
        find_tensorboard()


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


def _difference(was: str, is_: str) -> str:
    """The first field in which two described presets differ."""
    one, two = json.loads(was), json.loads(is_)
    for part in one:
        for field in one[part] if isinstance(one[part], dict) else ():
            if one[part][field] != two[part].get(field):
                return f"{part}.{field} {one[part][field]}, not {two[part].get(field)}"
    return f"preset {one['name']}, not {two['name']}"
