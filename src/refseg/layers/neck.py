"""Fusion neck of CRIS (Wang et al., CVPR 2022): three maps become one at stride 16, with or without the sentence.

B images, T expressions, J width of the sentence, g_h and g_w sides of the grid at stride 16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Projected = tuple[Tensor, Tensor, Tensor]


def conv_norm_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without a bias that keeps the size, batch norm, ReLU; `kernel` is odd."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class SentenceNorm(nn.BatchNorm1d):
    """Batch norm of one vector per expression."""

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) to the same shape.

        Raises:
            ValueError: A single expression in training, which has no batch statistics.
        """
        if self.training and x.shape[0] < 2:
            raise ValueError(
                "1 expression in a training step: the batch norm over sentences needs at least 2; use larger batches"
            )
        return super().forward(x)


class LinearNormReLU(nn.Sequential):
    """Linear without a bias, batch norm, ReLU on one vector per expression: (T, J) to (T, C)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs, bias=False), SentenceNorm(outputs), nn.ReLU())


def check_widths(grid: tuple[int, int], widths: tuple[int, int, int], heads: int) -> None:
    """Refuses a neck on which no decoder with that many heads, and no query generation on that grid, can be built.

    Raises:
        ValueError: A number is not positive, or the middle width cannot be split.
    """
    if min(*grid, *widths, heads) < 1:
        raise ValueError(f"grid {grid}, neck {widths}, heads {heads}: positive numbers are accepted")
    if widths[1] % 4 or widths[1] % heads:
        raise ValueError(f"neck {widths}: its middle width must be a multiple of 4 and of {heads} heads")


def double(x: Tensor) -> Tensor:
    """(T, C, h, w) to (T, C, 2h, 2w), bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def append_coordinates(x: Tensor) -> Tensor:
    """(T, C, h, w) to (T, C + 2, h, w): x, then y, each from -1 at the first cell to 1 at the last."""
    t, _, h, w = x.shape
    columns = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).expand(t, 1, h, w)
    rows = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype)[:, None].expand(t, 1, h, w)
    return torch.cat([x, columns, rows], 1)


class FusionNeck(nn.Module):
    """Joins strides 8, 16 and 32, deepest first (CRIS sec. 3.2; EAVL eq. 2-6; CRFormer eq. 3-6).

    What does not depend on the text is `project`, so that an image is projected once for all its expressions.

    Args:
        inputs: Channels of the maps at strides 8, 16 and 32.
        widths: Channels they are projected to; the second is also the width of the output.
        sentence_dim: Width J of the sentence whose gate multiplies the deepest map; None builds a neck without text.
    """

    def __init__(self, inputs: tuple[int, int, int], widths: tuple[int, int, int], sentence_dim: int | None) -> None:
        super().__init__()
        fine, middle, deep = widths
        self.first3 = conv_norm_relu(inputs[0], fine, 3)
        self.first4 = conv_norm_relu(inputs[1], middle, 3)
        self.first5 = conv_norm_relu(inputs[2], deep, 1)
        self.gate = None
        if sentence_dim is not None:
            self.gate = LinearNormReLU(sentence_dim, deep)
            self.gated = nn.Sequential(nn.BatchNorm2d(deep), nn.ReLU())
        self.join4 = conv_norm_relu(middle + deep, middle, 1)
        self.join3 = conv_norm_relu(fine + middle, middle, 1)
        self.last3, self.last4 = conv_norm_relu(middle, middle, 3), conv_norm_relu(middle, middle, 3)
        self.last5 = conv_norm_relu(deep, middle, 3)
        self.join = conv_norm_relu(3 * middle, middle, 1)
        self.place = nn.Sequential(conv_norm_relu(middle + 2, middle, 3), conv_norm_relu(middle, middle, 3))

    def project(self, c3: Tensor, c4: Tensor, c5: Tensor) -> Projected:
        """Maps (B, C_i, h_i, w_i) at strides 8, 16 and 32 to v3, v4 at stride 16 and v5 at stride 32.

        Every side of `c4` is twice that of `c5`, and every side of `c3` twice that of `c4`.
        """
        return F.avg_pool2d(self.first3(c3), 2), self.first4(c4), self.first5(c5)

    def forward(self, projected: Projected, sentence: Tensor | None) -> Tensor:
        """Joins the projected maps of T expressions, which may be those of one image repeated.

        Args:
            projected: What `project` returned, one row per expression.
            sentence: (T, J). None leaves the gate out, so that one neck may serve with and without text (EAVL eq. 6).

        Returns:
            (T, widths[1], g_h, g_w).

        Raises:
            ValueError: A neck without text got a sentence, or a neck with text trains on a single one.
        """
        v3, v4, f5 = projected
        if sentence is not None:
            if self.gate is None:
                raise ValueError("this neck was built without text: pass None, not a sentence")
            f5 = self.gated(f5 * self.gate(sentence)[:, :, None, None])
        f4 = self.join4(torch.cat([v4, double(f5)], 1))
        f3 = self.join3(torch.cat([v3, f4], 1))
        joined = self.join(torch.cat([self.last3(f3), self.last4(f4), double(self.last5(f5))], 1))
        return self.place(append_coordinates(joined))
