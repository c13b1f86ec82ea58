"""Small parts around attention.

T expressions, X anything attended to, L words, D and C channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Linear, ReLU, Linear with a residual and a LayerNorm behind it."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand, self.contract, self.norm = nn.Linear(dim, hidden), nn.Linear(hidden, dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, X, C) to the same shape."""
        return self.norm(x + self.contract(F.relu(self.expand(x))))


def masked_mean(words: Tensor, mask: Tensor) -> Tensor:
    """(T, L, D) to (T, D): the mean over the words where `mask` (T, L) is True."""
    real = mask.unsqueeze(-1).to(words.dtype)
    return (words * real).sum(1) / real.sum(1).clamp(min=1e-6)
