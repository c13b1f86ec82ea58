"""AlignFormer: mask grouping with a language query (arXiv 2301.06429 v1).

The words change the pixels and the pixels the words in every stage of a Swin encoder (VLBA, sec. 3.2). A deformable
pixel decoder and a transformer decoder follow; the decoder's only query is the mean of the words, which becomes the
centre embedding that groups pixels into a mask (sec. 3.2). A contrastive loss between pixels of one instance (CMIC,
sec. 3.3) works on what the pixel-text loss gets wrong.

B images, T expressions, L words, D width of the words, C width of the decoder, h and w a quarter of the network size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.encoders.bert import Bert, BertConfig
from refseg.encoders.swin import Swin, SwinConfig
from refseg.layers.attention import masked_mean
from refseg.layers.fused_swin import EncoderOutput, FusedSwin
from refseg.layers.fusion import VLBA
from refseg.layers.pixel_decoder import PixelDecoder, PixelDecoderConfig
from refseg.layers.prototype import PrototypeConfig, PrototypeGenerator, prototype_head, prototype_similarity
from refseg.losses import CMICConfig, Resolution, cmic, mask_losses, resize_target
from refseg.methods.base import SwinBertSegmenter
from refseg.precision import at_least_float32
from refseg.types import ImageFeatures, Output, TextFeatures


@dataclass(frozen=True)
class AlignFormerConfig(Checked):
    """Everything that can be switched in AlignFormer. The paper's values are in `refseg.presets`.

    Attributes:
        swin: The vision encoder.
        bert: The text encoder.
        fusion: "vlba", "vlua" (the words stay as they are) or "none" (Table 3).
        fusion_heads: Attention heads of the fusion, one number per stage.
        chain_words: Whether a stage's words feed the next stage's fusion.
        encoder_output: "updated" (V', L') or "residual_ln" (LayerNorm(V_m), L_m).
        pixel_decoder: The deformable pixel decoder, without attention to the words.
        head: "prototype" groups pixels by the language query, "pixel_classifier" classifies each by itself (Table 2).
        generator: The transformer decoder of the language query, which makes the prototype.
        loss_resolution: "stride4" compares at the resolution of the pixel embeddings, "full" enlarges the logits first.
        pos_weight: Weight of the foreground in the pixel-text loss.
        deep_supervision: Whether the query before and after every layer predicts and is punished.
        dice_weight: Weight of an added Dice term; 0 in the paper.
        cmic: The contrastive loss; weight 0 is Table 4.
    """

    swin: SwinConfig
    bert: BertConfig
    fusion: Literal["vlba", "vlua", "none"]
    fusion_heads: tuple[int, ...]
    chain_words: bool
    encoder_output: EncoderOutput
    pixel_decoder: PixelDecoderConfig
    head: Literal["prototype", "pixel_classifier"]
    generator: PrototypeConfig
    loss_resolution: Resolution
    pos_weight: float
    deep_supervision: bool
    dice_weight: float
    cmic: CMICConfig

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: The contrastive loss or deep supervision is asked for without a prototype.
        """
        super().__post_init__()
        if self.head == "pixel_classifier" and (self.cmic.weight or self.deep_supervision):
            raise ValueError("head 'pixel_classifier' has no prototype: set cmic.weight 0 and deep_supervision off")


class AlignFormer(SwinBertSegmenter):
    """AlignFormer; see the module's first lines for what it does."""

    # A mask is a product of one vector with the pixels: what is rounded in either is in every log-odds.
    exact = ("text_encoder", "pixel_decoder", "pooled_to_query", "generator", "head")

    def __init__(self, config: AlignFormerConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim, width = config.swin.channels, config.bert.width, config.pixel_decoder.width
        last = len(channels) - 1
        fusions = [  # words that no later stage reads are not updated
            None
            if config.fusion == "none"
            else VLBA(c, dim, heads, config.fusion == "vlba" and (config.chain_words or i == last))
            for i, (c, heads) in enumerate(zip(channels, config.fusion_heads, strict=True))
        ]
        self.text_encoder = Bert(config.bert)
        self.encoder = FusedSwin(Swin(config.swin), fusions, config.chain_words, config.encoder_output)
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, channels, dim)
        if config.head == "pixel_classifier":
            self.classifier = nn.Conv2d(width, 1, 1)
        else:
            self.pooled_to_query = nn.Linear(dim, dim)
            self.generator = PrototypeGenerator(config.generator, 1, dim, width)
            self.head = prototype_head(dim, width)

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, h, w) logits.

        Details are `pixel_embeddings` (T, C, h, w) and, of every stage N with a fusion, `fusion_attention_N`
        (T, L, H_N, W_N), the words that its pixels read. With the head "prototype" also `prototype` (T, C), the cosine
        `similarity` (T, 1, h, w) of every pixel to it, and `masks_by_layer` (T, 1 + layers, h, w), what the query and
        every layer of the generator would answer; the last are the logits.
        """
        shown: dict[str, Tensor] = {}
        maps, words = self.encoder(image, text, image_index, shown if details else None)
        decoded = self.pixel_decoder(maps, text, words)
        pixels = decoded.mask_features  # (T, C, h, w)
        if details:
            shown["pixel_embeddings"] = pixels
        if self.config.head == "pixel_classifier":
            return Output(self.classifier(pixels), {}, shown)
        query = self.pooled_to_query(masked_mean(words, text.mask))[:, None]  # (T, 1, D)
        states = [query, *self.generator(query, decoded.levels, decoded.sizes)]
        supervised = self.training and self.config.deep_supervision
        prototypes = self.head(torch.cat(states if details or supervised else states[-1:], 1))  # (T, N, C)
        masks = torch.einsum("tnc,tchw->tnhw", prototypes, pixels)
        aux: dict[str, Tensor] = {}
        if self.training:
            aux = {"prototype": prototypes[:, -1], "pixel_embeddings": pixels}
            if supervised:
                aux["masks_by_layer"] = masks
        if details:
            shown |= {"prototype": prototypes[:, -1], "masks_by_layer": masks}
            shown["similarity"] = prototype_similarity(prototypes[:, -1:], pixels)
        return Output(masks[:, -1:], aux, shown)

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Pixel-text loss (eq. 8-9), the contrastive loss (eq. 10-12) at stride 4 in training, and the Dice term."""
        logits = at_least_float32(output.aux.get("masks_by_layer", output.logits))  # (T, N, h, w)
        terms = mask_losses(
            logits, targets, self.config.loss_resolution, self.config.pos_weight, self.config.dice_weight
        )
        if self.config.cmic.weight and "prototype" in output.aux:
            pixels = output.aux["pixel_embeddings"]
            small = resize_target(targets, (pixels.shape[-2], pixels.shape[-1]))
            contrast = cmic(output.aux["prototype"], pixels, small, self.config.cmic)
            terms["cmic"] = self.config.cmic.weight * contrast
        return terms

    @property
    def inert(self) -> dict[str, str]:
        """Biases that a softmax or a norm takes out again, and what this configuration leaves without effect."""
        found = super().inert
        if self.config.encoder_output == "residual_ln" and self.config.pixel_decoder.mask_features == "bilinear":
            found["encoder.norms.0.*"] = "no stride-4 map is read"
        if self.config.head == "pixel_classifier":
            last = len(self.encoder.fusions) - 1
            why = "a classifier of pixels does not read the words that leave the last stage"
            if self.config.fusion == "vlba":
                parts = ("pixel_value", "word_out", "word_branch", "word_fuse", "word_gate", "key.bias")
                found |= {f"encoder.fusions.{last}.{part}*": why for part in parts}
        return found
