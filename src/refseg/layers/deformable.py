"""Multi-scale deformable attention (Zhu et al., Deformable DETR, eq. 3) in plain PyTorch.

B images, Q queries, P pixels of all levels together, N heads, V levels, K points, D = C / N channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


def deformable_attention(value: Tensor, sizes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    """Samples every level at the given places and adds the samples up.

    Args:
        value: (B, P, N, D), the levels one after another.
        sizes: (H, W) of each level.
        locations: (B, Q, N, V, K, 2) as (x, y) in [0, 1], 0 and 1 being the outer edges of the map.
        weights: (B, Q, N, V, K), adding up to 1 over V and K.

    Returns:
        (B, Q, N * D). Places outside the map count as zero.
    """
    b, _, n, d = value.shape
    q = locations.shape[1]
    # Points before queries: the long axis comes last, which is what makes the weighted sum fast on a CPU. What comes
    # from the module lies in memory like that, so that nothing is copied.
    grids = torch.add(locations.new_tensor(-1.0), locations, alpha=2).permute(3, 0, 2, 4, 1, 5)
    grids = grids.flatten(1, 2)  # (V, B*N, K, Q, 2)
    by_level = weights.permute(3, 0, 2, 4, 1).flatten(1, 2).unsqueeze(2)  # (V, B*N, 1, K, Q)
    out = value.new_zeros(b * n, d, q)
    for level, (x, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes, strict=True)):
        image = x.permute(0, 2, 3, 1).reshape(b * n, d, h, w)
        samples = F.grid_sample(image, grids[level], align_corners=False)  # (B*N, D, K, Q)
        out = out + (samples * by_level[level]).sum(2)
    return out.view(b, n * d, q).transpose(1, 2)


def reference_points(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """(P, 2) pixel centres (x, y) in [0, 1] of every level, one after another."""
    points = []
    for h, w in sizes:
        y = (torch.arange(h, device=device) + 0.5) / h
        x = (torch.arange(w, device=device) + 0.5) / w
        points.append(torch.stack([x[None, :].expand(h, w), y[:, None].expand(h, w)], -1).flatten(0, 1))
    return torch.cat(points)


class DeformableAttention(nn.Module):
    """Every query looks at a few learned places around its own on every level.

    Places are numbers between 0 and 1 whose last bits matter, so that this runs in float32 also under autocast, and in
    a network of half precision everything between its linear layers does.
    """

    def __init__(self, dim: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Offsets start on the compass directions, one step further per point; attention starts nearly uniform."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        compass = torch.stack([angle.cos(), angle.sin()], -1)
        compass = compass / compass.abs().amax(-1, keepdim=True)  # (N, 2)
        steps = torch.arange(1, self.points + 1)
        bias = compass[:, None, None, :] * steps[None, None, :, None]  # (N, 1, K, 2)
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).flatten())
            self.attention_weights.weight.normal_(std=0.01)  # at 0 the query would not learn in the first step
            self.attention_weights.bias.zero_()
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, reference: Tensor, value: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Attends.

        Args:
            query: (B, Q, C), position included.
            reference: (B, Q, V, 2) or what broadcasts to it, (x, y) in [0, 1].
            value: (B, P, C), the levels one after another.
            sizes: (H, W) of each level.

        Returns:
            (B, Q, C).
        """
        with torch.autocast(query.device.type, enabled=False):
            dtype = self.value_proj.weight.dtype
            exact = torch.promote_types(dtype, torch.float32)
            query, value = query.to(exact), value.to(dtype).to(exact)
            shape = (self.heads, self.levels, self.points)
            size = torch.tensor([(w, h) for h, w in sizes], device=query.device, dtype=exact)  # (V, 2)
            size = size[None, :, None].expand(*shape, 2).flatten()  # (N * V * K * 2), of every offset
            offsets = _channels_first(query, self.sampling_offsets, size).unflatten(1, (*shape, 2))
            locations = reference.permute(0, 2, 3, 1)[:, None, :, None] + offsets  # (B, N, V, K, 2, Q)
            scores = _channels_first(query, self.attention_weights).unflatten(1, (self.heads, -1))
            weights = scores.softmax(2).unflatten(2, shape[1:])  # (B, N, V, K, Q)
            heads = _channels_first(value, self.value_proj).unflatten(1, (self.heads, -1))  # (B, N, D, P)
            sampled = deformable_attention(
                heads.permute(0, 3, 1, 2), sizes, locations.permute(0, 5, 1, 2, 3, 4), weights.permute(0, 4, 1, 2, 3)
            )
            return self.output_proj(sampled.to(dtype))


def _channels_first(x: Tensor, linear: nn.Linear, over: Tensor | float = 1.0) -> Tensor:
    """What a Linear makes of (B, X, C), each of its D channels divided by `over`, channels first: (B, D, X)."""
    weight, bias = linear.weight.to(x.dtype), linear.bias.to(x.dtype) / over
    scaled = weight / (over.unsqueeze(1) if isinstance(over, Tensor) else over)
    return torch.baddbmm(bias[:, None], scaled.expand(x.shape[0], -1, -1), x.transpose(1, 2))
