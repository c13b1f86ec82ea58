"""CLIP's towers (Radford et al. 2021): ModifiedResNet, vision transformer, text transformer.

B images, T expressions, L words, P patches, D width of the words, J joint width of the two towers, C channels. The two
transformers run through the library of that name; the ResNet, which it does not have, is in `clip_resnet`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from refseg.encoders.clip_resnet import ClipResNet, ClipResNetConfig, ResNetMaps
from refseg.types import TextFeatures

__all__ = [
    "ClipResNet",
    "ClipResNetConfig",
    "ClipText",
    "ClipTextConfig",
    "ClipViT",
    "ClipViTConfig",
    "ResNetMaps",
]

MLP_RATIO = 4  # hidden width of a block over its width; CLIP's code knows no other
INERT = {"*.self_attn.k_proj.bias": "adds the same to all scores of a softmax"}


@dataclass(frozen=True)
class ClipTextConfig:
    """Shape of a text tower.

    Attributes:
        vocab: Size of the vocabulary.
        width: Channels of a word, D.
        layers: Number of layers.
        heads: Attention heads.
        joint: Width J of the projected sentence.
        positions: Rows of the position table.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    joint: int
    positions: int


@dataclass(frozen=True)
class ClipViTConfig:
    """Shape of a vision transformer.

    Attributes:
        width: Channels of a token.
        layers: Number of layers.
        heads: Attention heads.
        patch: Side of a patch in pixels.
        joint: Width J of the projected tokens.
        grid: Side of the grid that the position table was trained on (14 for B/16 at 224 pixels).
    """

    width: int
    layers: int
    heads: int
    patch: int
    joint: int
    grid: int


class ClipText(nn.Module):
    """CLIP's text tower. `model` keeps the parameter names of the checkpoints that transformers publishes."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.model = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=config.vocab,
                hidden_size=config.width,
                intermediate_size=config.width * MLP_RATIO,
                projection_dim=config.joint,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.positions,
                hidden_act="quick_gelu",
                # Read by the library's own pooling alone, whose answer is not used; they must exist in the vocabulary.
                pad_token_id=0,
                bos_token_id=config.vocab - 2,
                eos_token_id=config.vocab - 1,
            )
        )

    @property
    def inert(self) -> dict[str, str]:
        """Names below this module of parameters that cannot learn, with the reason."""
        return dict(INERT)

    def forward(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) token ids and their mask to words (T, L, D) and sentences (T, J).

        Words are the states after the last norm, start and end token included, in the tower's own width. The sentence
        is the projected state of the last real token, which is the end token. Attention is causal and nothing else, as
        in training, so what pads the end of a row reaches neither.

        Raises:
            ValueError: There are more tokens than positions.
        """
        length = tokens.shape[1]
        if length > self.config.positions:
            raise ValueError(f"{length} tokens: this model reads at most {self.config.positions}")
        words = self.model.text_model(input_ids=tokens).last_hidden_state
        last = (mask * torch.arange(length, device=mask.device)).amax(1)
        end = words[torch.arange(len(words), device=words.device), last]  # (T, D)
        return TextFeatures(words, mask, self.model.text_projection(end))


class ClipViT(nn.Module):
    """CLIP's vision transformer. `model` keeps the parameter names of the checkpoints that transformers publishes."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        self.config = config
        self.model = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.width * MLP_RATIO,
                projection_dim=config.joint,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                image_size=config.grid * config.patch,
                patch_size=config.patch,
                hidden_act="quick_gelu",
            )
        )

    @property
    def inert(self) -> dict[str, str]:
        """Names below this module of parameters that cannot learn, with the reason."""
        return dict(INERT)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) pixels to projected patch tokens (B, J, h, w) and the projected class token (B, J).

        h and w are the whole patches that fit; up to a patch of pixels at the right and the bottom is not seen. For
        grids other than the trained one the position table is resized bicubically.

        Raises:
            ValueError: A side is shorter than a patch.
        """
        patch = self.config.patch
        size = (pixels.shape[2] // patch, pixels.shape[3] // patch)
        if 0 in size:
            given = f"{pixels.shape[2]}x{pixels.shape[3]}"
            raise ValueError(f"pixels of {given}: this vision transformer reads sides of at least {patch}")
        tower = self.model.vision_model
        states = tower(pixels, interpolate_pos_encoding=True).last_hidden_state  # (B, 1 + P, C)
        tokens = self.model.visual_projection(tower.post_layernorm(states))  # (B, 1 + P, J)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, size), tokens[:, 0]
