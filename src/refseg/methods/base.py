"""The one contract that every method fulfils.

B images, T expressions, L tokens, H and W network size, h and w size of the logits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from refseg.encoders.bert import Bert
from refseg.encoders.clip import ClipResNet, ClipText, ClipViT
from refseg.layers.fused_swin import FusedSwin
from refseg.types import ImageFeatures, Output, TextFeatures


class Segmenter(nn.Module, ABC):
    """Image and expressions in, log-odds of the foreground out.

    A subclass builds `text_encoder`, whose config says how many `vocab` entries and `positions` it has, and `encoder`.
    """

    text_encoder: Bert | ClipText
    encoder: FusedSwin | ClipResNet | ClipViT
    # Parts that a predictor leaves in float32 whatever its precision: there are few words, and they decide much.
    exact: tuple[str, ...] = ("text_encoder",)

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) normalised pixels to everything that does not depend on the text."""

    def encode_text(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) token ids and their bool mask to words (T, L, D) and, from CLIP, the projected sentence (T, J)."""
        return self.text_encoder(tokens, mask)

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
    def max_tokens(self) -> int:
        """The longest sentence that every part of the method reads, in tokens."""
        return self.text_encoder.config.positions

    @property
    def inert(self) -> dict[str, str]:
        """Trainable parameters that cannot learn in this configuration: pattern of the name to the reason.

        The contract test holds every other trainable parameter to a gradient, and these to none. Here are those of the
        two encoders; a subclass adds its own.
        """
        parts = {"encoder": self.encoder.inert, "text_encoder": self.text_encoder.inert}
        return {f"{part}.{name}": reason for part, found in parts.items() for name, reason in found.items()}


class SwinBertSegmenter(Segmenter):
    """What the methods share whose words meet the pixels in the stages of a Swin (LAVT and its heirs)."""

    text_encoder: Bert
    encoder: FusedSwin

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to the first Swin stage; the words enter right behind it."""
        return self.encoder.encode_image(pixels)

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """LAVT's recipe: one rate; norms and position biases of the vision encoder are not decayed."""
        groups: list[dict[str, Any]] = [
            {"params": [], "lr": lr, "weight_decay": weight_decay},
            {"params": [], "lr": lr, "weight_decay": 0.0},
        ]
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                undecayed = any(part in name for part in ("norm", "relative_position_bias_table"))
                groups[name.startswith("encoder.") and undecayed]["params"].append(parameter)
        return [group for group in groups if group["params"]]


class ClipSegmenter(Segmenter):
    """What the methods share that start from the two towers of CLIP (EAVL, JMCELN).

    Attributes:
        head_lr_mult: How much faster than the two towers everything else learns.
    """

    text_encoder: ClipText
    encoder: ClipResNet | ClipViT
    head_lr_mult: float

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The towers at `lr`, the rest at `lr * head_lr_mult`; everything decays alike."""
        towers: dict[str, Any] = {"params": [], "lr": lr, "weight_decay": weight_decay}
        head: dict[str, Any] = {"params": [], "lr": lr * self.head_lr_mult, "weight_decay": weight_decay}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                group = towers if name.startswith(("encoder.", "text_encoder.")) else head
                group["params"].append(parameter)
        return [group for group in (towers, head) if group["params"]]
