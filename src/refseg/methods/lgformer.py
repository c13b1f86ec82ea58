"""LGFormer: linguistic query-guided mask generation (arXiv 2301.06429 v3).

The words change the pixels and the pixels the words in every stage of a Swin encoder (VLBA, sec. 3.2.1). A deformable
pixel decoder reads the words once more (L2VA, sec. 3.2.2). The mean of the words becomes a query that looks at the
decoded pixels (V2LA, sec. 3.2.2) and so turns into the prototype of the mask: its dot product with every pixel is the
log-odds of the foreground (eq. 12).

B images, T expressions, L words, Q queries, D width of the words, C width of the decoder, h and w a quarter of the
network size.
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
from refseg.layers.fusion import PWAM, VLBA
from refseg.layers.pixel_decoder import PixelDecoder, PixelDecoderConfig
from refseg.layers.prototype import PrototypeConfig, PrototypeGenerator, prototype_head, prototype_similarity
from refseg.losses import Resolution, mask_losses
from refseg.methods.base import SwinBertSegmenter
from refseg.precision import at_least_float32
from refseg.types import ImageFeatures, Output, TextFeatures


@dataclass(frozen=True)
class LGFormerConfig(Checked):
    """Everything that can be switched in LGFormer. The paper's values are in `refseg.presets`.

    Attributes:
        swin: The vision encoder.
        bert: The text encoder.
        fusion: What joins words and pixels in the encoder: "vlba", "pwam" (LAVT's, Table 4) or "none".
        fusion_heads: Attention heads of the fusion, one number per stage.
        chain_words: Whether a stage's words feed the next stage's fusion.
        encoder_output: "updated" (V', L') or "residual_ln" (LayerNorm(V_m), L_m), as the released code does.
        pixel_decoder: The language-guided pixel decoder; `l2va` off is Table 4, `l2va_input` Table 6.
        query: "linguistic" is the mean of the words, "learnable" a learned table (Table 2).
        num_queries: Number of learnable queries; 1 for the linguistic one.
        merge_hidden: Hidden width of the MLP that merges the masks of several learnable queries.
        v2la: Whether the query looks at the pixels at all (Table 4).
        generator: The prototype generator.
        head_bias: Whether the head also emits a bias per prototype, as the released code does.
        loss_resolution: "stride4" compares at the prototype's resolution (paper), "full" enlarges the logits first.
        pos_weight: Weight of the foreground in the pixel-text loss; 1 in the paper, 1.1 in the released code.
        deep_supervision: Whether the query before and after every layer predicts and is punished, as released.
        dice_weight: Weight of an added Dice term; 0 in the paper.
    """

    swin: SwinConfig
    bert: BertConfig
    fusion: Literal["vlba", "pwam", "none"]
    fusion_heads: tuple[int, ...]
    chain_words: bool
    encoder_output: EncoderOutput
    pixel_decoder: PixelDecoderConfig
    query: Literal["linguistic", "learnable"]
    num_queries: int
    merge_hidden: int
    v2la: bool
    generator: PrototypeConfig
    head_bias: bool
    loss_resolution: Resolution
    pos_weight: float
    deep_supervision: bool
    dice_weight: float

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: Several linguistic queries, no query, or learnable queries that would see nothing.
        """
        super().__post_init__()
        if self.query == "linguistic" and self.num_queries != 1:
            raise ValueError(f"num_queries {self.num_queries} with the linguistic query: there is exactly 1")
        if self.query == "learnable" and not self.v2la:
            raise ValueError("a learnable query without v2la would never see the image or the words")


class LGFormer(SwinBertSegmenter):
    """LGFormer; see the module's first lines for what it does."""

    # A mask is a product of one vector with the pixels: what is rounded in either is in every log-odds.
    exact = ("text_encoder", "pixel_decoder", "pooled_to_query", "generator", "head")

    def __init__(self, config: LGFormerConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim, width = config.swin.channels, config.bert.width, config.pixel_decoder.width
        self.text_encoder = Bert(config.bert)
        self.encoder = FusedSwin(
            Swin(config.swin),
            [self._fusion(i, dim, heads) for i, heads in enumerate(config.fusion_heads)],
            config.chain_words,
            config.encoder_output,
        )
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, channels, dim)
        if config.query == "learnable":
            self.learned_query = nn.Parameter(torch.randn(config.num_queries, dim))
        else:
            self.pooled_to_query = nn.Linear(dim, dim)
        self.generator = PrototypeGenerator(config.generator, config.num_queries, dim, width) if config.v2la else None
        self.head = prototype_head(dim, width + config.head_bias)
        if config.num_queries > 1:
            hidden = config.merge_hidden
            self.merge = nn.Sequential(
                nn.Conv2d(config.num_queries, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU(),
                nn.Conv2d(hidden, 1, 1),
            )  # fmt: skip

    def _fusion(self, stage: int, dim: int, heads: int) -> nn.Module | None:
        channels = self.config.swin.channels[stage]
        if self.config.fusion == "vlba":  # words that no later stage reads are not updated
            return VLBA(channels, dim, heads, self.config.chain_words or stage == len(self.config.fusion_heads) - 1)
        return PWAM(channels, dim, heads) if self.config.fusion == "pwam" else None

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, h, w) logits.

        Details are `masks_by_layer` (T, 1 + layers, h, w), what the query and every layer of the generator would
        answer, the last being the logits; `query_masks` (T, Q, h, w) before they are merged; `prototype` (T, Q, C) and
        the cosine `similarity` (T, Q, h, w) of every pixel to it; `word_attention` (T, L, H/8, W/8), the words that
        pixels read in the last layer of the pixel decoder, where it reads them; and `fusion_attention_N`
        (T, L, H_N, W_N) of every stage N with a fusion, the words that its pixels read.
        """
        read: dict[str, Tensor] = {}
        maps, words = self.encoder(image, text, image_index, read if details else None)
        pixels = self.pixel_decoder(maps, text, words, details)
        if self.config.query == "learnable":
            query = self.learned_query.expand(words.shape[0], -1, -1)
        else:
            query = self.pooled_to_query(masked_mean(words, text.mask))[:, None]  # (T, 1, D)
        states = [query]
        if self.generator is not None:
            states += self.generator(query, pixels.levels, pixels.sizes)
        query_masks = self._masks(states[-1], pixels.mask_features)  # (T, Q, h, w)
        logits = self._merged(query_masks)
        supervised = self.training and self.config.deep_supervision
        if not supervised and not details:
            return Output(logits)
        earlier = [self._merged(self._masks(state, pixels.mask_features)) for state in states[:-1]]
        masks_by_layer = torch.cat([*earlier, logits], 1)  # (T, 1 + layers, h, w)
        aux = {"masks_by_layer": masks_by_layer} if supervised else {}
        if not details:
            return Output(logits, aux)
        shown = read | {"masks_by_layer": masks_by_layer, "query_masks": query_masks}
        shown["prototype"] = self.head(states[-1])[..., : self.config.pixel_decoder.width]  # (T, Q, C)
        shown["similarity"] = prototype_similarity(shown["prototype"], pixels.mask_features)
        if pixels.word_attention is not None:
            finest = pixels.word_attention[:, -pixels.levels[-1].shape[1] :]  # (T, P, L) at stride 8
            shown["word_attention"] = finest.transpose(1, 2).unflatten(2, pixels.sizes[-1])  # (T, L, H/8, W/8)
        return Output(logits, aux, shown)

    def _merged(self, query_masks: Tensor) -> Tensor:
        """(T, Q, h, w) masks of the queries to the one mask (T, 1, h, w)."""
        return self.merge(query_masks) if self.config.num_queries > 1 else query_masks

    def _masks(self, query: Tensor, features: Tensor) -> Tensor:
        """(T, Q, D) queries and (T, C, h, w) pixels to (T, Q, h, w): eq. 12's dot product."""
        prototype = self.head(query)
        masks = torch.einsum("tqc,tchw->tqhw", prototype[..., : features.shape[1]], features)
        return masks + prototype[..., -1, None, None] if self.config.head_bias else masks

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Pixel-text loss (eq. 12-13), summed over the layers under deep supervision, and the optional Dice term."""
        logits = at_least_float32(output.aux.get("masks_by_layer", output.logits))  # (T, N, h, w)
        config = self.config
        return mask_losses(logits, targets, config.loss_resolution, config.pos_weight, config.dice_weight)

    @property
    def max_tokens(self) -> int:
        """Of the text encoder, and of the pixel decoder's learned positions where it reads the words."""
        decoder = self.config.pixel_decoder
        return min(super().max_tokens, decoder.max_tokens) if decoder.l2va else super().max_tokens

    @property
    def inert(self) -> dict[str, str]:
        """Biases that a softmax or a norm takes out again, and what this configuration leaves without effect."""
        found = super().inert
        if self.config.encoder_output == "residual_ln" and self.config.pixel_decoder.mask_features == "bilinear":
            found["encoder.norms.0.*"] = "no stride-4 map is read"
        if self.config.pixel_decoder.l2va and self.config.pixel_decoder.l2va_input == "sentence":
            one = "attention to a single key is 1 whatever the scores"
            found |= {f"*.l2va.{name}_proj_weight": one for name in "qk"} | {"pixel_decoder.word_position": one}
        return found
