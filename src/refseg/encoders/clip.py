"""CLIP's towers (Radford et al. 2021): ModifiedResNet, vision transformer, text transformer.

B images, T expressions, L words, P patches, D width of the words, J joint width of the two towers, C channels, N heads.
The parameters of the two transformers keep the names of the checkpoints that Hugging Face publishes, so these load
unchanged; OpenAI's own names are brought into them by `clip_names`. The ResNet is in `clip_resnet`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.encoders.clip_resnet import ClipResNet, ClipResNetConfig, ResNetMaps
from refseg.types import TextFeatures

__all__ = [
    "ClipLayer",
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
class ClipTextConfig(Checked):
    """Shape of a text tower.

    Attributes:
        vocab: Size of the vocabulary.
        width: Channels of a word, D.
        layers: Number of layers.
        heads: Attention heads.
        joint: Width J of the projected sentence.
        positions: Rows of the position table.
    """

    least = {"layers": 0}

    vocab: int
    width: int
    layers: int
    heads: int
    joint: int
    positions: int


@dataclass(frozen=True)
class ClipViTConfig(Checked):
    """Shape of a vision transformer.

    Attributes:
        width: Channels of a token.
        layers: Number of layers.
        heads: Attention heads.
        patch: Side of a patch in pixels.
        joint: Width J of the projected tokens.
        grid: Side of the grid that the position table was trained on (14 for B/16 at 224 pixels).
    """

    least = {"layers": 0}

    width: int
    layers: int
    heads: int
    patch: int
    joint: int
    grid: int


class ClipText(nn.Module):
    """CLIP's text tower. What is below `model` has the names of the published checkpoints."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.model = ClipTextModel(config)

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
        words = self.model.text_model(tokens)
        last = (mask * torch.arange(length, device=mask.device)).amax(1)
        end = words[torch.arange(words.shape[0], device=words.device), last]  # (T, D)
        return TextFeatures(words, mask, self.model.text_projection(end))


class ClipTextModel(nn.Module):
    """The text transformer and its projection into the joint space."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.text_model = ClipTextTransformer(config)
        self.text_projection = nn.Linear(config.width, config.joint, bias=False)
        nn.init.normal_(self.text_projection.weight, std=config.width**-0.5)


class ClipTextTransformer(nn.Module):
    """Embeddings, causal layers and the last norm."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        words, positions = nn.Embedding(config.vocab, config.width), nn.Embedding(config.positions, config.width)
        nn.init.normal_(words.weight, std=0.02)
        nn.init.normal_(positions.weight, std=0.01)
        self.embeddings = nn.ModuleDict({"token_embedding": words, "position_embedding": positions})
        self.encoder = ClipEncoder(config.width, config.layers, config.heads, causal=True)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, L) token ids to words (T, L, D)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        words = self.embeddings["token_embedding"](tokens) + self.embeddings["position_embedding"](places)
        return self.final_layer_norm(self.encoder(words))


class ClipViT(nn.Module):
    """CLIP's vision transformer. What is below `model` has the names of the published checkpoints."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        self.config = config
        self.model = ClipVisionModel(config)

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
        tokens = self.model.visual_projection(self.model.vision_model(pixels))  # (B, 1 + P, J)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, size), tokens[:, 0]


class ClipVisionModel(nn.Module):
    """The vision transformer and its projection into the joint space."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        self.vision_model = ClipVisionTransformer(config)
        self.visual_projection = nn.Linear(config.width, config.joint, bias=False)
        nn.init.normal_(self.visual_projection.weight, std=config.width**-0.5)


class ClipVisionTransformer(nn.Module):
    """Patches and the class token, layers between two norms."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        self.embeddings = ClipVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width)  # the published spelling
        self.encoder = ClipEncoder(config.width, config.layers, config.heads, causal=False)
        self.post_layernorm = nn.LayerNorm(config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to normalised states (B, 1 + P, C), the class token first."""
        return self.post_layernorm(self.encoder(self.pre_layrnorm(self.embeddings(pixels))))


class ClipVisionEmbeddings(nn.Module):
    """Patches with their places, behind the class token."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        width, self.grid = config.width, config.grid
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.patch_embedding = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding(config.grid**2 + 1, width)
        nn.init.normal_(self.position_embedding.weight, std=width**-0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 1 + P, C)."""
        patches = self.patch_embedding(pixels)  # (B, C, h, w)
        first, places = self.position_embedding.weight[:1], self.position_embedding.weight[1:]
        size = (patches.shape[2], patches.shape[3])
        if size != (self.grid, self.grid):
            grid = places.T.unflatten(1, (self.grid, self.grid)).unsqueeze(0)  # (1, C, grid, grid)
            places = F.interpolate(grid, size, mode="bicubic", align_corners=False)[0].flatten(1).T  # (P, C)
        whole = (self.class_embedding + first).expand(pixels.shape[0], 1, -1)
        return torch.cat([whole, patches.flatten(2).transpose(1, 2) + places], 1)


class ClipEncoder(nn.Module):
    """The layers of a tower, one after another."""

    def __init__(self, width: int, layers: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(width, layers, heads, causal) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class ClipLayer(nn.Module):
    """Self-attention and a feed-forward network, each normalised before and added to its input.

    `depth` is the number of layers of the tower, by which the layers' initial answers are made smaller.
    """

    def __init__(self, width: int, depth: int, heads: int, causal: bool) -> None:
        super().__init__()
        small = width**-0.5 * (2 * depth) ** -0.5
        self.layer_norm1 = nn.LayerNorm(width)
        self.self_attn = ClipAttention(width, heads, causal, small)
        self.layer_norm2 = nn.LayerNorm(width)
        self.mlp = ClipMLP(width, small)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipAttention(nn.Module):
    """Multi-head self-attention; where it is causal, nothing attends to what stands behind it."""

    def __init__(self, width: int, heads: int, causal: bool, small: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"CLIP width {width} with {heads} heads: the width must be a multiple of the heads")
        self.heads, self.causal = heads, causal
        self.q_proj, self.k_proj, self.v_proj = (_linear(width, width, width**-0.5) for _ in range(3))
        self.out_proj = _linear(width, width, small)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to the same shape."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, N, L, C / N)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2))


class ClipMLP(nn.Module):
    """Two layers with CLIP's quick approximation of the GELU between them."""

    def __init__(self, width: int, small: float) -> None:
        super().__init__()
        self.fc1 = _linear(width, width * MLP_RATIO, (2 * width) ** -0.5)
        self.fc2 = _linear(width * MLP_RATIO, width, small)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to the same shape."""
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


def _linear(inputs: int, outputs: int, std: float) -> nn.Linear:
    """A Linear layer that starts as in CLIP's code."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer
