"""Queries made of words: what the image says about which words matter (EAVL sec. 3.2, CRFormer sec. 3.2).

T expressions, L words, Q queries, P cells of the configured grid, h and w sides of the map, D width of the queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


def fit_grid(maps: Tensor, grid: Size) -> Tensor:
    """(T, Q, h, w) to (T, Q, *grid), bilinear where they differ: a layer over all cells knows one grid only."""
    if maps.shape[-2:] == grid:
        return maps
    return F.interpolate(maps, grid, mode="bilinear", align_corners=False)


def attend_words(queries: Tensor, words: Tensor, mask: Tensor, scale: float) -> Tensor:
    """(T, Q, D) queries and (T, L, D) words, `mask` (T, L) True on real ones, to attention (T, Q, L) over the words.

    In float32 whatever comes in: sums of hundreds of non-negative products are too large for half precision.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries.float() @ words.float().transpose(1, 2) * scale
    return scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min).softmax(-1)


class QueryGeneration(nn.Module):
    """Each of Q maps weighs the words and gathers them into a query (EAVL eq. 9-10, CRFormer eq. 8-9).

    The papers print products with matrices, so the linear layers have no biases. Both factors of a score pass a ReLU:
    no score is negative and a word of score 0 still counts, which is why padding is masked before the softmax.

    Args:
        grid: (H, W) that the maps are resized to.
        word_dim: Width of the words.
        dim: Width D of the queries.
        scale: Whether scores are multiplied by D ** -0.5; not in the papers.
    """

    def __init__(self, grid: Size, word_dim: int, dim: int, scale: bool) -> None:
        super().__init__()
        self.grid, self.scale = grid, dim**-0.5 if scale else 1.0
        self.map_key = nn.Linear(grid[0] * grid[1], dim, bias=False)
        self.word_key = nn.Linear(word_dim, dim, bias=False)
        self.word_value = nn.Linear(word_dim, dim, bias=False)

    def forward(self, maps: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Makes the queries.

        Args:
            maps: (T, Q, h, w).
            words: (T, L, word_dim).
            mask: (T, L) bool, True on real words.

        Returns:
            The queries (T, Q, D) and the attention (T, Q, L) they were made with; its rows add up to 1 over the words.
        """
        cells = fit_grid(maps, self.grid).flatten(2)  # (T, Q, P)
        seen, known = F.relu(self.map_key(cells)), F.relu(self.word_key(words))  # (T, Q, D), (T, L, D)
        attention = attend_words(seen, known, mask, self.scale)
        return attention.to(words.dtype) @ F.relu(self.word_value(words)), attention
