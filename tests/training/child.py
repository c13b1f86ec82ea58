"""Training in a process of its own, for tests that kill it or start several: prints every step and its exact loss.

Usage: child.py OUT [--resume] [--slow torch.save|save_file] [--evaluate]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from refseg.presets.base import override
from refseg.training.config import Run
from refseg.training.loop import train
from refseg.training.processes import find_processes
from tiny import tiny

STEPS = 12


def run_in(out: Path, steps: int = STEPS, random: bool = True, **changes) -> Run:
    """A tiny LGFormer on RefShapes; `random` draws numbers in every step, as dropout does."""
    preset = tiny("lgformer-shapes")
    model = override(preset.model, {"bert.dropout": 0.1, "swin.drop_path": 0.3}) if random else preset.model
    # As many expressions as an image has: their number differs from image to image, and from process to process.
    recipe = replace(preset.recipe, images_per_batch=4, expressions_per_image=2 if random else 99, warmup=2)
    options = {"steps": steps, "save_every": 2, "eval_every": 4, "eval_limit": 4, "workers": 0, "device": "cpu"}
    return Run(replace(preset, model=model, recipe=recipe), ("refshapes",), out, **options | changes)


def hard_run(out: Path) -> Run:
    """A tiny LAVT, which has batch norms, with dropout and everything that two processes could do differently."""
    run = run_in(out, 4, eval_every=2, accumulate=2, recompute=True, ema=0.5, save_every=1, workers=1)
    preset = tiny("lavt-shapes")
    random = override(preset.model, {"bert.dropout": 0.1, "swin.drop_path": 0.3})
    return replace(run, preset=replace(preset, model=random, recipe=run.preset.recipe))


def weights(model):
    """All parameters of a model as one vector."""
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def write_half_and_wait(content, place, *_) -> None:
    """Stands for a writer that is killed in the middle; `place` is an open file, or a path."""
    with open(place, "wb") if isinstance(place, Path) else nullcontext(place) as file:
        file.write(b"half of it")
        file.flush()
    say("writing")
    time.sleep(120)


def evaluate_together(team) -> str:
    """The packaged model on some of RefShapes, by all processes: every number to its last bit."""
    from refseg.data.shapes import RefShapes
    from refseg.predictor import Predictor
    from refseg.scoring.evaluation import evaluate
    from refseg.scoring.metrics import Scores

    predictor = Predictor.from_pretrained("lgformer-shapes", "cpu")
    data = RefShapes("refshapes", "val")
    own, _ = evaluate(predictor, data, 40, images_per_batch=2, shard=(team.rank, team.count))
    scores = Scores()
    for part in team.gather(own):
        scores = scores.merge(part)
    return f"{len(scores.pairs)} {[(name, value.hex()) for name, value in scores.summary().items()]}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--slow", default="")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--hard", action="store_true", help="batch norms, dropout, all options; stops after step 3")
    given = parser.parse_args()
    if given.slow == "torch.save":
        torch.save = write_half_and_wait
    elif given.slow:
        from refseg.weights import store

        store.save_file = write_half_and_wait
    run = run_in(given.out, 5, random=False, eval_every=5) if given.evaluate else run_in(given.out)
    if given.hard:
        run = hard_run(given.out)
    with find_processes("cpu") as team:
        model = train(run, given.resume, say_step, processes=team)
        if given.evaluate:
            said = evaluate_together(team)
            total = sum(float(parameter.double().sum()) for parameter in model.network.parameters())
            say(f"weights {total.hex()}")
            say(f"evaluated {said}")


def say_step(step, _, losses) -> None:
    say(f"step {step} {losses['loss'].hex()}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # in one piece: several processes share the pipe


if __name__ == "__main__":
    main()
