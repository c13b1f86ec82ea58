"""A network made ready to answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from torch import nn

from refseg.encoders.swin import SwinBlock
from refseg.fast.attention import ready_attention
from refseg.fast.choice import Precision
from refseg.fast.convolution import ready_conv
from refseg.fast.deformable import ready_deformable
from refseg.fast.learning import LearningLinear
from refseg.fast.linear import ready_linear
from refseg.fast.windows import ReadyBlock
from refseg.layers.deformable import DeformableAttention

Network = TypeVar("Network", bound=nn.Module)
Forms = Mapping[type, Callable[[Any, Precision], nn.Module]]

# What a layer of exactly that class becomes; itself where another form would not pay.
FORMS: Forms = {
    nn.Linear: ready_linear,
    LearningLinear: ready_linear,
    nn.Conv2d: ready_conv,
    nn.MultiheadAttention: ready_attention,
    SwinBlock: ReadyBlock,
    DeformableAttention: ready_deformable,
}


def prepared(network: Network, precision: Precision, forms: Forms = FORMS) -> Network:
    """A copy of a network on the CPU that only answers: no gradients, and no training afterwards.

    It shares the parameters with the network, which stays as it is, except for those that another form replaces.

    Args:
        network: Who answers; on the CPU. Its parts named in `exact`, if it has that, stay in fp32.
        precision: In which its large products are made.
        forms: What layers become.

    Returns:
        The copy, in evaluation mode.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    made = copy.deepcopy(network, shared).eval()
    _replace(made, precision, forms, getattr(network, "exact", ()))
    return made


def _replace(module: nn.Module, precision: Precision, forms: Forms, exact: Collection[str] = ()) -> None:
    """Puts another form of every layer that has one in its place, all the way down."""
    for name, child in module.named_children():
        own: Precision = "fp32" if name in exact else precision
        ready = forms[type(child)](child, own) if type(child) in forms else child
        if ready is child:
            _replace(child, own, forms)
        else:
            module._modules[name] = ready  # whatever kind of container holds it
