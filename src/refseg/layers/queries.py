"""Queries made of words: what the image says about which words matter (EAVL sec. 3.2, CRFormer sec. 3.2).

T expressions, L words, Q queries, P cells of the configured grid, h and w sides of the map, D width of the queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.layers.fusion import instance_norm
from refseg.layers.neck import conv_norm_relu
from refseg.layers.positions import sine_line, sine_plane
from refseg.precision import at_least_float32

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
        scores = at_least_float32(queries) @ at_least_float32(words).transpose(1, 2) * scale
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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scores start about as far apart as words and maps are, so that no two queries are the same mixture."""
        nn.init.kaiming_normal_(self.word_key.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.word_value.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.map_key.weight, nonlinearity="relu")
        with torch.no_grad():  # of about 4 apart for words of the size 1, whether or not eq. 9 itself has a scale
            self.map_key.weight *= 4 * self.map_key.out_features**-0.5 / self.scale

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


@dataclass(frozen=True)
class Generated:
    """What a query generation module returns.

    Attributes:
        queries: (T, Q, D).
        attention: (T, Q, L) which words each query is made of.
        maps: (T, Q, g_h, g_w) F_c, what each query asks with.
    """

    queries: Tensor
    attention: Tensor
    maps: Tensor


class MapQueries(nn.Module):
    """CRFormer's query generation as printed: a 3x3 convolution draws a map per query (eq. 7), eq. 8-9 do the rest.

    Args:
        dim: Width D of pixels and queries.
        grid: (g_h, g_w) at the configured size.
        num_queries: Q.
        word_dim: Width J of the words.
        scaled: Whether scores are divided by the root of D.
        positions: Whether the words carry a sine code, as they do inside the decoder (sec. 3.3).
    """

    def __init__(
        self, dim: int, grid: tuple[int, int], num_queries: int, word_dim: int, scaled: bool, positions: bool
    ) -> None:
        super().__init__()
        self.positions = positions
        self.draw = nn.Conv2d(dim, num_queries, 3, padding=1)
        self.generate = QueryGeneration(grid, word_dim, dim, scaled)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Generated:
        """(T, D, g_h, g_w) pixels and (T, L, J) words, `mask` (T, L) True on real ones, to Q queries."""
        if self.positions:
            words = words + sine_line(words.shape[1], words.shape[2], words)
        maps = self.draw(pixels)
        queries, attention = self.generate(maps, words, mask)
        return Generated(queries, attention, maps)


class ReleasedMapQueries(nn.Module):
    """Query generation as released: positions inside, no ReLU on the factors of a score, normalised over the queries.

    No layer between the words and the queries has a bias: behind a softmax over words or a norm over queries it would
    have no effect.
    """

    def __init__(self, dim: int, grid: tuple[int, int], num_queries: int, word_dim: int, scaled: bool) -> None:
        super().__init__()
        self.grid, self.scale = grid, dim**-0.5 if scaled else 1.0
        self.draw = conv_norm_relu(dim, num_queries, 3)
        self.word_in = nn.Linear(word_dim, dim)
        self.query = nn.Linear(grid[0] * grid[1], dim, bias=False)
        self.key, self.value = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Generated:
        """(T, D, g_h, g_w) pixels and (T, L, J) words, `mask` (T, L) True on real ones, to Q queries."""
        maps = self.draw(pixels)
        cells = fit_grid(maps, self.grid).flatten(2)  # (T, Q, P)
        cells = cells + sine_plane(self.grid, cells.shape[1], cells).T  # one channel of the code per query
        known = F.relu(self.word_in(words))  # (T, L, D)
        known = known + sine_line(known.shape[1], known.shape[2], known)
        query = instance_norm(self.query(cells))  # (T, Q, D), over the queries
        attention = attend_words(query, self.key(known), mask, self.scale)  # (T, Q, L)
        read = self.out(attention.to(known.dtype) @ self.value(known))
        return Generated(instance_norm(read), attention, maps)
