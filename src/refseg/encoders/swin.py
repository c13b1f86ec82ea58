"""Swin Transformer (Liu et al., ICCV 2021) with a place for language between its blocks.

B images, P pixels of the current grid, C channels, N heads, S = window * window. Written here because fusion lives
between the blocks of this network; the parameters keep the names of the published Hugging Face checkpoints, so these
load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked

Size = tuple[int, int]
StageHook = Callable[[int, Tensor, Size], Tensor]


@dataclass(frozen=True)
class SwinConfig(Checked):
    """Shape of a Swin Transformer.

    Attributes:
        embed_dim: Channels of the first stage; every later stage doubles them.
        depths: Blocks per stage.
        heads: Attention heads per stage.
        window: Side of the attention window, in grid cells.
        patch: Side of a patch, in pixels.
        mlp_ratio: Hidden width of a block's MLP over its width.
        drop_path: Largest stochastic depth rate; it grows linearly from 0 over all blocks.
    """

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    patch: int
    mlp_ratio: float
    drop_path: float

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: Depths and heads are not of equally many stages.
        """
        super().__post_init__()
        if len(self.depths) != len(self.heads):
            raise ValueError(f"SwinConfig: depths {self.depths} with heads {self.heads}: one of each stage is accepted")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.embed_dim * 2**i for i in range(len(self.depths)))


class DropPath(nn.Module):
    """Drops a residual branch for whole samples (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, C) to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * (torch.rand(x.shape[0], 1, 1, device=x.device) < keep).to(x.dtype) / keep


def shift_mask(size: Size, window: int, shift: int, like: Tensor) -> Tensor:
    """(nW, 1, S, S) additive mask that keeps pixels apart that the cyclic shift brought together.

    It is kept for the next image of the same size, but not while a program is traced: the tensors of a trace have no
    values, and would spoil everything that is computed later.

    Args:
        size: (H, W) of the padded grid.
        window: Side of a window.
        shift: How far the grid was rolled.
        like: The pixels, for device and type.
    """
    traced = type(like) not in (Tensor, nn.Parameter) or torch.compiler.is_compiling()
    made = _shift_mask if traced else _kept_shift_mask
    return made(size, window, shift, like.device, like.dtype)


def _shift_mask(size: Size, window: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    regions = []
    for length in size:
        at = torch.arange(length, device=device)
        regions.append((at >= length - window).long() + (at >= length - shift).long())
    region = regions[0][:, None] * 3 + regions[1][None, :]  # (H, W)
    region = windows(region[None, :, :, None], window).squeeze(-1)  # (nW, S)
    return torch.where(region[:, None, :] == region[:, :, None], 0.0, -100.0).unsqueeze(1).to(dtype)


_kept_shift_mask = lru_cache(maxsize=64)(_shift_mask)


def windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) to (B * nW, S, C); H and W are multiples of `window`."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c)
    return x.transpose(2, 3).reshape(-1, window * window, c)


def unwindows(x: Tensor, window: int, size: Size) -> Tensor:
    """Inverse of `windows`: (B * nW, S, C) to (B, H, W, C)."""
    h, w = size
    x = x.view(-1, h // window, w // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(x.shape[0], h, w, x.shape[-1])


class WindowSelfAttention(nn.Module):
    """Multi-head self-attention inside a window with a learned relative position bias."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"Swin width {dim} with {heads} heads: the width must be a multiple of the heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)  # (2, S)
        offset = at[:, :, None] - at[:, None, :] + window - 1  # (2, S, S)
        self.register_buffer("relative_position_index", offset[0] * (2 * window - 1) + offset[1], persistent=False)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Weights (3C, C) and biases (3C) of one product for query, key and value, which read the same pixels."""
        parts = (self.query, self.key, self.value)
        return torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])

    def project(self, x: Tensor, size: Size, padding: tuple[int, int]) -> Tensor:
        """(B, P, C) on a grid of `size` to query, key and value on one with more rows and columns: (B, H', W', 3C).

        What is added is zero, and its projection the bias: only the pixels that are there are multiplied.
        """
        weight, bias = self.joined()
        product = getattr(self.query, "product", F.linear)  # a layer that learns may have another way
        if not any(padding):
            return product(x, weight, bias).unflatten(1, size)
        return F.pad(product(x, weight).unflatten(1, size), (0, 0, 0, padding[1], 0, padding[0])) + bias

    def forward(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """(B * nW, S, 3C) as `project` makes it to (B * nW, S, C); `mask` (nW, 1, S, S) is added to the scores."""
        b, s, c = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        qkv = qkv.view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, b * self.heads, s, -1).unbind(0)  # (B * nW * N, S, C / N)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(s, s, -1).permute(2, 0, 1)  # (N, S, S)
        if mask is not None:
            bias = bias + mask  # (nW, N, S, S)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)
        attention = (scores.view(-1, *bias.shape) + bias).softmax(-1).view_as(scores)
        return (attention @ v).view(b, self.heads, s, -1).transpose(1, 2).reshape(b, s, c)


class _Dense(nn.Module):
    """A Linear under the name `dense`, as the published checkpoints nest it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class SwinBlock(nn.Module):
    """One block: (shifted) window attention and an MLP, both residual and pre-norm."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        hidden = int(dim * mlp_ratio)
        self.layernorm_before = nn.LayerNorm(dim)
        self.attention = nn.ModuleDict({"self": WindowSelfAttention(dim, heads, window), "output": _Dense(dim, dim)})
        self.layernorm_after = nn.LayerNorm(dim)
        self.intermediate = _Dense(dim, hidden)
        self.output = _Dense(hidden, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, P, C) on a grid of `size` to the same shape."""
        x = x + self.drop_path(self.attend(self.layernorm_before(x), size))
        return x + self.drop_path(self.output(F.gelu(self.intermediate(self.layernorm_after(x)))))

    def attend(self, x: Tensor, size: Size) -> Tensor:
        """Window attention; the grid is zero-padded to whole windows, and padded cells are not masked."""
        (h, w), window, shift = size, self.window, self.shift
        attention = cast(WindowSelfAttention, self.attention["self"])
        x = attention.project(x, size, (-h % window, -w % window))  # (B, H', W', 3C)
        padded = (x.shape[1], x.shape[2])
        mask = None
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            mask = shift_mask(padded, window, shift, x)
        x = unwindows(attention(windows(x, window), mask), window, padded)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return self.attention["output"](x[:, :h, :w].flatten(1, 2))


class PatchMerging(nn.Module):
    """Halves the grid and doubles the channels; odd sides are zero-padded right and bottom."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, H * W, C) to (B, ceil(H/2) * ceil(W/2), 2C)."""
        x = F.pad(x.unflatten(1, size), (0, 0, 0, size[1] % 2, 0, size[0] % 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.reduction(self.norm(x.flatten(1, 2)))


class SwinStage(nn.Module):
    """The blocks of one stage and the patch merging behind them."""

    def __init__(self, config: SwinConfig, index: int) -> None:
        super().__init__()
        dim, depth, window = config.channels[index], config.depths[index], config.window
        before, last = sum(config.depths[:index]), max(1, sum(config.depths) - 1)
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim, config.heads[index], window, j % 2 * (window // 2), config.mlp_ratio,
                config.drop_path * (before + j) / last,  # rises from 0 at the first block of all
            )
            for j in range(depth)
        )  # fmt: skip
        self.downsample = PatchMerging(dim) if index + 1 < len(config.depths) else None


class _PatchEmbeddings(nn.Module):
    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, config.embed_dim, config.patch, config.patch)


class _Embeddings(nn.Module):
    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.patch_embeddings = _PatchEmbeddings(config)
        self.norm = nn.LayerNorm(config.embed_dim)


class _Encoder(nn.Module):
    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SwinStage(config, i) for i in range(len(config.depths)))


class Swin(nn.Module):
    """Swin Transformer.

    `hook(stage, x, size)` is called after the last block of a stage and before its patch merging, with x (B, P, C) on
    a grid of `size`; what it returns goes on. `embed` and `blocks` are the steps for those who need to stop in between.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.apply(_initialise)

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.encoder.layers)

    def _stage(self, stage: int) -> SwinStage:
        return cast(SwinStage, self.encoder.layers[stage])

    def embed(self, pixels: Tensor) -> tuple[Tensor, Size]:
        """(B, 3, H, W) to patches (B, P, C) and their grid; the image is zero-padded to whole patches."""
        h, w = pixels.shape[-2:]
        patch = self.config.patch
        x = self.embeddings.patch_embeddings.projection(F.pad(pixels, (0, -w % patch, 0, -h % patch)))
        size = (x.shape[2], x.shape[3])
        return self.embeddings.norm(x.flatten(2).transpose(1, 2)), size

    def blocks(self, stage: int, x: Tensor, size: Size) -> Tensor:
        """The blocks of one stage, without patch merging: (B, P, C) to the same shape."""
        for block in self._stage(stage).blocks:
            x = block(x, size)
        return x

    def merge(self, stage: int, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        """Patch merging behind a stage; the last stage has none and returns its input."""
        downsample = self._stage(stage).downsample
        if downsample is None:
            return x, size
        return downsample(x, size), ((size[0] + 1) // 2, (size[1] + 1) // 2)

    def forward(self, pixels: Tensor, hook: StageHook | None = None) -> list[Tensor]:
        """(B, 3, H, W) to one map (B, C_i, H_i, W_i) per stage, taken before patch merging, not normalised."""
        x, size = self.embed(pixels)
        maps = []
        for stage in range(self.stages):
            x = self.blocks(stage, x, size)
            if hook is not None:
                x = hook(stage, x, size)
            maps.append(x.transpose(1, 2).unflatten(2, size))
            x, size = self.merge(stage, x, size)
        return maps


def _initialise(module: nn.Module) -> None:
    """Truncated normal 0.02 for Linear layers and position biases, as in the Swin paper's code."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowSelfAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
