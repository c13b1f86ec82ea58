"""LAVT: language-aware vision transformer (Yang et al., CVPR 2022), the baseline that all five papers compare with.

A Swin encoder reads the words after the last block of every stage (pixel-word attention, sec. 3.2) through a gate
(language pathway, sec. 3.3). A light decoder climbs back to stride 4 and classifies every pixel.

B images, T expressions, L words, C4 channels of the last stage, H and W network size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.encoders.bert import Bert, BertConfig
from refseg.encoders.swin import Swin, SwinConfig
from refseg.layers.fused_swin import FusedSwin
from refseg.layers.fusion import PWAM
from refseg.losses import class_losses
from refseg.methods.base import SwinBertSegmenter
from refseg.types import ImageFeatures, Output, TextFeatures


@dataclass(frozen=True)
class LAVTConfig(Checked):
    """Everything that can be switched in LAVT.

    Attributes:
        swin: The vision encoder.
        bert: The text encoder.
        fusion_heads: Attention heads of the pixel-word attention, one number per stage.
        class_weights: Weights of background and foreground in the cross-entropy.
        dice_weight: Weight of an added Dice term; 0 in the paper.
    """

    swin: SwinConfig
    bert: BertConfig
    fusion_heads: tuple[int, ...]
    class_weights: tuple[float, float]
    dice_weight: float


class LAVTDecoder(nn.Module):
    """Deepest map first: enlarge, join with the next finer map, two convolutions; then two classes per pixel."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        hidden = channels[-1] // 2
        inputs = [channels[-1] + channels[-2], *(hidden + c for c in reversed(channels[:-2]))]
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(),
                nn.Conv2d(hidden, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(),
            )
            for c in inputs
        )  # fmt: skip
        self.classify = nn.Conv2d(hidden, 2, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (T, C_i, H_i, W_i), finest first, to class logits (T, 2, H_1, W_1)."""
        x = maps[-1]
        for level, lateral in zip(self.levels, reversed(maps[:-1]), strict=True):
            x = level(torch.cat([enlarge(x, (lateral.shape[2], lateral.shape[3])), lateral], 1))
        return self.classify(x)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to `size` with aligned corners, as LAVT does everywhere."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class LAVT(SwinBertSegmenter):
    """LAVT; see the module's first lines for what it does."""

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim = config.swin.channels, config.bert.width
        self.text_encoder = Bert(config.bert)
        fusions = [PWAM(c, dim, heads) for c, heads in zip(channels, config.fusion_heads, strict=True)]
        self.encoder = FusedSwin(Swin(config.swin), fusions, chain_words=False, output="residual_ln")
        self.decoder = LAVTDecoder(channels)

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, H, W) logits at network size: foreground minus background.

        Details are `stage_norms` (T, stages, H/4, W/4), where each stage heard the words, and `fusion_attention_N`
        (T, L, H_N, W_N) of every stage N, which of them its pixels read.
        """
        shown: dict[str, Tensor] = {}
        maps, _ = self.encoder(image, text, image_index, shown if details else None)
        classes = enlarge(self.decoder(maps), image.size)  # (T, 2, H, W)
        aux = {"class_logits": classes} if self.training else {}
        if details:
            finest = (maps[0].shape[2], maps[0].shape[3])
            strengths = [enlarge(x.norm(dim=1, keepdim=True), finest) for x in maps]
            shown["stage_norms"] = torch.cat(strengths, 1)
        return Output(classes[:, 1:] - classes[:, :1], aux, shown)

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of two weighted classes at network size, and the optional Dice term."""
        # In evaluation only the difference of the two is there; it says the same.
        classes = output.aux.get("class_logits", F.pad(output.logits, (0, 0, 0, 0, 1, 0)))
        return class_losses(classes, targets, self.config.class_weights, self.config.dice_weight)

    @property
    def inert(self) -> dict[str, str]:
        """Biases that a softmax or a norm takes out again, and the gate of the last stage."""
        found = super().inert
        if self.config.bert.trained_layers >= self.config.bert.layers:
            last = f"text_encoder.model.encoder.layer.{self.config.bert.layers - 1}.output.LayerNorm.bias"
            found[last] = "moves all words alike, which keys do not notice and an instance norm takes out of values"
        return found
