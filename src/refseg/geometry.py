"""Sides that are no multiple of a network's stride: pixels are padded, logits are cropped to what the image covers.

B images, T expressions, H and W network size, h and w size of the logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pad_to_multiple(pixels: Tensor, multiple: int) -> Tensor:
    """(B, 3, H, W) with zeros (the mean colour) at the right and bottom, so that `multiple` divides both sides."""
    import torch.nn.functional as F  # what `covered_by` is for goes without

    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % multiple, 0, -height % multiple))


def crop_logits(logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """(T, C, h, w) logits of a padded image at `stride` to those that cover the (H, W) it had before."""
    return logits[..., : -(-size[0] // stride), : -(-size[1] // stride)]


def covered_by(cells: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) in pixels that a map of (h, w) cells covers: `size`, or more where whole strides reach beyond it."""

    def covered(count: int, side: int) -> int:
        stride = -(-side // count)
        return stride * count if -(-side // stride) == count else side

    return covered(cells[0], size[0]), covered(cells[1], size[1])
