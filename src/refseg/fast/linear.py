"""Linear layers that only answer: float32, bfloat16 or 8 bits inside, float32 outside.

X rows, I input and O output channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.fast.choice import Precision

LEAST = 2**16  # weights; a smaller product is over before another precision pays
MIDDLE, STEPS = 128, 127  # of an unsigned byte: its zero, and steps to either side


class ReadyLinear(nn.Module):
    """A Linear in float32 by oneDNN, which is what torch's convolutions use; torch's Linear goes another way.

    `weight` and `bias` are those of the Linear itself, for modules that read them.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight: Tensor = linear.weight
        self.bias: Tensor | None = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) float32 to (..., O)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class HalfLinear(ReadyLinear):
    """A Linear whose product is made of bfloat16 numbers."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.half_weight = linear.weight.to(torch.bfloat16)
        self.half_bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) float32 to (..., O)."""
        return F.linear(x.to(torch.bfloat16), self.half_weight, self.half_bias).to(x.dtype)


class Int8Linear(ReadyLinear):
    """A Linear whose product is made of bytes: W8A8, without calibration.

    Every output channel of the weights has its own scale, and so has every row of the input when it comes (token-wise,
    as ZeroQuant, Yao et al. 2022): a row's answer does not depend on the rows beside it. The product is the one that
    torch's compiler makes of a quantised Linear.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        largest = linear.weight.detach().abs().amax(1)  # (O,)
        self.scales = torch.where(largest > 0, largest, 1.0) / STEPS
        steps = (linear.weight.detach() / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(steps, None)
        self.zeros = torch.zeros(len(largest), dtype=torch.long)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) float32 to (..., O)."""
        rows = x.reshape(-1, x.shape[-1])
        largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))  # (X, 1)
        step = largest.clamp_(min=1e-30).div_(STEPS)
        steps = (rows * step.reciprocal()).add_(MIDDLE + 0.5).to(torch.uint8)  # rounded, as all are above zero
        out = torch.ops.onednn.qlinear_pointwise(
            steps, 1.0, MIDDLE, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        out = out.mul_(step) if self.bias is None else torch.addcmul(self.bias, out, step, out=out)
        return out.view(*x.shape[:-1], -1)


KINDS = {"fp32": ReadyLinear, "bf16": HalfLinear, "int8": Int8Linear}


def ready_linear(linear: nn.Linear, precision: Precision) -> nn.Linear | ReadyLinear:
    """The layer as it answers fastest in a precision; itself where that would not pay, or where it is not float32."""
    if not pays(linear):
        return linear
    if precision == "fp32" and not has_onednn():
        return linear
    return KINDS[precision](linear)


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A Linear of (O, I) weights and (O) biases that are there, and do not learn."""
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight, made.bias = (nn.Parameter(each.detach(), requires_grad=False) for each in (weight, bias))
    return made


def pays(linear: nn.Linear) -> bool:
    """Whether its product is large enough for another form, and is one of float32."""
    return linear.weight.numel() >= LEAST and linear.weight.dtype == torch.float32


def has_onednn() -> bool:
    """Whether torch has oneDNN's products of floats, and they are not switched off."""
    there = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return there and hasattr(torch.ops.mkldnn, "_linear_pointwise")
