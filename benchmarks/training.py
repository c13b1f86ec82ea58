"""What a training step of a paper-size model costs: CPU seconds of forward, backward and optimiser.

    python -m benchmarks.training --against ../old --json

Random weights, pixels and targets, the same for every version; the versions take turns, each in a process of its own,
so that none profits from what another does to the process's memory. The first two steps are not
counted, since they get their memory from the system.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import compared, in_process, machine, say, told

_RUN = """
import contextlib, json, sys, time
WARM = 2
import torch
preset_name, images, steps, seed = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(int(sys.argv[5]))
from refseg.methods import METHODS
from refseg.presets import get_preset
from refseg.training.optim import make_optimiser
from refseg.training.step import Trainee
from refseg.types import Batch
with contextlib.suppress(ImportError):
    from refseg.heap import keep_memory
    keep_memory()
preset = get_preset(preset_name)
torch.manual_seed(seed)
network = METHODS[preset.method][0](preset.model).train()
with contextlib.suppress(ImportError):
    from refseg.fast.learning import let_learn
    let_learn(network)
trainee, optimiser = Trainee(network, "cpu", "fp32"), make_optimiser(network, preset.recipe)
draw = torch.Generator().manual_seed(seed)
h, w = preset.input.size
targets = torch.zeros(images, h, w, dtype=torch.bool)
targets[:, h // 4 : h // 2, w // 3 : w // 2] = True
tokens = torch.randint(1000, 20000, (images, 12), generator=draw)
batch = Batch(torch.randn(images, 3, h, w, generator=draw), tokens, torch.ones_like(tokens, dtype=torch.bool),
              torch.arange(images), targets, tuple(map(str, range(images))))
found = []
for step in range(steps + WARM):
    torch.manual_seed(seed + step)
    optimiser.zero_grad(set_to_none=True)
    at = [time.process_time()]
    loss = sum(trainee(batch).values())
    at.append(time.process_time())
    loss.backward()
    at.append(time.process_time())
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    at.append(time.process_time())
    found.append([float(loss), *(b - a for a, b in zip(at, at[1:]))])
print(json.dumps([found[WARM:], most_memory() / 2**20]))
"""
PARTS = ("forward", "backward", "optimiser")


def steps_of(checkout: Path, given: argparse.Namespace) -> tuple[list[list[float]], float]:
    """Loss and seconds of the parts of every step of a process, and its memory in GiB."""
    found: list[list[float]]
    found, memory = in_process(checkout, _RUN, given.preset, given.images, given.steps, given.seed, given.threads)
    return found, memory


def main() -> None:
    """Trains for some steps with every version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another commit of this project")
    parser.add_argument("--preset", default="lgformer")
    parser.add_argument("--images", type=int, default=2, help="images of a step, with one expression each")
    parser.add_argument("--steps", type=int, default=2, help="counted steps of every process")
    parser.add_argument("--times", type=int, default=2, help="processes of every version")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    versions, told_against = compared(given.against)
    found: dict[str, list[list[float]]] = {name: [] for name in versions}
    memory: dict[str, float] = {}
    for _ in range(given.times):
        for name, checkout in versions.items():
            steps, memory[name] = steps_of(checkout, given)
            found[name] += steps
    whole = {name: [sum(step[1:]) for step in steps] for name, steps in found.items()}
    rows: list[dict[str, Any]] = []
    for name, steps in found.items():
        against = whole["before"] if name != "before" and "before" in whole else None
        parts = {part: told([step[i] for step in steps])["median"] for i, part in enumerate(PARTS, 1)}
        losses = [round(step[0], 5) for step in steps[: given.steps]]
        rows.append(
            {"name": name, **told(whole[name], against), **parts, "losses": losses, "gib": round(memory[name], 1)}
        )
    where = machine(given.threads, "cpu") | {"seed": given.seed} | told_against
    say({"benchmark": "training", "preset": given.preset, "images": given.images, "rows": rows, **where}, given.json)


if __name__ == "__main__":
    main()
