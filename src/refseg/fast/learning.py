"""Linear layers that learn, by oneDNN: its products of floats are faster than those that torch's Linear asks for.

X rows, I input and O output channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from refseg.fast.linear import has_onednn, pays


class LearningLinear(nn.Linear):
    """A Linear in float32 whose products, but for that of its weights' gradient, are oneDNN's."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return self.product(x, self.weight, self.bias)

    @staticmethod
    def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `torch.nn.functional.linear`, for modules that put several layers together."""
        floats = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if floats and x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter) and torch.is_grad_enabled():
            found: Tensor = _Product.apply(x, weight, bias)
            return found
        return F.linear(x, weight, bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _by_onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])  # (X, O)
        return (
            _by_onednn(gradient, weight.t(), None) if for_x else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if for_weight else None,
            rows.sum(0) if ctx.biased and for_bias else None,
        )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def let_learn(network: nn.Module) -> None:
    """Gives every large Linear of a network on the CPU its form for training; names and parameters stay."""
    if not has_onednn():
        return
    for module in network.modules():
        if type(module) is nn.Linear and pays(module) and module.weight.device.type == "cpu":
            module.__class__ = LearningLinear
