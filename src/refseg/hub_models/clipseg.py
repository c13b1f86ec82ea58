"""CLIPSeg (Lüddecke and Ecker, CVPR 2022): CLIP's image tower, and a small decoder that the sentence conditions.

B images, T expressions, P patches and the class token, C width of the image tower, J joint width of CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation, ViTImageProcessorPil

from refseg.data.transforms import InputConfig
from refseg.hub_models.base import identity_of, loaded, processor_of, training_of
from refseg.hub_models.find import Found
from refseg.types import ImageFeatures, Output, TextFeatures
from refseg.weights.pretrained import load_tokenizer
from refseg.weights.store import Model


@dataclass(frozen=True)
class ClipSegShape:
    """What of the network decides which sentences it takes.

    Attributes:
        vocab: Rows of the word table.
        positions: Longest sentence, in tokens.
    """

    vocab: int
    positions: int


class ClipSeg(nn.Module):
    """CLIPSeg behind the contract of a method: an image is encoded once for all its expressions."""

    def __init__(self, inner: CLIPSegForImageSegmentation) -> None:
        super().__init__()
        self.inner: Any = inner
        text: Any = inner.config.text_config
        self.config = ClipSegShape(text.vocab_size, text.max_position_embeddings)
        self.text_encoder = SimpleNamespace(config=self.config)

    @property
    def max_tokens(self) -> int:
        """Longest sentence, in tokens."""
        return self.config.positions

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to what the decoder reads: (B, P, C) of some layers."""
        found = self.inner.clip.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
        maps = {str(layer): found.hidden_states[layer + 1] for layer in self.inner.extract_layers}
        return ImageFeatures(maps, (pixels.shape[2], pixels.shape[3]))

    def encode_text(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) ids to the sentences (T, J)."""
        sentence = self.inner.get_conditional_embeddings(len(tokens), input_ids=tokens, attention_mask=mask.long())
        return TextFeatures(sentence[:, None], mask[:, :1], sentence)

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, H, W) log-odds at network size; there are no details."""
        layers = tuple(x[image_index] for x in image.maps.values())
        logits: Tensor = self.inner.decoder(layers, text.sentence).logits
        return Output(logits[:, None])


def load_clipseg(found: Found) -> Model:
    """CLIPSeg as a model for a `Predictor`.

    Raises:
        ValueError: The files are damaged.
    """
    part = found.parts[0]
    prepare = processor_of(part, ViTImageProcessorPil)
    size = prepare.size["height"], prepare.size["width"]
    inner = loaded(part, CLIPSegForImageSegmentation, torch.device("cpu"))
    network = ClipSeg(inner)
    seen = InputConfig(size, tuple(prepare.image_mean), tuple(prepare.image_std), network.max_tokens)
    digest, _ = identity_of(found)
    return Model(
        found.name, "clipseg", cast(Any, network), seen, load_tokenizer(part.folder), training_of(found), digest
    )
