"""A run that is killed at any moment goes on and gives the same losses, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from child import STEPS, run_in, weights

from refseg.training.checkpoint import checkpoints
from refseg.training.loop import train
from refseg.weights.store import load_model

HERE = Path(__file__).parent


def start(out, *options):
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "child.py"), str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill_after(process, lines, delay, seen):
    """Kills a child behind so many steps, or where it says that it writes; notes the losses in `seen`."""
    with process:  # closes the pipe and waits
        for line in process.stdout:
            note(line, seen)
            lines -= 1
            if not lines or line == "writing\n":
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
    return process.returncode


def note(line, seen):
    kind, *rest = line.split()
    if kind == "step":
        seen.setdefault(int(rest[0]), set()).add(rest[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody kills: its losses, its weights and its log."""
    losses, out = {}, tmp_path_factory.mktemp("whole")
    model = train(run_in(out), report=lambda step, _, found: losses.update({step: found["loss"].hex()}))
    return losses, weights(model), out


def killed_and_resumed(out, whole, moments):
    """Kills a run at (option, lines, delay) and resumes it, until it is done; everything equals the whole run."""
    losses, expected, _ = whole
    seen = {}
    for option, lines, delay in moments:
        resume = ["--resume"] if checkpoints(out) else []
        code = kill_after(start(out, *resume, *option), lines, delay, seen)
        assert code == -signal.SIGKILL or STEPS in seen  # so late that it was done before the signal came
    last = start(out, *(["--resume"] if checkpoints(out) else []))
    assert kill_after(last, 0, 0, seen) == 0  # not killed
    assert seen == {step: {loss} for step, loss in losses.items()}
    assert torch.equal(weights(load_model(str(out / "last"))), expected)
    written = ["best", "checkpoints", "last", "log.jsonl", "pictures", "run.json"]
    assert sorted(path.name for path in out.iterdir()) == written
    left = sorted(path.name for path in (out / "checkpoints").iterdir())  # nothing half-written among them
    assert left == [f"step-{step:08d}.pt" for step in (STEPS - 2, STEPS)]


@pytest.mark.slow
def test_killed_while_a_checkpoint_and_while_a_model_is_written(tmp_path, whole):
    moments = [([], 5, 0.0), (["--slow", "torch.save"], STEPS, 0.0), (["--slow", "save_file"], STEPS, 0.0)]
    killed_and_resumed(tmp_path / "run", whole, moments)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(tmp_path, whole, seed):
    random.seed(seed)
    moments = [([], random.randint(1, 3), random.random() * 0.3) for _ in range(5)]
    killed_and_resumed(tmp_path / "run", whole, moments)
