"""What every training run does, whatever is trained: steps, checkpoints, log, going on, ending well."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from refseg import __version__
from refseg.fast.learning import let_learn
from refseg.files import FolderLock, first_line, prepare_folder, write_text_beside
from refseg.heap import keep_memory
from refseg.training.batches import Batches, Told
from refseg.training.checkpoint import (
    Checkpoint,
    RunState,
    checkpoints,
    last_checkpoint,
    name_of,
    random_state,
    save_checkpoint,
    set_random_state,
    tidy,
)
from refseg.training.config import RUN_FILE, Run, run_to_json
from refseg.training.folder import clear, refuse_another, refuse_others
from refseg.training.interrupt import Interrupt, ignore_ctrl_c
from refseg.training.log import Log, find_tensorboard
from refseg.training.optim import average_of, make_optimiser, rate_at, set_rate
from refseg.training.pace import Stopwatch, steps_between_evaluations
from refseg.training.processes import Processes
from refseg.training.recompute import recompute_blocks
from refseg.training.step import Before, leaves_out, take_step
from refseg.weights.start import Start
from refseg.weights.store import recover_model

Report = Callable[[int, int, dict[str, float]], None]
Say = Callable[[str], None]
Result = TypeVar("Result")
MEASURED = ("loss", "gradient", "rate")  # what a step reports beside the terms of its loss
ENDLESS_EPOCH = 1000  # steps between evaluations on data without an end


class Engine(Generic[Result]):
    """A run under way: everything that a step changes, and what it is written to.

    A kind of training fills in how it begins, what a step computes, how it is scored, and what comes out of it.

    Attributes:
        network: What is trained.
        batches: What it reads.
        steps: Steps of the run.
        epoch: Steps of a pass over the data.
        state: Where the run stands.
    """

    network: Any
    batches: Batches
    steps: int
    epoch: int
    state: RunState

    def __init__(self, run: Run, resume: bool, team: Processes, say: Say) -> None:
        self.run, self.team, self.say, self.lock = run, team, say, FolderLock(run.out)
        self._before: int | None = None  # the step from which on no checkpoint can be used
        _check(run, resume)
        try:
            if team.main:  # before anything is read that another run might change
                self.lock.acquire()
            start = self._arrive(resume)
            self._prepare_folder(resume)
            self._share()
            self._tell(start, say)
            self._open_log(start, resume)
        except BaseException:
            self.lock.release()
            raise

    def _arrive(self, resume: bool) -> Start | None:
        """Brings everything to where this run begins; a checkpoint that cannot be used is passed over.

        Raises:
            ValueError: The run in the folder is another, or none of its checkpoints can be used.
        """
        while True:
            stored = self._open(resume)
            start = self._begin(stored)
            self._build()
            self._describe(start)
            torch.manual_seed(self.run.seed + 1 + self.team.rank)  # each process drops other parts out
            if stored is None:
                return start
            refuse_another(self.run, self.state, stored.run)
            try:
                self._put_back(stored)
                return start
            except Exception as error:  # a damaged state fails in many ways
                self._before = stored.run.step
                what = f"{self.run.out}: its checkpoint of step {stored.run.step} cannot be used ({first_line(error)})"
                if not any(path.name < name_of(self._before) for path in checkpoints(self.run.out)):
                    raise ValueError(f"{what}, and there is none before it; another folder is accepted") from error
                warnings.warn(f"{what}; the one before it is taken", stacklevel=2)

    def _open(self, resume: bool) -> Checkpoint | None:
        """Finds the data and the number of steps; returns `self._stored(resume)`."""
        raise NotImplementedError

    def _begin(self, stored: Checkpoint | None) -> Start | None:
        """Makes `network` and `batches`; what is begun with, for those who tell it."""
        raise NotImplementedError

    def _describe(self, start: Start | None) -> None:
        """Makes `state`: where the run stands, and all that it must have in common with whoever goes on."""
        raise NotImplementedError

    def _trainee(self) -> nn.Module:
        """The module from a batch to the named terms of its loss."""
        raise NotImplementedError

    def _tell(self, start: Start | None, say: Say) -> None:
        """Says what a user should read before the first step."""
        if self.state.step == self.state.steps:
            say(f"nothing is left to do: all {self.state.steps} steps are done")
        if self.state.steps <= (warmup := self.run.preset.recipe.warmup):
            say(f"the rate grows over {warmup} steps, and the run has {self.state.steps}: little is learned; "
                f"--set recipe.warmup={self.state.steps // 10} is a tenth of it")  # fmt: skip

    def _score(self) -> dict[str, Any]:
        """The scores of what is trained, of all processes together, `_select` among them."""
        raise NotImplementedError

    def _inside(self) -> dict[str, float]:
        """What else the log says of what is trained, by the first process alone."""
        return {}

    def _draw(self) -> None:
        """Writes pictures of what is trained, if it answers in such; by the first process alone."""

    @property
    def _select(self) -> str:
        """The score that decides what is kept as the best."""
        return self.run.preset.recipe.select

    def _write(self, folder: Path) -> None:
        """Writes what is trained, as it is now."""
        raise NotImplementedError

    def _result(self) -> Result:
        """What the run hands over."""
        raise NotImplementedError

    def _stored(self, resume: bool) -> Checkpoint | None:
        """Where an earlier run in the folder stopped, if this one goes on with it.

        Raises:
            ValueError: It holds a run and this one does not go on, or the other way round.
        """
        out = self.run.out
        if not resume and self.run.overwrite and self.team.main:
            clear(out)
        if not resume and not self.run.overwrite and not (checkpoints(out) or (out / "last").exists()):
            refuse_others(out)
        if not resume and (checkpoints(out) or (out / "last").exists()):
            if not checkpoints(out):
                raise ValueError(f"{out}: holds a run already, without a checkpoint to go on from; another folder is "
                                 f"accepted, with --init {out / 'last'} to start from its weights")  # fmt: skip
            raise ValueError(f"{out}: holds a run already; --resume goes on with it, or give another folder")
        return last_checkpoint(out, self._before) if resume else None

    def _build(self) -> None:
        """What changes the weights: optimiser, loss scale, average."""
        run = self.run
        if run.recompute:
            recompute_blocks(self.network)
        if self.team.device.type == "cpu":
            let_learn(self.network)
        self.optimiser = make_optimiser(self.network, run.preset.recipe)
        self.scaler = torch.amp.GradScaler(self.team.device.type, enabled=run.precision == "fp16")
        self.average = average_of(self.network, run.ema) if run.ema else None

    def _prepare_folder(self, resume: bool) -> None:
        """Makes sure that it can be written to, and tidies what a killed run left."""
        out = self.run.out
        prepare_folder(out)
        if not self.team.main:
            return
        self.lock.acquire()  # of a folder that was not there before
        if not resume:
            self._stored(resume)
            write_text_beside(out / RUN_FILE, run_to_json(self.run))
        tidy(out, self.state.step)
        for name in ("best", "last"):
            recover_model(out / name)

    def _share(self) -> None:
        """The network as all processes train it together."""
        team = self.team
        trainee = self._trainee()
        self.trainee = team.share(trainee, team.count > 1 and self._leaves_out(trainee))

    def _open_log(self, start: Start | None, resume: bool) -> None:
        run = self.run
        self.log = Log(run.out, self.state.step if resume else None, run.tensorboard) if self.team.main else None
        if start is not None and start.new and not resume:
            self._log(init=run.init, new_tensors=list(start.new), of=start.of)

    def _leaves_out(self, trainee: nn.Module) -> bool:
        """Asks a batch, of which nothing stays."""
        before = Before(self.network, self.team.device)
        self.network.train()
        found = leaves_out(trainee, self.batches[0][0].to(self.team.device))
        before.put_back()
        set_random_state(before.random, self.team.device)
        return found

    def go(self, report: Report | None) -> Result:
        """Runs the steps that are left, and gives the folder back."""
        try:
            return self._go(report)
        finally:
            self.lock.release()

    def _go(self, report: Report | None) -> Result:
        run, team = self.run, self.team
        order = range(self.state.step, self.state.steps)
        # A generator of its own: the loader would otherwise draw from the global one, which dropout reads.
        loader: DataLoader[Sequence[Any]] = DataLoader(
            cast(Any, Told(self.batches)), None, sampler=order, num_workers=run.workers, generator=torch.Generator(),
            worker_init_fn=ignore_ctrl_c,
        )  # fmt: skip
        if self._due and self.state.evaluated < self.state.step:  # it was stopped in between
            self._evaluate()
        started = time.perf_counter() - self.state.seconds
        self.network.train()
        if team.device.type == "cpu":
            keep_memory()
        watch = Stopwatch(run.workers, self.say)
        with Interrupt(insist=team.count == 1) as interrupt:
            for step, parts in zip(order, watch.waiting(loader), strict=True):
                if isinstance(parts, Exception):
                    raise parts
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
        return self._result()

    @property
    def _due(self) -> bool:
        """Whether the model is to be scored after as many steps as are done."""
        done = self.state.step
        return done > 0 and (done % self._between == 0 or done == self.state.steps)

    @property
    def _between(self) -> int:
        """Steps between evaluations."""
        return self.run.eval_every or steps_between_evaluations(self.epoch)

    def _step(self, step: int, parts: Sequence[Any]) -> dict[str, float]:
        """One step of the optimiser; of one that cannot be taken nothing stays, and the run stops."""
        recipe, before = self.run.preset.recipe, Before(self.network, self.team.device)
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
        """Scores what is trained, and keeps it."""
        run, team, select = self.run, self.team, self._select
        team.agree(self._kept())
        summary = self._score()
        inside = self._inside() if team.main else {}
        self._on_main(self._draw)
        self._log(val=summary, **({"inside": inside} if inside else {}))
        before = self.state.best
        better = before is None or summary[select] > before
        best: float = summary[select] if better or before is None else before
        shown = ", ".join(f"{name} {100 * summary[name]:.2f} %" for name in self._shown(summary))
        seen = "".join(f", {name} {value:.3f}" for name, value in inside.items())
        self.say(
            f"step {self.state.step}: val {shown}" + ("" if better else f"; best {select} {100 * best:.2f} %") + seen
        )
        self.state = replace(self.state, best=best, evaluated=self.state.step, record=self._record(summary))
        for name in ("best", "last") if better else ("last",):
            self._on_main(partial(self._write, run.out / name))
        if self.state.step == self.state.steps:
            self._save(team.gather(random_state(team.device)))
        self.network.train()

    def _shown(self, summary: dict[str, Any]) -> list[str]:
        """The scores that are told, the one that decides first."""
        others = [name for name in ("mIoU", "oIoU", "P@0.5") if name in summary and name != self._select]
        return [self._select, *others]

    def _kept(self) -> Any:
        """The network whose weights are scored and written: the averaged ones where there are such."""
        return self.network if self.average is None else cast(Any, self.average.module)

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
        """Puts everything back as a checkpoint says it was.

        Raises:
            Exception: The checkpoint is incomplete or damaged.
        """
        for name, part in self._parts().items():
            part.load_state_dict(stored.parts[name])
        self.state = stored.run
        if len(stored.random) == self.team.count:
            set_random_state(stored.random[self.team.rank], self.team.device)

    def _record(self, summary: dict[str, float]) -> dict[str, Any]:
        """What the result says about how it was trained, the terms of its loss among it."""
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
            "torch": str(torch.__version__),
            "source": state.source,
            "precision": run.precision,
            "ema": run.ema,
        }

    def _log(self, **entry: Any) -> None:
        log = self.log
        self._on_main(lambda: log.write(self.state.step, self.state.seconds, **entry) if log is not None else None)


def _check(run: Run, resume: bool) -> None:
    """Refuses options that contradict each other, before anything is read."""
    if not 0 <= run.ema < 1:
        raise ValueError(f"--ema {run.ema}: a decay from 0 (none) to below 1 is accepted")
    if not resume and run.init is not None and run.encoders is not None:
        raise ValueError(f"--init {run.init} and --encoders {run.encoders}: one of the two is accepted")
    if resume and run.overwrite:
        raise ValueError("--resume and --overwrite: one of the two is accepted")
    if run.tensorboard:
        find_tensorboard()
