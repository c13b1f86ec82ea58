"""Transformer decoder that turns queries into prototypes of the mask (AlignFormer sec. 3.2, LGFormer sec. 3.2.2).

T expressions, Q queries of width D, P_i pixels of level i with C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.layers.attention import FeedForward
from refseg.layers.positions import sine_grid

Size = tuple[int, int]


@dataclass(frozen=True)
class PrototypeConfig(Checked):
    """Shape of the prototype generator.

    Attributes:
        layers: Number of layers; layer i reads level i mod 3 of strides 32, 16, 8.
        heads: Attention heads.
        ffn: Hidden width of the feed-forward networks.
        self_attention: Whether the queries also attend to each other. Without effect worth its cost for one query.
    """

    layers: int
    heads: int
    ffn: int
    self_attention: bool


def prototype_head(dim: int, width: int) -> nn.Sequential:
    """The three-layer MLP that turns a query of width `dim` into a prototype of width `width`."""
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, width))


def prototype_similarity(prototypes: Tensor, pixels: Tensor) -> Tensor:
    """Cosine of (T, Q, C) prototypes and the features (T, C, h, w) of every pixel: (T, Q, h, w) in [-1, 1]."""
    return torch.einsum("tqc,tchw->tqhw", F.normalize(prototypes, dim=2), F.normalize(pixels, dim=1))


class PrototypeLayer(nn.Module):
    """Attention of the queries to one level, then among themselves if asked, then a feed-forward network; post-norm."""

    def __init__(self, config: PrototypeConfig, dim: int, width: int) -> None:
        super().__init__()
        self.cross = nn.MultiheadAttention(dim, config.heads, kdim=width, vdim=width, batch_first=True)
        self.cross_norm = nn.LayerNorm(dim)
        self.attend_self = None
        if config.self_attention:
            self.attend_self = nn.MultiheadAttention(dim, config.heads, batch_first=True)
            self.self_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, config.ffn)

    def forward(self, query: Tensor, query_position: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(T, Q, D) queries read (T, P, C) keys and values."""
        query = self.cross_norm(query + self.cross(query + query_position, key, value, need_weights=False)[0])
        if self.attend_self is not None:
            at = query + query_position
            query = self.self_norm(query + self.attend_self(at, at, query, need_weights=False)[0])
        return self.ffn(query)


class PrototypeGenerator(nn.Module):
    """Lets queries of width `dim` look at the decoded pixels of width `width`, coarse to fine and again."""

    def __init__(self, config: PrototypeConfig, queries: int, dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(PrototypeLayer(config, dim, width) for _ in range(config.layers))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.query_position = nn.Parameter(torch.randn(queries, dim))
        self.level_embedding = nn.Parameter(torch.randn(3, width))

    def forward(self, query: Tensor, levels: list[Tensor], sizes: list[Size]) -> list[Tensor]:
        """(T, Q, D) queries to the list of the queries after every layer."""
        states = []
        for i, layer in enumerate(self.layers):
            level = i % len(levels)
            value = levels[level] + self.level_embedding[level]
            query = layer(query, self.query_position, value + sine_grid(sizes[level], self.width, value), value)
            states.append(query)
        return states
