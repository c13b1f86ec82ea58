"""From the decoded map at stride 16 to masks at stride 4 (CRIS's projector; EAVL eq. 11-12; CRFormer).

T expressions, Q queries, C channels, h and w sides of the map.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.layers.neck import conv_norm_relu

UpsamplerStyle = Literal["printed", "single", "cris"]


def upsampler(dim: int, out: int, style: UpsamplerStyle) -> nn.Sequential:
    """Enlarges (T, dim, h, w) to (T, out, 4h, 4w).

    Args:
        dim: Channels of the map.
        out: Channels of the result.
        style: "printed" is EAVL's eq. 11: enlarge, a plain 3x3 convolution, enlarge; "single" has batch norm and ReLU
            behind that convolution, so that its output has no sign; "cris" convolves, with both, after each enlargement
            and ends in a plain 1x1 convolution.
    """

    def twice() -> nn.Upsample:
        return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    if style == "printed":
        return nn.Sequential(twice(), nn.Conv2d(dim, out, 3, padding=1), twice())
    if style == "single":
        return nn.Sequential(twice(), conv_norm_relu(dim, out, 3), twice())
    return nn.Sequential(
        twice(), conv_norm_relu(dim, dim, 3), twice(), conv_norm_relu(dim, out, 3), nn.Conv2d(out, out, 1)
    )


def dynamic_conv(features: Tensor, kernels: Tensor) -> Tensor:
    """Convolves every expression's features with its own kernels, 3x3 with a bias (CRIS; EAVL eq. 12).

    Args:
        features: (T, C, h, w).
        kernels: (T, Q, 9 * C + 1): the kernel (C, 3, 3) flattened, then its bias.

    Returns:
        (T, Q, h, w) log-odds.
    """
    (channels, height, width), queries = features.shape[1:], kernels.shape[1]
    # Every place of the kernels times every pixel, and then nine shifted maps added up: a grouped convolution would fix
    # the number of expressions in an exported program, and is ten times slower where there is one kernel.
    weight = kernels[..., :-1].unflatten(2, (channels, 9)).permute(0, 3, 1, 2).flatten(1, 2)  # (T, 9 * Q, C)
    products = (weight @ features.flatten(2)).unflatten(1, (9, queries)).unflatten(3, (height, width))
    padded = F.pad(products, (1, 1, 1, 1))  # (T, 9, Q, h + 2, w + 2)
    rows = [padded[:, place, :, place // 3 : place // 3 + height] for place in range(9)]
    shifted = [row[..., place % 3 : place % 3 + width] for place, row in enumerate(rows)]
    return torch.stack(shifted).sum(0) + kernels[..., -1, None, None]
