"""Gradient checkpointing (Chen et al. 2016): blocks keep their input and compute their inside again on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from refseg.encoders.bert import BertLayer
from refseg.encoders.clip import ClipLayer
from refseg.encoders.clip_resnet import Bottleneck
from refseg.encoders.swin import SwinBlock
from refseg.layers.fusion import PWAM, VLBA, VLF
from refseg.layers.pixel_decoder import PixelDecoderLayer
from refseg.layers.pixel_transformer import PixelTransformerLayer
from refseg.layers.prototype import PrototypeLayer
from refseg.layers.switch_norm import SwitchNorm2d
from refseg.methods.jmceln import Stage

# What repeats in an encoder or a decoder. Their inside is most of what a network keeps for the way back.
BLOCKS = (
    BertLayer, ClipLayer, Bottleneck, SwinBlock, PWAM, VLBA, VLF, PixelDecoderLayer, PixelTransformerLayer,
    PrototypeLayer, Stage,
)  # fmt: skip


def recompute_blocks(network: nn.Module) -> int:
    """Makes every block of a network keep its input alone in training; its gradients stay the same.

    Args:
        network: Changed in place; parameters and buffers keep their names.

    Returns:
        How many blocks there are.
    """
    blocks = [module for module in network.modules() if isinstance(module, BLOCKS)]
    for block in blocks:
        cast(Any, block).forward = partial(_keep_input, block, block.forward)
    return len(blocks)


def _keep_input(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not block.training:
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unchanged_statistics(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _unchanged_statistics(block: nn.Module) -> Iterator[None]:
    """The second pass over the same batch must not enter the running means of batch norms once more."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm | SwitchNorm2d)]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)
