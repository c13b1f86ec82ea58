"""In which precision numbers are added up."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32, or as it is where that would cost it bits: half precision is too coarse for sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
