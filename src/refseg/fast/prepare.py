"""A network made ready to answer."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TypeVar

from torch import nn

from refseg.encoders.swin import SwinBlock
from refseg.fast.attention import ReadyAttention, can_be_ready
from refseg.fast.choice import Precision
from refseg.fast.convolution import ready_conv
from refseg.fast.deformable import ReadyDeformable
from refseg.fast.linear import pays, ready_linear
from refseg.fast.windows import ReadyBlock
from refseg.layers.deformable import DeformableAttention

Network = TypeVar("Network", bound=nn.Module)


def prepared(network: Network, precision: Precision) -> Network:
    """A copy of a network on the CPU that only answers: no gradients, and no training afterwards.

    It shares the parameters with the network, which stays as it is, except for those that another form replaces.

    Args:
        network: Who answers; on the CPU.
        precision: In which its large products are made.

    Returns:
        The copy, in evaluation mode.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    made = copy.deepcopy(network, shared).eval()
    _replace(made, precision, getattr(network, "exact", ()))
    return made


def _replace(module: nn.Module, precision: Precision, exact: Collection[str] = ()) -> None:
    """Puts the fast form of every layer that has one in its place, all the way down; of the parts `exact` in fp32."""
    for name, child in module.named_children():
        own: Precision = "fp32" if name in exact else precision
        ready = _ready(child, own)
        if ready is child:
            _replace(child, own)
        else:
            module._modules[name] = ready  # whatever kind of container holds it


def _ready(layer: nn.Module, precision: Precision) -> nn.Module:
    """The fast form of a layer; itself where there is none."""
    if type(layer) is nn.Linear:
        return ready_linear(layer, precision)
    if type(layer) is nn.Conv2d:
        return ready_conv(layer)
    if type(layer) is SwinBlock:
        return ReadyBlock(layer, precision)
    if type(layer) is DeformableAttention and pays(layer.value_proj):
        return ReadyDeformable(layer, precision)
    if type(layer) is nn.MultiheadAttention and can_be_ready(layer) and pays(layer.out_proj):
        return ReadyAttention(layer, precision)
    return layer
