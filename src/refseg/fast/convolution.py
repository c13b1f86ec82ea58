"""3x3 convolutions that only answer, by Winograd's algorithm.

T maps, I input and O output channels, h and w sides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.fast.choice import Precision

LEAST = 64 * 64  # channels in times channels out; below, there is nothing to gain


class ReadyConv(nn.Module):
    """A 3x3 convolution with stride and padding 1 in float32 by NNPACK, which torch itself uses for large batches only.

    Winograd's algorithm needs a third of the products; its sums differ from a plain convolution's by some 1e-5 of the
    largest number. `weight` and `bias` are the convolution's own.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(T, I, h, w) to (T, O, h, w)."""
        if min(x.shape[2:]) < 8:  # tiles of NNPACK's larger algorithms
            return F.conv2d(x, self.weight, self.bias, padding=1)
        # One map at a time: for several NNPACK takes an algorithm for training, which is slower.
        done = [torch._nnpack_spatial_convolution(each, self.weight, self.bias, padding=1) for each in x.split(1)]
        return done[0] if len(done) == 1 else torch.cat(done)


def ready_conv(conv: nn.Conv2d, precision: Precision = "fp32") -> nn.Module:
    """The convolution as it answers fastest, which is float32 in every precision: Winograd's products are so few.

    Itself where it is of another kind, or torch was built without NNPACK.
    """
    plain = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.stride == conv.dilation == (1, 1)
    plain = plain and conv.groups == 1 and conv.padding_mode == "zeros" and conv.weight.dtype == torch.float32
    large = conv.in_channels * conv.out_channels >= LEAST
    return ReadyConv(conv) if plain and large and has_nnpack() else conv


def has_nnpack() -> bool:
    """Whether torch has NNPACK and this processor can run it."""
    return hasattr(torch, "_nnpack_available") and torch._nnpack_available()
