"""Deformable pixel decoder (Mask2Former, Cheng et al. 2022), optionally guided by the words (LGFormer sec. 3.2.2).

T expressions, P pixels of strides 8, 16 and 32 together, L words, C width of the decoder, D width of the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.layers.attention import FeedForward, masked_mean
from refseg.layers.deformable import DeformableAttention, reference_points
from refseg.layers.positions import sine_grid
from refseg.types import TextFeatures

Size = tuple[int, int]


@dataclass(frozen=True)
class PixelDecoderConfig(Checked):
    """Shape of the pixel decoder.

    Attributes:
        width: Channels C of all maps inside and behind the decoder.
        layers: Number of layers.
        heads: Heads of the deformable and of the word attention.
        points: Sampling points per head and level.
        ffn: Hidden width of the feed-forward network.
        mask_features: How the stride-4 map arises: "bilinear" enlarges the stride-8 map (AlignFormer, LGFormer), "fpn"
            also reads the encoder's stride-4 map (Mask2Former, LGFormer's released code).
        mask_conv: Whether a 1x1 convolution follows, as in Mask2Former and LGFormer's released code; not printed.
        l2va: Whether every layer also reads the words (LGFormer's language-to-vision attention).
        l2va_input: "words", or "sentence" for their mean.
        l2va_ffn: "one" feed-forward network per layer (LGFormer's paper) or "two" (its released code).
        l2va_ffn_width: Hidden width of that second network.
        max_tokens: Rows of the learned position table of the words.
    """

    width: int
    layers: int
    heads: int
    points: int
    ffn: int
    mask_features: Literal["bilinear", "fpn"]
    mask_conv: bool
    l2va: bool
    l2va_input: Literal["words", "sentence"]
    l2va_ffn: Literal["one", "two"]
    l2va_ffn_width: int
    max_tokens: int

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: The width is no multiple of the heads.
        """
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"PixelDecoderConfig: width {self.width} with {self.heads} heads: a multiple is accepted")


@dataclass(frozen=True)
class DecodedPixels:
    """What the pixel decoder returns.

    Attributes:
        mask_features: (T, C, H/4, W/4).
        levels: The refined maps (T, P_i, C) at strides 32, 16 and 8.
        sizes: (H_i, W_i) of the levels.
        word_attention: (T, P, L) what each pixel read in the last layer, on request.
    """

    mask_features: Tensor
    levels: list[Tensor]
    sizes: list[Size]
    word_attention: Tensor | None


class PixelDecoderLayer(nn.Module):
    """Deformable attention, attention to the words, feed-forward network; all residual and post-norm."""

    def __init__(self, config: PixelDecoderConfig, word_dim: int) -> None:
        super().__init__()
        width = config.width
        self.deformable = DeformableAttention(width, 3, config.heads, config.points)
        self.deformable_norm = nn.LayerNorm(width)
        self.l2va = None
        if config.l2va:
            self.l2va = nn.MultiheadAttention(width, config.heads, kdim=word_dim, vdim=word_dim, batch_first=True)
            self.l2va_norm = nn.LayerNorm(width)
        two = config.l2va and config.l2va_ffn == "two"
        self.early_ffn = FeedForward(width, config.ffn) if two else None
        self.ffn = FeedForward(width, config.l2va_ffn_width if two else config.ffn)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        reference: Tensor,
        sizes: list[Size],
        words: Tensor,
        word_position: Tensor,
        padding: Tensor,
        details: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Refines (T, P, C) pixels; `padding` (T, L) is True on padded words."""
        x = self.deformable_norm(x + self.deformable(x + position, reference, x, sizes))
        if self.early_ffn is not None:
            x = self.early_ffn(x)
        attention = None
        if self.l2va is not None:
            read, attention = self.l2va(
                x + position, words + word_position, words, key_padding_mask=padding, need_weights=details
            )
            x = self.l2va_norm(x + read)
        return self.ffn(x), attention


class PixelDecoder(nn.Module):
    """Refines strides 8, 16 and 32 together and builds the stride-4 features that a prototype is compared with."""

    def __init__(self, config: PixelDecoderConfig, channels: Sequence[int], word_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        groups = min(32, width // 8)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), nn.GroupNorm(groups, width)) for c in reversed(channels[1:])
        )
        self.level_embedding = nn.Parameter(torch.empty(3, width))
        self.layers = nn.ModuleList(PixelDecoderLayer(config, word_dim) for _ in range(config.layers))
        if config.l2va:
            self.word_position = nn.Parameter(torch.empty(config.max_tokens, word_dim))
        self.mask_conv = nn.Conv2d(width, width, 1) if config.mask_conv else None
        if config.mask_features == "fpn":
            self.lateral = nn.Sequential(nn.Conv2d(channels[0], width, 1, bias=False), nn.GroupNorm(groups, width))
            self.smooth = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.ReLU()
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for matrices, kaiming for the stride-4 convolutions, as in Mask2Former."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.level_embedding)
        for name, parameter in self.named_parameters():
            if name.startswith(("project.", "mask_conv.")) and name.endswith("bias"):
                nn.init.zeros_(parameter)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()
        for name in ("lateral", "smooth", "mask_conv"):
            stride_4 = getattr(self, name, None)
            for module in () if stride_4 is None else stride_4.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_uniform_(module.weight, a=1)

    def forward(
        self, maps: Sequence[Tensor], text: TextFeatures, words: Tensor, details: bool = False
    ) -> DecodedPixels:
        """Decodes the encoder's maps.

        Args:
            maps: (T, C_i, H_i, W_i) at strides 4, 8, 16 and 32.
            text: Supplies the mask of the words.
            words: (T, L, D), as they left the encoder.
            details: Also return the attention to the words.

        Raises:
            ValueError: There are more words than rows in the position table.
        """
        projected = [project(x) for project, x in zip(self.project, reversed(maps[1:]), strict=True)]
        sizes: list[Size] = [(x.shape[2], x.shape[3]) for x in projected]
        x = torch.cat([x.flatten(2) for x in projected], 2).transpose(1, 2)  # (T, P, C)
        position = torch.cat(
            [sine_grid(size, self.config.width, x) + self.level_embedding[level] for level, size in enumerate(sizes)]
        )  # (P, C)
        reference = reference_points(sizes, x.device)[None, :, None]  # (1, P, 1, 2)
        padding, word_position = ~text.mask, words[:0]
        if self.config.l2va:
            if self.config.l2va_input == "sentence":
                words, padding = masked_mean(words, text.mask)[:, None], padding[:, :1]
            if words.shape[1] > self.config.max_tokens:
                raise ValueError(f"{words.shape[1]} tokens: this model reads at most {self.config.max_tokens}")
            word_position = self.word_position[: words.shape[1]]
        attention = None
        for layer in self.layers:
            x, attention = layer(x, position, reference, sizes, words, word_position, padding, details)
        levels = list(x.split([h * w for h, w in sizes], 1))
        finest = levels[-1].transpose(1, 2).unflatten(2, sizes[-1])
        large = F.interpolate(finest, maps[0].shape[-2:], mode="bilinear", align_corners=False)
        if self.config.mask_features == "fpn":
            large = self.smooth(self.lateral(maps[0]) + large)
        features = large if self.mask_conv is None else self.mask_conv(large)
        return DecodedPixels(features, levels, sizes, attention)
