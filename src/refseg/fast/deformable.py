"""Deformable attention that only answers: every query adds up rows of a table, as an embedding bag does.

B images, Q queries, P cells of all levels together, N heads, V levels, K points, D = C / N channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.fast.choice import Precision
from refseg.fast.linear import linear_of, pays, ready_linear
from refseg.layers.deformable import DeformableAttention, Size


def sum_of_rows(value: Tensor, sizes: Sequence[Size], x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Samples every level bilinearly at the given places and adds the samples up.

    Every level gets an edge of zeros, so that a place outside needs no question of its own: it is moved onto the edge.
    A sample is then four rows of one table, and all samples of a query are one weighted sum of rows.

    Args:
        value: (B, P, N, D), the levels one after another.
        sizes: (H, W) of each level.
        x: (B, Q, N, V, K) in cells, 0 being the centre of the first column.
        y: (B, Q, N, V, K) in cells, 0 being the centre of the first row.
        weights: (B, Q, N, V, K), adding up to 1 over V and K.

    Returns:
        (B, Q, N * D). Places outside the map count as zero.
    """
    (b, _, n, d), q = value.shape, x.shape[1]
    levels = [
        F.pad(level.unflatten(1, size), (0, 0, 0, 0, 1, 2, 1, 2)).flatten(1, 2)
        for level, size in zip(value.split([h * w for h, w in sizes], 1), sizes, strict=True)
    ]
    table = torch.cat(levels, 1)  # (B, P', N, D)
    high, wide = (torch.tensor(side, dtype=x.dtype).unsqueeze(1) for side in zip(*sizes, strict=True))  # (V, 1)
    x, y = ((at + 1).clamp_(min=0).minimum(side + 1) for at, side in ((x, wide), (y, high)))  # in cells with the edge
    left, above = x.floor(), y.floor()
    to_right, down = x.sub_(left), y.sub_(above)
    starts = torch.tensor([0, *(level.shape[1] for level in levels[:-1])]).cumsum(0)[:, None]  # (V, 1)
    first = torch.arange(b)[:, None, None, None] * table.shape[1] + starts  # (B, 1, V, 1), in cells
    first = first[:, None] * n + torch.arange(n)[:, None, None]  # (B, 1, N, V, 1), in rows
    corner = above.mul_(wide + 3).add_(left).to(torch.int64 if table.numel() // d > 2**31 - 1 else torch.int32)
    corner = corner.mul_(n).add_(first.to(corner.dtype))  # of the cell above on the left
    below = (torch.tensor([w for _, w in sizes], dtype=corner.dtype)[:, None] + 3) * n
    rows = torch.stack([corner, corner + n, corner + below, corner + (below + n)], 3)  # (B, Q, N, 4, V, K)
    right = weights * to_right
    beside = weights - right
    low_right, low_left = right * down, beside * down
    shares = torch.stack([beside - low_left, right - low_right, low_left, low_right], 3)
    found = F.embedding_bag(
        rows.view(b * q * n, -1), table.view(-1, d), per_sample_weights=shares.view(b * q * n, -1), mode="sum"
    )
    return found.view(b, q, n * d)


class ReadyDeformable(nn.Module):
    """Multi-scale deformable attention; the places are made in float32 in every precision, as their last bits count."""

    def __init__(self, attention: DeformableAttention, precision: Precision) -> None:
        super().__init__()
        self.shape = (attention.heads, attention.levels, attention.points)
        self.value_proj = ready_linear(attention.value_proj, precision)
        self.output_proj = ready_linear(attention.output_proj, precision)
        self.places = ready_linear(_by_axis(attention), "fp32")

    def forward(self, query: Tensor, reference: Tensor, value: Tensor, sizes: Sequence[Size]) -> Tensor:
        """As `DeformableAttention.forward`."""
        x, y, scores = self.places(query).unflatten(2, (3, *self.shape)).unbind(2)  # each (B, Q, N, V, K)
        weights = scores.flatten(3).softmax(3).view(scores.shape)
        cells = torch.tensor([(w, h) for h, w in sizes], dtype=query.dtype)  # (V, 2)
        around = reference * cells - 0.5  # (B, Q, V, 2)
        x, y = (offset + around[:, :, None, :, None, axis] for axis, offset in enumerate((x, y)))
        values = self.value_proj(value).unflatten(2, (self.shape[0], -1))
        return self.output_proj(sum_of_rows(values, sizes, x, y, weights))


def ready_deformable(attention: DeformableAttention, precision: Precision) -> nn.Module:
    """The fast form of a large one: a small one samples faster as it is."""
    return ReadyDeformable(attention, precision) if pays(attention.value_proj) else attention


def _by_axis(attention: DeformableAttention) -> nn.Linear:
    """One Linear for the offsets to the right, the offsets downwards and the scores, one after another."""
    offsets, scores = attention.sampling_offsets, attention.attention_weights
    parts = [(offsets.weight[axis::2], offsets.bias[axis::2]) for axis in (0, 1)] + [(scores.weight, scores.bias)]
    weight, bias = (torch.cat(part) for part in zip(*parts, strict=True))
    return linear_of(weight, bias)
