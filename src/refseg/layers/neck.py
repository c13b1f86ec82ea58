"""Fusion necks: three maps become one at stride 16, with or without the sentence.

One as EAVL and CRFormer print it, one as CRIS (Wang et al., CVPR 2022), their parent, has it.

B images, T expressions, J width of the sentence, g_h and g_w sides of the grid at stride 16.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Projected = tuple[Tensor, Tensor, Tensor]
NeckStyle = Literal["printed", "cris"]


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


def opened(gate: nn.Module | None, sentence: Tensor) -> Tensor:
    """What a neck's gate makes of (T, J) sentences: (T, C, 1, 1).

    Raises:
        ValueError: A neck without text got a sentence.
    """
    if gate is None:
        raise ValueError("this neck was built without text: pass None, not a sentence")
    return gate(sentence)[:, :, None, None]


class FusionNeck(nn.Module):
    """Joins strides 8, 16 and 32, deepest first.

    What does not depend on the text is `project`, so that an image is projected once for all its expressions.
    """

    def project(self, fine: Tensor, middle: Tensor, deep: Tensor) -> Projected:
        """What no sentence is needed for.

        Every side of `middle` is twice that of `deep`, and every side of `fine` twice that of `middle`.

        Args:
            fine: (B, C_2, ., .) at stride 8.
            middle: (B, C_3, g_h, g_w) at stride 16.
            deep: (B, C_4, ., .) at stride 32.

        Returns:
            The same at strides 16, 16 and 32, in the neck's widths.
        """
        raise NotImplementedError

    def forward(self, projected: Projected, sentence: Tensor | None) -> Tensor:
        """Joins the projected maps of T expressions, which may be those of one image repeated.

        Args:
            projected: What `project` returned, one row per expression.
            sentence: (T, J). None leaves the gate out, so that one neck may serve with and without text (EAVL eq. 6).

        Returns:
            (T, D, g_h, g_w).

        Raises:
            ValueError: A neck without text got a sentence, or a neck with text trains on a single one.
        """
        raise NotImplementedError


class PrintedNeck(FusionNeck):
    """EAVL's eq. 2-6 and CRFormer's eq. 3-6 in the order in which they are printed.

    The papers do not print kernels, norms and inner widths. Here a "W" is a 1x1 convolution to D channels, and
    every printed ReLU has a batch norm in front, as in CRIS. Eq. 4 and 5 (CRFormer's 5 and 6) have no ReLU and get
    neither; the last convolution is 3x3.

    Args:
        inputs: Channels of F_v2, F_v3 and F_v4.
        dim: D.
        sentence_dim: Width J of the sentence whose gate multiplies the deepest map; None builds a neck without text.
    """

    def __init__(self, inputs: tuple[int, int, int], dim: int, sentence_dim: int | None) -> None:
        super().__init__()
        self.v2, self.v3, self.v4 = (conv_norm_relu(channels, dim, 1) for channels in inputs)  # W_v2 to W_v4
        self.gate = None if sentence_dim is None else LinearNormReLU(sentence_dim, dim)  # W_tg
        self.m4, self.m3 = conv_norm_relu(dim, dim, 1), conv_norm_relu(2 * dim, dim, 1)  # W_m4, W_m3
        self.join = nn.Conv2d(5 * dim, dim, 1)
        self.place = nn.Conv2d(dim + 2, dim, 3, padding=1)

    def project(self, fine: Tensor, middle: Tensor, deep: Tensor) -> Projected:
        """As `FusionNeck.project`."""
        return self.v2(F.avg_pool2d(fine, 2)), self.v3(middle), self.v4(deep)

    def forward(self, projected: Projected, sentence: Tensor | None) -> Tensor:
        """As `FusionNeck.forward`."""
        v2, v3, v4 = projected
        m4 = double(v4 if sentence is None else v4 * opened(self.gate, sentence))
        m3 = torch.cat([self.m4(m4), v3], 1)
        m2 = torch.cat([self.m3(m3), v2], 1)
        return self.place(append_coordinates(self.join(torch.cat([m2, m3, m4], 1))))


class CrisNeck(FusionNeck):
    """CRIS's (sec. 3.2 and its code), whose additional convolutions EAVL and CRFormer do not print.

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

    def project(self, fine: Tensor, middle: Tensor, deep: Tensor) -> Projected:
        """As `FusionNeck.project`."""
        return F.avg_pool2d(self.first3(fine), 2), self.first4(middle), self.first5(deep)

    def forward(self, projected: Projected, sentence: Tensor | None) -> Tensor:
        """As `FusionNeck.forward`."""
        v3, v4, f5 = projected
        if sentence is not None:
            gate = opened(self.gate, sentence)
            f5 = self.gated(f5 * gate)
        f4 = self.join4(torch.cat([v4, double(f5)], 1))
        f3 = self.join3(torch.cat([v3, f4], 1))
        joined = self.join(torch.cat([self.last3(f3), self.last4(f4), double(self.last5(f5))], 1))
        return self.place(append_coordinates(joined))


def fusion_neck(
    style: NeckStyle, inputs: tuple[int, int, int], widths: tuple[int, int, int], sentence_dim: int | None
) -> FusionNeck:
    """The neck of a style; see the two classes for the arguments. The middle one of `widths` is D."""
    if style == "printed":
        return PrintedNeck(inputs, widths[1], sentence_dim)
    return CrisNeck(inputs, widths, sentence_dim)
