"""Losses: logits and targets in, scalars out. Computed in float32 whatever the logits come in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, H, W) bool to (T, h, w) bool by nearest neighbour."""
    if target.shape[-2:] == size:
        return target
    return F.interpolate(target[:, None].to(torch.uint8), size, mode="nearest-exact")[:, 0].bool()


def pixel_text(logits: Tensor, target: Tensor, pos_weight: float = 1.0) -> Tensor:
    """Mean binary cross-entropy between pixels and text (LGFormer eq. 12-13, AlignFormer eq. 8).

    Args:
        logits: (T, h, w) log-odds.
        target: (T, h, w) bool.
        pos_weight: Weight of the foreground's term.
    """
    weight = None if pos_weight == 1.0 else torch.tensor(pos_weight, device=logits.device)
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), pos_weight=weight)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over expressions of 1 - Dice, with one pixel added above and below (Milletari et al. 2016).

    Args:
        logits: (T, h, w) log-odds.
        target: (T, h, w) bool.
    """
    probability, truth = logits.float().sigmoid().flatten(1), target.float().flatten(1)
    overlap = 2 * (probability * truth).sum(1)
    return (1 - (overlap + 1) / (probability.sum(1) + truth.sum(1) + 1)).mean()
