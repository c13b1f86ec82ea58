"""Switchable normalisation (Luo et al., ICLR 2019): a learned mixture of instance, layer and batch statistics.

N items, C channels, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from refseg.precision import at_least_float32


class SwitchNorm2d(nn.Module):
    """Normalises (N, C, H, W) by means and variances that are mixed from three kinds of statistics.

    Each mixture is the softmax of three learned numbers in the order instance, layer, batch. The instance's variance is
    the unbiased one, and the other two are built from it, as the authors have it. Everything is computed in float32.

    In evaluation only the batch statistics come from the buffers. Both start at 0, the variance too, and have the
    authors' shape (1, C, 1). In distributed training the batch statistics are those of one process.

    Args:
        channels: C.
        eps: Added to the mixed variance.
        momentum: Share of the old running statistics that an update keeps (0.9 is torch's 0.1).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.9) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(1, channels, 1))
        self.register_buffer("running_var", torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and dtype.

        Raises:
            ValueError: The maps have a single pixel, of which there is no variance.
        """
        if x.shape[2] * x.shape[3] < 2:
            raise ValueError(f"SwitchNorm2d of maps {tuple(x.shape)}: at least 2 pixels are needed")
        with torch.autocast(x.device.type, enabled=False):
            return self._normalise(at_least_float32(x)).to(x.dtype)

    def _normalise(self, x: Tensor) -> Tensor:
        var_instance, mean_instance = torch.var_mean(x.flatten(2), dim=2, keepdim=True)  # (N, C, 1), unbiased
        mean_layer, var_layer = _pool(mean_instance, var_instance, 1)  # (N, 1, 1)
        if self.training:
            mean_batch, var_batch = _pool(mean_instance, var_instance, 0)  # (1, C, 1)
            with torch.no_grad():
                self.running_mean.lerp_(mean_batch.to(self.running_mean.dtype), 1 - self.momentum)
                self.running_var.lerp_(var_batch.to(self.running_var.dtype), 1 - self.momentum)
        else:
            mean_batch, var_batch = self.running_mean.to(x.dtype), self.running_var.to(x.dtype)
        means, variances = at_least_float32(self.mean_weight).softmax(0), at_least_float32(self.var_weight).softmax(0)
        mean = means[0] * mean_instance + means[1] * mean_layer + means[2] * mean_batch  # (N, C, 1)
        variance = variances[0] * var_instance + variances[1] * var_layer + variances[2] * var_batch
        normal = (x - mean[..., None]) * (variance[..., None] + self.eps).rsqrt()
        return normal * self.weight + self.bias


def _pool(mean: Tensor, variance: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of all pixels along `dim` from those of the instances; never negative by rounding."""
    pooled = mean.mean(dim, keepdim=True)
    return pooled, (variance + (mean - pooled).square()).mean(dim, keepdim=True)
