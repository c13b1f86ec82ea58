"""Where a network computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pick_device(name: str | torch.device | None) -> torch.device:
    """The device of that name, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: There is no such device.
    """
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device {str(name)!r}: not available; cpu, cuda, cuda:N or mps is accepted") from error
    return device
