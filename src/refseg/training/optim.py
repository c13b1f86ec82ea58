"""Optimiser and schedule of the papers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from refseg.methods import Segmenter
from refseg.presets.base import Recipe


def make_optimiser(network: Segmenter, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the method's parameter groups; all of a group in one pass over the memory."""
    return torch.optim.AdamW(network.param_groups(recipe.lr, recipe.weight_decay), fused=True)


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Share of the learning rate at a step: linear warm-up, then polynomial decay by iteration, as LAVT."""
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return float(warm * (1 - step / steps) ** recipe.power)


def set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, share: float) -> None:
    """Sets every group to its share of its rate."""
    for group in optimiser.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * share


def decay_at(step: int, decay: float) -> float:
    """Decay of the averaged weights behind a step, from 1: it grows to `decay`, so that the start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


def average_of(network: nn.Module, decay: float) -> AveragedModel:
    """The moving average of a network's parameters, that of the first step at first; buffers are the network's own."""

    @torch.no_grad()
    def towards(average: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(list(average), list(current), 1 - decay_at(int(count), decay))

    return AveragedModel(network, multi_avg_fn=towards)
