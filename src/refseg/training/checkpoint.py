"""The state of a run on disk: everything that decides what the next step computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refseg.weights import first_line, write_beside


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        step: Steps done; also the number of the next batch.
        seed: Seed of the run.
        steps: Steps the run is planned for.
        preset: The preset's name, model, input and recipe, as JSON.
        data: Name of the data set.
        best: Best validation score so far, None before the first.
        seconds: Time trained so far.
    """

    step: int
    seed: int
    steps: int
    preset: str
    data: str
    best: float | None
    seconds: float


def save_checkpoint(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, state: RunState) -> None:
    """Writes a checkpoint beside the last one and renames it."""
    content = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "run": vars(state),
    }
    write_beside(path, lambda beside: torch.save(content, beside))


def load_checkpoint(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> RunState:
    """Puts a checkpoint back; nothing in the file is executed.

    Raises:
        ValueError: The file is missing, damaged or of another model.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state = RunState(**content["run"])
        network.load_state_dict(content["network"])
        optimiser.load_state_dict(content["optimiser"])
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path}: not a checkpoint of this preset ({first_line(error)})") from error
    random: Tensor = content["random"]
    torch.set_rng_state(random)
    if torch.cuda.is_available() and content["cuda_random"]:
        torch.cuda.set_rng_state_all(content["cuda_random"])
    return state
