"""CLIP's ModifiedResNet (Radford et al. 2021): three-convolution stem, average pools for strides, attention pool.

B images, P pixels of the stride-32 map, C channels, J joint width of the two towers. The parameters keep the names of
OpenAI's checkpoints (below their `visual.`), so these load unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked

STRIDE = 32  # of the last stage: the stem has 4, and three stages halve the map


@dataclass(frozen=True)
class ClipResNetConfig(Checked):
    """Shape of a ModifiedResNet.

    Attributes:
        layers: Blocks of each of the four stages.
        width: Channels of the stem; the stages have 4, 8, 16 and 32 times as many.
        heads: Attention heads of the attention pool.
        joint: Width J of what the attention pool returns.
        grid: Side of the grid that the pool's position table was trained on (7 for 224 pixels).
    """

    layers: tuple[int, int, int, int]
    width: int
    heads: int
    joint: int
    grid: int

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the four stages."""
        return self.width * 4, self.width * 8, self.width * 16, self.width * 32


@dataclass(frozen=True, eq=False)
class ResNetMaps:
    """What a ModifiedResNet returns.

    Attributes:
        stages: Four maps (B, C_i, H_i, W_i) at strides 4, 8, 16, 32, before the attention pool.
        spatial: (B, J, H/32, W/32), the attention pool's answer at every pixel; None without the pool.
        pooled: (B, J), its answer for the mean pixel; None without the pool.
    """

    stages: tuple[Tensor, Tensor, Tensor, Tensor]
    spatial: Tensor | None
    pooled: Tensor | None


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; every stride is an average pool, no convolution skips pixels."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride > 1:  # the published names; its pool has none, for it has no parameters
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 * width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.pool(y)))
        return F.relu(y + self.downsample(self.pool(x)))


def positions_for(table: Tensor, size: tuple[int, int]) -> Tensor:
    """A table of places (1 + grid * grid, C), the mean's first, for a map of `size`: resized bicubically."""
    side = isqrt(len(table) - 1)
    if size == (side, side):
        return table
    grid = table[1:].unflatten(0, (side, side)).permute(2, 0, 1)[None]  # (1, C, grid, grid)
    grid = F.interpolate(grid, size, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


class AttentionPool(nn.Module):
    """Self-attention of the last map and its mean, with one learned vector per position.

    OpenAI's pool reads the answer for the mean alone. Here all positions ask, so that every pixel has an answer in the
    joint space, too; the mean stays among the keys and values, as it was when the pool was trained.
    """

    def __init__(self, dim: int, heads: int, joint: int, grid: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention pool of {dim} channels with {heads} heads: it must be a multiple of the heads")
        self.heads, self.grid = heads, grid
        self.positional_embedding = nn.Parameter(torch.randn(grid * grid + 1, dim) * dim**-0.5)
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.c_proj = nn.Linear(dim, joint)

    def positions(self, size: tuple[int, int]) -> Tensor:
        """(1 + P, C): the mean's row, then the grid's, for a map of another `size`."""
        return positions_for(self.positional_embedding, size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to the answers at every pixel (B, J, H, W) and for the mean (B, J); nothing is normalised."""
        size = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)  # (B, P, C)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positions(size)  # (B, 1 + P, C)
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        x = self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # (B, 1 + P, J)
        return x[:, 1:].transpose(1, 2).unflatten(2, size), x[:, 0]


class ClipResNet(nn.Module):
    """CLIP's convolutional image tower."""

    def __init__(self, config: ClipResNetConfig, pool: bool = True) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(0, width)
        self.layer2 = self._stage(1, config.channels[0])
        self.layer3 = self._stage(2, config.channels[1])
        self.layer4 = self._stage(3, config.channels[2])
        self.attnpool = None
        if pool:
            self.attnpool = AttentionPool(config.channels[3], config.heads, config.joint, config.grid)

    def _stage(self, index: int, inputs: int) -> nn.Sequential:
        outputs = self.config.channels[index]
        first = Bottleneck(inputs, outputs // 4, 2 if index else 1)
        rest = [Bottleneck(outputs, outputs // 4, 1) for _ in range(self.config.layers[index] - 1)]
        return nn.Sequential(first, *rest)

    @property
    def inert(self) -> dict[str, str]:
        """Names below this module of parameters that cannot learn, with the reason."""
        return {"attnpool.k_proj.bias": "adds the same to all scores of a softmax"} if self.attnpool is not None else {}

    def forward(self, pixels: Tensor) -> ResNetMaps:
        """(B, 3, H, W) pixels to the maps of all stages and the attention pool's answers.

        Raises:
            ValueError: A side is no multiple of 32. The pools would drop its last rows or columns, and whoever enlarges
                the maps again would stretch the rest over the whole image.
        """
        h, w = pixels.shape[2:]
        if h % STRIDE or w % STRIDE or not h or not w:
            raise ValueError(f"pixels of {h}x{w}: CLIP's ResNet reads sides that are multiples of {STRIDE}")
        x = pixels
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(convolution(x)))
        c2 = self.layer1(F.avg_pool2d(x, 2))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        spatial, pooled = (None, None) if self.attnpool is None else self.attnpool(c5)
        return ResNetMaps((c2, c3, c4, c5), spatial, pooled)
