"""Optimiser and schedule of the papers."""

from __future__ import annotations

import torch

from refseg.methods import Segmenter
from refseg.presets.base import Recipe


def make_optimiser(network: Segmenter, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the method's parameter groups."""
    return torch.optim.AdamW(network.param_groups(recipe.lr, recipe.weight_decay))


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Share of the learning rate at a step: linear warm-up, then polynomial decay by iteration, as LAVT."""
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return float(warm * (1 - step / steps) ** recipe.power)


def set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, share: float) -> None:
    """Sets every group to its share of its rate."""
    for group in optimiser.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * share
