"""From the decoded map at stride 16 to masks at stride 4 (CRIS's projector; EAVL eq. 11-12; CRFormer).

T expressions, Q queries, C channels, h and w sides of the map.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from refseg.layers.neck import conv_norm_relu

UpsamplerStyle = Literal["single", "cris"]


def upsampler(dim: int, out: int, style: UpsamplerStyle) -> nn.Sequential:
    """Enlarges (T, dim, h, w) to (T, out, 4h, 4w).

    Args:
        dim: Channels of the map.
        out: Channels of the result.
        style: "single" reads EAVL's eq. 11 as enlarge - convolve - enlarge; "cris" convolves after each enlargement
            and ends in a plain 1x1 convolution, whose output takes both signs.
    """

    def twice() -> nn.Upsample:
        return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

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
    t, c, h, w = features.shape
    q = kernels.shape[1]
    weight = kernels[..., :-1].reshape(t * q, c, 3, 3)
    bias = kernels[..., -1].reshape(t * q)
    # One group per expression: a single call instead of a loop over T.
    out = F.conv2d(features.reshape(1, t * c, h, w), weight, bias, padding=1, groups=t)  # (1, T*Q, h, w)
    return out.view(t, q, h, w)
