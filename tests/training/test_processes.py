"""Two processes compute what one computes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from child import hard_run, run_in

from refseg.data.shapes import RefShapes
from refseg.predictor import Predictor
from refseg.scoring.evaluation import evaluate
from refseg.training.checkpoint import last_checkpoint
from refseg.training.loop import train
from refseg.training.processes import Processes, find_processes
from refseg.weights.start import fresh_start
from refseg.weights.store import load_model

HERE = Path(__file__).parent


def child(out, launcher, *options):
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(HERE / "child.py"), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return {kind: [rest for name, rest in lines if name == kind] for kind in ("step", "weights", "evaluated")}


LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """Losses and weights to rounding, evaluation to the bit; the steps hold other numbers of expressions in each."""
    one, two = child(tmp_path / "one", (), "--evaluate"), child(tmp_path / "two", LAUNCH, "--evaluate")
    assert len(one["step"]) == 5 and len(two["step"]) == 10  # each of both prints its steps
    curve = {line.split()[0]: float.fromhex(line.split()[1]) for line in one["step"]}
    for line in two["step"]:
        step, loss = line.split()
        assert float.fromhex(loss) == pytest.approx(curve[step], rel=2e-6)
    first, second = (load_model(str(tmp_path / name / "last")).network for name in ("one", "two"))
    begun = fresh_start(run_in(tmp_path, random=False).preset, 0, None, ()).model.network.state_dict()
    for name, parameter in first.named_parameters():
        if not any(fnmatch(name, pattern) for pattern in first.inert):  # of those the gradient is rounding alone
            moved, apart = (float((parameter.detach() - x[name]).norm()) for x in (begun, second.state_dict()))
            assert apart <= 0.03 * moved, name  # Adam divides small gradients by themselves
    sums = one["weights"] + two["weights"]
    assert sums[1] == sums[2]  # both processes have the same weights
    assert len(one["evaluated"]) == 1 and two["evaluated"] == 2 * one["evaluated"]
    assert one["evaluated"][0].startswith("40 ")
    # What two processes began one can end; the other way round too.
    first, second = (last_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert (len(first.random), len(second.random)) == (1, 2)
    train(run_in(tmp_path / "two", 5, random=False, eval_every=5), resume=True)


@pytest.mark.slow
def test_two_processes_score_what_they_save_and_go_on_to_the_bit(tmp_path):
    """With batch norms, whose running means each process has its own of, dropout, accumulation and averaged weights."""
    child(tmp_path / "whole", LAUNCH, "--hard")
    logs = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    scored = [entry["val"] for entry in logs if "val" in entry]
    last = load_model(str(tmp_path / "whole" / "last"))
    run = hard_run(tmp_path / "whole")
    scores, _ = evaluate(Predictor(last, "cpu"), RefShapes("refshapes", "val"), run.eval_limit,
                         images_per_batch=run.eval_batch, at_once=run.eval_batch)  # fmt: skip
    assert len(scored) == 2 and {"expressions": run.eval_limit, **scores.summary()} == scored[-1]
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    for name in ("step-00000004.pt",):  # as if it had been killed behind step 3
        (tmp_path / "stopped" / "checkpoints" / name).unlink()
    child(tmp_path / "stopped", LAUNCH, "--hard", "--resume")
    assert load_model(str(tmp_path / "stopped" / "last")).sha256 == last.sha256


def test_one_process_is_all_there_is_without_a_launcher(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = find_processes("cpu")
    assert type(team) is Processes and team.main and team.count == 1
    assert team.total([1, 2.5]) == [1.0, 2.5] and team.gather("x") == ["x"]


def test_one_process_trains_without_accelerate_and_tensorboard(monkeypatch, tmp_path):
    for name in ("accelerate", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    train(run_in(tmp_path / "run", 1))
    with pytest.raises(ValueError, match=r"--tensorboard: not installed; pip install 'refseg\[train\]'"):
        train(run_in(tmp_path / "other", 1, tensorboard=True))


def test_several_processes_need_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"2 processes: they need Accelerate; pip install 'refseg\[train\]'"):
        find_processes("cpu")
