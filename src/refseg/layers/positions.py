"""Fixed position codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_grid(size: tuple[int, int], channels: int, like: Tensor, temperature: float = 1e4) -> Tensor:
    """Sine position of every cell, normalised to the grid (DETR; Mask2Former's `normalize=True`).

    Args:
        size: (H, W) of the grid.
        channels: Width of the code, a multiple of 4: the first half encodes the row, the second half the column.
        like: What the code is added to, for its device and type.
        temperature: Base of the frequencies.

    Returns:
        (H * W, channels).
    """
    if channels % 4:
        raise ValueError(f"position code of width {channels}: the width must be a multiple of 4")
    device = like.device
    quarter = torch.arange(channels // 4, device=device, dtype=torch.float32)
    frequency = temperature ** (-2 * quarter / (channels // 2))

    def axis(length: int) -> Tensor:
        at = (torch.arange(length, device=device, dtype=torch.float32) + 1) / (length + 1e-6) * 2 * math.pi
        angle = at[:, None] * frequency
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)  # (length, channels / 2)

    h, w = size
    rows, columns = axis(h), axis(w)
    return _fitting(torch.cat([rows[:, None].expand(h, w, -1), columns[None].expand(h, w, -1)], -1).flatten(0, 1), like)


def sine_line(length: int, channels: int, like: Tensor) -> Tensor:
    """Sine position of every place in a row (Vaswani et al. 2017), not normalised to its length, as CRIS uses it.

    Args:
        length: Number of places.
        channels: Width of the code, a multiple of 2; sine and cosine of one frequency stand side by side.
        like: What the code is added to, for its device and type.

    Returns:
        (length, channels).

    Raises:
        ValueError: The width is odd.
    """
    if channels % 2:
        raise ValueError(f"position code of width {channels}: the width must be a multiple of 2")
    device = like.device
    frequency = 1e4 ** (-2 * torch.arange(channels // 2, device=device, dtype=torch.float32) / channels)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    return _fitting(torch.stack([angle.sin(), angle.cos()], -1).flatten(1), like)


def sine_plane(size: tuple[int, int], channels: int, like: Tensor) -> Tensor:
    """Sine position of every cell of a grid, not normalised to it, as CRIS uses it.

    Unlike `sine_grid`, the column comes first.

    Args:
        size: (H, W) of the grid.
        channels: Width of the code, a multiple of 4: the first half encodes the column, the second half the row.
        like: What the code is added to, for its device and type.

    Returns:
        (H * W, channels).

    Raises:
        ValueError: The width is no multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"position code of width {channels}: the width must be a multiple of 4")
    h, w = size
    rows, columns = sine_line(h, channels // 2, like), sine_line(w, channels // 2, like)
    return torch.cat([columns[None].expand(h, w, -1), rows[:, None].expand(h, w, -1)], -1).flatten(0, 1)


def _fitting(code: Tensor, like: Tensor) -> Tensor:
    """A code in the type of what it is added to; under autocast in float32, which the sum then has."""
    return code if torch.is_autocast_enabled(like.device.type) else code.to(like.dtype)
