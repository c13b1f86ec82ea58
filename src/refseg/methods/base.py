"""The one contract that every method fulfils.

B images, T expressions, L tokens, H and W network size, h and w size of the logits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from refseg.types import ImageFeatures, Output, TextFeatures


class Segmenter(nn.Module, ABC):
    """Image and expressions in, log-odds of the foreground out."""

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) normalised pixels to everything that does not depend on the text."""

    @abstractmethod
    def encode_text(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) token ids and their bool mask to words and sentences."""

    @abstractmethod
    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """Answers T expressions; `image_index` (T,) says which image each asks about."""

    @abstractmethod
    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Named terms whose sum is minimised; `targets` (T, H, W) bool at network size."""

    @abstractmethod
    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for AdamW with the rates and decays of the paper; frozen parameters are left out."""

    @property
    @abstractmethod
    def inert(self) -> dict[str, str]:
        """Trainable parameters that cannot learn in this configuration: pattern of the name to the reason.

        The contract test holds every other trainable parameter to a gradient, and these to none.
        """


def decay_groups(
    module: nn.Module, lr: float, weight_decay: float, undecayed: tuple[str, ...], within: str = ""
) -> list[dict[str, Any]]:
    """Two groups: parameters under the prefix `within` whose name contains one of `undecayed` are not decayed."""
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": lr, "weight_decay": weight_decay},
        {"params": [], "lr": lr, "weight_decay": 0.0},
    ]
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            free = name.startswith(within) and any(part in name for part in undecayed)
            groups[free]["params"].append(parameter)
    return [group for group in groups if group["params"]]
