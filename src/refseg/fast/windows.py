"""Swin's window attention with everything ready that depends on no pixel.

B images, nW windows, S pixels of a window, N heads, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.encoders.swin import WindowSelfAttention
from refseg.fast.choice import Precision
from refseg.fast.linear import ready_linear


class ReadyWindowAttention(nn.Module):
    """One projection for query, key and value, the position bias as it is added, and fused attention."""

    def __init__(self, attention: WindowSelfAttention, precision: Precision) -> None:
        super().__init__()
        self.heads = attention.heads
        parts = (attention.query, attention.key, attention.value)
        width = attention.query.in_features
        joined = nn.Linear(width, 3 * width, device="meta")
        joined.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]), requires_grad=False)
        joined.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]), requires_grad=False)
        self.project = ready_linear(joined, precision)
        index = attention.relative_position_index  # (S, S)
        bias = attention.relative_position_bias_table.detach()[index.flatten()]
        self.bias = bias.view(*index.shape, -1).permute(2, 0, 1).contiguous()[None]  # (1, N, S, S)
        self._masked: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B * nW, S, C) to the same shape; `mask` (nW, 1, S, S) is added to the scores."""
        added = self.bias if mask is None else self._with(mask)  # (1 or nW, N, S, S)
        q, k, v = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        each = x.shape[0] if mask is None else mask.shape[0]  # an image at a time: the mask is that of its windows
        parts = zip(q.split(each), k.split(each), v.split(each), strict=True)
        out = [F.scaled_dot_product_attention(*part, attn_mask=added) for part in parts]  # (nW, N, S, C / N)
        return (out[0] if len(out) == 1 else torch.cat(out)).transpose(1, 2).flatten(2)

    def _with(self, mask: Tensor) -> Tensor:
        """(nW, N, S, S) bias and mask, kept for the next image of the same size: `shift_mask` keeps its own too."""
        if self._masked is None or self._masked[0] is not mask:
            self._masked = mask, self.bias + mask
        return self._masked[1]
