"""In which precision a network answers, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS = ("auto", "fp32", "bf16", "int8")
LARGE = 30_000_000  # parameters; the products of a smaller network are not what its time goes into


@dataclass(frozen=True)
class Chosen:
    """A precision and the reason for it.

    Attributes:
        name: "fp32", "bf16" or "int8".
        why: In a few words, for whoever asked for "auto"; empty where the precision was asked for by name.
    """

    name: Precision
    why: str = ""

    def __str__(self) -> str:
        """The name, and the reason in brackets."""
        return f"{self.name} ({self.why})" if self.why else self.name


def check_precision(asked: str) -> None:
    """Refuses a name that means nothing.

    Raises:
        ValueError: It is none of `PRECISIONS`.
    """
    if asked not in PRECISIONS:
        raise ValueError(f"precision {asked!r}: unknown; accepted are {', '.join(PRECISIONS)}")


def choose_precision(asked: str, network: nn.Module, device: torch.device) -> Chosen:
    """The precision that a network answers in.

    "auto" is int8 for a network of at least 30 million parameters on a processor with instructions for it (x86 with
    VNNI), and fp32 everywhere else.

    Args:
        asked: One of `PRECISIONS`.
        network: Who answers.
        device: Where it computes.

    Raises:
        ValueError: The name is unknown, or the device cannot compute in it.
    """
    check_precision(asked)
    on_cpu = device.type == "cpu"
    if asked == "int8" and not (on_cpu and has_int8()):
        where = "this processor has no instructions for it" if on_cpu else f"{device.type} is not supported"
        raise ValueError(f"precision 'int8': {where}; auto, fp32 or bf16 is accepted")
    if asked == "bf16" and device.type not in ("cpu", "cuda"):
        raise ValueError(f"precision 'bf16': {device.type} is not supported; auto or fp32 is accepted")
    if asked != "auto":
        return Chosen(cast(Precision, asked))
    if not on_cpu:
        return Chosen("fp32", f"auto on {device.type}")
    if not has_int8():
        return Chosen("fp32", "auto: this processor has no int8 instructions")
    if not is_large(network):
        return Chosen("fp32", "auto: a small network")
    return Chosen("int8", "auto: a large network on a processor with int8 instructions")


def answers_alone(network: nn.Module, device: torch.device) -> bool:
    """Whether expressions go through a network one after another, and not several in one pass.

    On a CPU the products of one expression about one image are large enough in a large network, and the maps of several
    no longer fit its caches: one at a time is faster (`python -m benchmarks.expressions`) and needs less memory. A
    small network spends its time between the products.
    """
    return device.type == "cpu" and is_large(network)


def is_large(network: nn.Module) -> bool:
    """Whether its time goes into products."""
    return sum(parameter.numel() for parameter in network.parameters()) >= LARGE


def has_int8() -> bool:
    """Whether this processor multiplies bytes faster than floats, and torch has the product."""
    import torch

    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return known is not None and bool(known()) and hasattr(torch.ops.onednn, "qlinear_pointwise")
