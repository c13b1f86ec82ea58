"""How much memory a training step needs, told by a forward pass that computes shapes alone.

The network runs on tensors without values, and what autograd keeps for the way back is counted: every storage once,
parameters left out. Attention counts as a fused kernel keeps it, which GPUs have for all of it; without values no mask
can be looked into, so that pixels chosen by one count as if all were.

B images, T expressions, L words, N heads, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from refseg.methods import Segmenter, build_network
from refseg.presets.base import Preset
from refseg.training.recompute import BLOCKS, recompute_blocks
from refseg.training.step import Precision, Trainee
from refseg.types import Batch

# What is there besides tensors: a GPU's context and the workspaces of its libraries, or the interpreter and torch.
RUNTIME = 0.6e9
# Share of the activations that an allocator adds, since it rounds up and its gaps do not fit what comes next.
ROUNDING = 0.1
# The way back starts with everything kept, and holds the gradients of an operation's result and of its input.
GRADIENTS_IN_FLIGHT = 2
ADAMW_STATES = 2  # moving averages of the gradient and of its square, as large as the parameters


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one process needs for a training step.

    Attributes:
        weights: Parameters and buffers.
        gradients: Of the trained parameters.
        optimiser: AdamW's moving averages.
        averaging: The gradients once more, where they are averaged over several processes.
        activations_fixed: What the way back needs, whatever the number of images: weights in half precision.
        activations_per_image: What it needs of every image and its expressions.
        working_per_image: What comes on top for a moment.
    """

    weights: int
    gradients: int
    optimiser: int
    averaging: int
    activations_fixed: int
    activations_per_image: int
    working_per_image: int

    def total(self, images: int) -> int:
        """Bytes for a micro-batch of that many images, at the moment that needs most."""
        activations = self.activations_fixed + images * self.activations_per_image
        forward = (1 + ROUNDING) * activations + images * self.working_per_image
        # A step of the optimiser holds an intermediate result for every trained parameter, when activations are gone.
        return round(RUNTIME + self.held + max(forward, self.gradients))

    @property
    def held(self) -> int:
        """What stays from the first step to the last."""
        return self.weights + self.gradients + self.optimiser + self.averaging


def network_without_values(preset: Preset) -> Segmenter:
    """The preset's network on torch's meta device: parameters with names and shapes, and no memory."""
    with torch.device("meta"), _NumbersAreReal():
        return build_network(preset.method, preset.model, preset.name)


def step_memory(
    preset: Preset, processes: int = 1, precision: Precision = "fp32", gradient_checkpointing: bool = False
) -> StepMemory:
    """Estimates what a step needs, from forward passes of 2 and of 3 images with their expressions.

    Args:
        preset: What is trained; every image has `recipe.expressions_per_image` expressions of `input.max_tokens`.
        processes: How many train together.
        precision: What the network computes in.
        gradient_checkpointing: Whether the inside of blocks is computed again on the way back.
    """
    network = network_without_values(preset).train()
    held = sum(x.nbytes for x in [*network.parameters(), *network.buffers()])
    gradients = sum(x.nbytes for x in network.parameters() if x.requires_grad)
    mode = FakeTensorMode()
    _move(network, mode)
    trainee = Trainee(network, "cpu", precision)
    again = 0
    if gradient_checkpointing:
        again = _largest_block(trainee, preset, 2, mode) // 2
        recompute_blocks(network)
    two, three = (_forward(trainee, preset, images, mode) for images in (2, 3))
    per_image = three.bytes - two.bytes
    return StepMemory(
        weights=held,
        gradients=gradients,
        optimiser=ADAMW_STATES * gradients,
        averaging=gradients if processes > 1 else 0,
        activations_fixed=max(0, two.bytes - 2 * per_image),
        activations_per_image=per_image,
        working_per_image=again + GRADIENTS_IN_FLIGHT * three.largest // 3,
    )


class _NumbersAreReal(TorchFunctionMode):
    """While a network without values is built: series of numbers that Python reads are real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **({"device": "cpu"} | kwargs if func is torch.linspace else kwargs))


class _LikeCuda(TorchFunctionMode):
    """While tensors have no values: what a GPU does otherwise than a CPU, and what only values could tell."""

    FLOAT32 = (F.layer_norm, F.group_norm, F.softmax, torch.softmax, Tensor.softmax)  # under CUDA's autocast

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.nonzero:  # as many as there can be
            return torch.empty(args[0].numel(), args[0].dim(), dtype=torch.long)
        if func in self.FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        return func(*args, **kwargs)


class _FusedAttention(torch.autograd.Function):
    """Attention that keeps its inputs, its result and one number per row, as fused kernels do; it computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """(T, N, P, C) queries, (T, N, L, C) keys and values to (T, N, P, C)."""
        result = torch.empty(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
        rows = torch.empty(query.shape[:-1])
        ctx.save_for_backward(query, key, value, result, rows, *([] if mask is None else [mask]))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """There is no way back without values."""
        raise AssertionError


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any) -> Any:
    """Stands in for `scaled_dot_product_attention`."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    return _FusedAttention.apply(query, key, value, attn_mask)


class _Kept:
    """Counts the storages that autograd keeps."""

    def __init__(self, network: nn.Module) -> None:
        held = [*network.parameters(), *network.buffers()]
        self._held = {x.untyped_storage()._cdata for x in held}
        self._storages: dict[int, torch.UntypedStorage] = {}  # alive, so that no address is used twice

    def pack(self, x: Tensor) -> Tensor:
        """Takes note of a tensor that is kept."""
        storage = x.untyped_storage()
        if storage._cdata not in self._held:
            self._storages[storage._cdata] = storage
        return x

    @property
    def bytes(self) -> int:
        """Of all of them together."""
        return sum(storage.nbytes() for storage in self._storages.values())

    @property
    def largest(self) -> int:
        """Bytes of the largest."""
        return max((storage.nbytes() for storage in self._storages.values()), default=0)


def _move(network: nn.Module, mode: FakeTensorMode) -> None:
    """From the meta device, which some operations refuse, to tensors without values that say they are on a CPU."""
    with mode:
        for module in network.modules():
            for name, old in list(module.named_parameters(recurse=False)):
                new = torch.empty(old.shape, dtype=old.dtype)
                setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _forward(trainee: Trainee, preset: Preset, images: int, mode: FakeTensorMode, kept: _Kept | None = None) -> _Kept:
    """One forward pass with its loss; returns what the way back would need."""
    kept, each = kept or _Kept(trainee), preset.recipe.expressions_per_image
    asked, words, size = images * each, preset.input.max_tokens, preset.input.size
    with (
        mode,
        _LikeCuda(),
        _replaced(F, "scaled_dot_product_attention", _attention),
        torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x),
    ):
        trainee(
            Batch(
                pixels=torch.empty(images, 3, *size),
                tokens=torch.empty(asked, words, dtype=torch.long),
                token_mask=torch.ones(asked, words, dtype=torch.bool),
                image_index=torch.arange(asked) // each,
                targets=torch.empty(asked, *size, dtype=torch.bool),
            )
        )
    return kept


def _largest_block(trainee: Trainee, preset: Preset, images: int, mode: FakeTensorMode) -> int:
    """Most bytes that one of the blocks keeps inside, which are there again while the way back is in it."""
    kept, before, inside = _Kept(trainee), [0], [0]

    def enter(*_: Any) -> None:
        before.append(kept.bytes)

    def leave(*_: Any) -> None:
        inside.append(kept.bytes - before.pop())

    blocks = [module for module in trainee.modules() if isinstance(module, BLOCKS)]
    hooks = [hook for x in blocks for hook in (x.register_forward_pre_hook(enter), x.register_forward_hook(leave))]
    _forward(trainee, preset, images, mode, kept)
    for hook in hooks:
        hook.remove()
    return max(inside)


@contextmanager
def _replaced(owner: Any, name: str, by: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, before)
