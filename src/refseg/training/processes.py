"""How many processes train together, and what they tell each other.

One process needs no library. Several are started by `accelerate launch` (or torchrun), one per GPU, on one machine or
on many, and talk through Hugging Face Accelerate.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import nn

from refseg.device import pick_device


class Processes:
    """One process, which has nobody to talk to.

    Attributes:
        rank: Number of this process.
        count: How many there are.
        device: Where its network is.
    """

    rank = 0
    count = 1

    def __init__(self, device: str | torch.device | None = None) -> None:
        """Takes a device; CUDA where there is one by default.

        Raises:
            ValueError: There is no such device.
        """
        self.device = pick_device(device)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, module: nn.Module, leaves_out: bool) -> nn.Module:
        """Averages the gradients of a module over the processes from now on.

        Args:
            module: With its parameters on the device.
            leaves_out: Whether some of its trainable parameters never have a gradient.
        """
        return module

    def alone(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Within it, gradients add up without being averaged over the processes."""
        return nullcontext()

    def agree(self, module: nn.Module) -> None:
        """Gives a module in every process the buffers of the first: running means, of which each has its own."""

    def total(self, values: Sequence[float]) -> list[float]:
        """The sum of every value over the processes, the same in all of them."""
        return [float(value) for value in values]

    def gather(self, thing: Any) -> list[Any]:
        """What every process has, in their order."""
        return [thing]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Takes leave of the others."""


class Launched(Processes):
    """One of several processes."""

    def __init__(self, device: str | torch.device | None = None) -> None:
        """Meets the others; `device` is "cpu", or the GPU that the launcher assigned to this process.

        Raises:
            ValueError: Accelerate is not installed, the device is not there, or Accelerate was configured for more than
                processes with a copy of the network each (FSDP, DeepSpeed).
        """
        try:
            from accelerate import Accelerator, DistributedType
        except ImportError as error:
            raise ValueError(
                f"{os.environ['WORLD_SIZE']} processes: they need Accelerate; pip install 'refseg[train]' is accepted"
            ) from error
        if device is not None and str(device) not in ("cpu", "cuda"):
            raise ValueError(f"device {str(device)!r}: each of several processes gets its own; cpu or cuda is accepted")
        cpu = pick_device(device).type == "cpu"
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="no")
        kind = self._accelerator.distributed_type
        if kind not in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
            raise ValueError(
                f"Accelerate is configured for {kind.value}; one process per GPU with a copy of the network each "
                "(--multi_gpu) is accepted"
            )
        self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device

    def share(self, module: nn.Module, leaves_out: bool) -> nn.Module:
        """See `Processes.share`; on GPUs the statistics of batch norms become those of the whole batch."""
        from accelerate import DistributedDataParallelKwargs

        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # of 1x1 convolutions; costs nothing
        self._accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=leaves_out)
        shared: nn.Module = self._accelerator.prepare_model(module)
        return shared

    def alone(self, module: nn.Module) -> AbstractContextManager[Any]:
        """See `Processes.alone`."""
        found: AbstractContextManager[Any] = self._accelerator.no_sync(module)
        return found

    def agree(self, module: nn.Module) -> None:
        """See `Processes.agree`."""
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)

    def total(self, values: Sequence[float]) -> list[float]:
        """See `Processes.total`."""
        kept = torch.tensor(values, dtype=torch.float64, device=self.device)
        summed: list[float] = self._accelerator.reduce(kept, "sum").tolist()
        return summed

    def gather(self, thing: Any) -> list[Any]:
        """See `Processes.gather`."""
        from accelerate.utils import gather_object

        return list(gather_object([thing]))

    def __exit__(self, *_: object) -> None:
        """See `Processes`."""
        self._accelerator.end_training()


def find_processes(device: str | torch.device | None = None) -> Processes:
    """The processes that the launcher started, which the environment variable WORLD_SIZE counts, or this one alone.

    Raises:
        ValueError: There is no such device, or several processes cannot talk.
    """
    return (Launched if int(os.environ.get("WORLD_SIZE") or 1) > 1 else Processes)(device)
