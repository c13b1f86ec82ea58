"""A block of Swin with everything ready that depends on no pixel.

B images, P pixels of the grid, nW windows, S pixels of a window, N heads, C channels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.encoders.swin import Size, SwinBlock, WindowSelfAttention, shift_mask, windows
from refseg.fast.choice import Precision
from refseg.fast.linear import linear_of, ready_linear


class ReadyBlock(nn.Module):
    """One projection for query, key and value of the real pixels alone, one copy into windows and one back.

    What pads the grid to whole windows is zero, and its projection the bias: one more row, which is computed once.
    The position bias is kept as it is added, and scores, softmax and sum are one fused attention.
    """

    def __init__(self, block: SwinBlock, precision: Precision) -> None:
        super().__init__()
        attention = cast(WindowSelfAttention, block.attention["self"])
        self.heads, self.window, self.shift = attention.heads, block.window, block.shift
        self.layernorm_before, self.layernorm_after = block.layernorm_before, block.layernorm_after
        self.project = ready_linear(linear_of(*attention.joined()), precision)
        self.out = ready_linear(cast(nn.Linear, block.attention["output"].dense), precision)
        self.expand = ready_linear(block.intermediate.dense, precision)
        self.contract = ready_linear(block.output.dense, precision)
        index = attention.relative_position_index  # (S, S)
        bias = attention.relative_position_bias_table.detach()[index.flatten()]
        self.bias = bias.view(*index.shape, -1).permute(2, 0, 1).contiguous()[None]  # (1, N, S, S)
        self._masked: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, P, C) on a grid of `size` to the same shape."""
        x = x + self.out(self.attend(self.layernorm_before(x), size))
        return x + self.contract(F.gelu(self.expand(self.layernorm_after(x))))

    def attend(self, x: Tensor, size: Size) -> Tensor:
        """(B, P, C) pixels to what each gathered in its window, the same shape."""
        padded = (size[0] + -size[0] % self.window, size[1] + -size[1] % self.window)
        if padded != size:
            x = F.pad(x, (0, 0, 0, 1))
        into, back = window_order(size, self.window, self.shift)
        cells = self.project(x).index_select(1, into)  # (B, nW * S, 3C)
        split = cells.view(-1, self.window**2, 3, self.heads, x.shape[2] // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = (part.chunk(x.shape[0]) for part in split.unbind(0))  # each (nW, N, S, C / N), an image at a time
        added = self._with(shift_mask(padded, self.window, self.shift, x)) if self.shift else self.bias
        read = [F.scaled_dot_product_attention(a, b, c, attn_mask=added) for a, b, c in zip(q, k, v, strict=True)]
        found = (read[0] if len(read) == 1 else torch.cat(read)).transpose(1, 2).reshape(x.shape[0], -1, x.shape[2])
        return found.index_select(1, back)

    def _with(self, mask: Tensor) -> Tensor:
        """(nW, N, S, S) bias and mask, kept for the next image of the same size: `shift_mask` keeps its own too."""
        kept = self._masked  # another thread may have an image of another size at the same time
        if kept is None or kept[0] is not mask:
            kept = self._masked = mask, self.bias + mask
        return kept[1]


@lru_cache(maxsize=64)
def window_order(size: Size, window: int, shift: int) -> tuple[Tensor, Tensor]:
    """Which pixel every cell of every (shifted) window is, and which cell every pixel.

    Returns:
        (nW * S) numbers of pixels, P standing for what pads the grid; and (P) numbers of cells.
    """
    (h, w), pixels = size, size[0] * size[1]
    grid = F.pad(torch.arange(pixels).view(h, w), (0, -w % window, 0, -h % window), value=pixels)
    grid = grid.roll((-shift, -shift), (0, 1))
    into = windows(grid[None, :, :, None], window).flatten()
    back = torch.empty(pixels + 1, dtype=torch.long)
    back[into] = torch.arange(len(into))
    return into, back[:pixels]
