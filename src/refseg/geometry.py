"""Sides that are no multiple of a network's stride: pixels are padded, logits are cropped to what the image covers.

B images, T expressions, H and W network size, h and w size of the logits.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(pixels: Tensor, multiple: int) -> Tensor:
    """(B, 3, H, W) with zeros (the mean colour) at the right and bottom, so that `multiple` divides both sides."""
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % multiple, 0, -height % multiple))


def crop_logits(logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """(T, C, h, w) logits of a padded image at `stride` to those that cover the (H, W) it had before."""
    return logits[..., : -(-size[0] // stride), : -(-size[1] // stride)]


def covered_by(cells: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) in pixels that a map of (h, w) whole cells covers: `size`, or more where the stride does not divide it."""
    height, width = (
        side if count >= side else -(-side // count) * count for side, count in zip(size, cells, strict=True)
    )
    return height, width
