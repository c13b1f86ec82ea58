"""CRFormer: calibration and reconstruction (Yan et al., ICMR 2024).

The words change the pixels in stages 2 to 4 of a Swin encoder (VLF, sec. 3.1), and a neck joins these three maps at
stride 16. Maps of the fused image ask which words matter, each in its own way, and so become language queries (QGM,
sec. 3.2). The pixels read the queries in a transformer decoder, and after every layer what they have become makes new
queries that calibrate the old ones (CDec, sec. 3.3). A loss demands that the sentence can be reconstructed from the
last queries, lest the decoder forget it (sec. 3.4).

B images, T expressions, L words, P pixels at stride 16, Q queries, D width of the decoder, J width of words and
sentence, g_h and g_w sides of the map at stride 16, h and w a quarter of the network size.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.encoders.bert import PAD, Bert, BertConfig, Pooler
from refseg.encoders.swin import Swin, SwinConfig
from refseg.geometry import crop_logits, pad_to_multiple
from refseg.layers.attention import masked_mean
from refseg.layers.fused_swin import EncoderOutput, FusedSwin
from refseg.layers.fusion import PWAM, VLF
from refseg.layers.heads import dynamic_conv, upsampler
from refseg.layers.neck import LinearNormReLU, NeckStyle, check_widths, double, fusion_neck
from refseg.layers.pixel_transformer import PixelTransformerLayer
from refseg.layers.positions import sine_line, sine_plane
from refseg.layers.queries import Generated, MapQueries, ReleasedMapQueries
from refseg.losses import Resolution, mask_losses
from refseg.methods.base import SwinBertSegmenter
from refseg.precision import at_least_float32
from refseg.types import ImageFeatures, Output, TextFeatures


@dataclass(frozen=True)
class CRFormerConfig(Checked):
    """Everything that can be switched in CRFormer. The paper's values are in `refseg.presets.crformer`.

    Attributes:
        swin: The vision encoder, of four stages.
        bert: The text encoder.
        language: "projected" brings words and [CLS] to width D by one linear layer each (paper); "pooled" keeps BERT's
            width and takes the pooler's output as the sentence, as the released code does.
        fusion: "vlf" (paper) or "pwam", LAVT's with its gate, as the released code does.
        fusion_heads: Attention heads of the fusion, one number per stage; "vlf" has one.
        fusion_stages: Stages with a fusion, counted from 1: 2 to 4 in the paper, all four in the released code.
        encoder_output: "residual" hands F_v to the neck (paper), "residual_ln" its LayerNorm (released code), "updated"
            what the next stage reads, V + ReLU(F_v). F_v alone holds words; pixels show in it only by which words they
            read, which is next to nothing at the start of training.
        grid: (rows, columns) of the stride-16 map at the configured size; eq. 8's W_c has one row per cell of it. For
            other sizes the maps are resized to it (ours: the paper has one size).
        finer_neck: Whether the neck reads stages 1 and 2 and, at stride 16, stage 3 beside stage 4 enlarged twice,
            instead of stages 2, 3 and 4: for small pictures, not in the paper. What comes behind, and `grid`, is twice
            as fine.
        neck: Widths of strides 8, 16 and 32 in the neck of CRIS; the middle one is D, the only width
            of the printed neck.
        neck_style: "printed" is eq. 3 to 6 as they stand; "cris" is the neck of CRIS (released code).
        neck_text: Whether the sentence gates the neck's deepest map; not in eq. 3, but in the released code.
        num_queries: N_q, the number of queries (Table 2).
        qgm: How words become queries: "printed" is eq. 7-9; "released" adds positions and normalises across the queries
            instead of the ReLUs.
        scale_queries: Whether eq. 8 is divided by the root of D, as the released code does; not in the paper.
        dec_layers: N, the number of decoder layers, each with a calibration behind it (Table 4).
        block_layers: Transformer layers in each of them; 1 in the paper, 2 in the released code.
        heads: Attention heads of the decoder.
        ffn: Hidden width of the decoder's feed-forward networks.
        dropout: Dropout of the decoder. Open in the paper.
        extra_norms: Whether CRIS's additional LayerNorms are there, and one behind every decoder layer (released code).
        calibration: Whether the queries are calibrated (Table 3); if not, every layer reads the first ones.
        add_last: Whether the last calibration adds like the others (eq. 12) or replaces, as the released code does.
        head: "fixed_conv" is one learned 3x3 kernel (paper), "sentence_kernel" makes it from the sentence, as CRIS and
            the released code do.
        recon_weight: Weight of the reconstruction loss; 0 builds none of it (Tables 3 and 5).
        recon: Which layers reconstruct, and what: "printed" is eq. 13-14 over real words; "released" adds positions to
            the words, another projection of the sentence, and counts padding.
        padded_tokens: Sentences are padded to so many tokens, and by no more than a batch needs where they are longer;
            0 pads to the longest. Only the released reconstruction reads what is padded; its code pads to 20.
        recon_detach_target: Whether the target learns nothing; its projections then stay as they start. It learns in
            the paper and its code, so that both sides can also agree by shrinking.
        loss_resolution: "stride4" compares at the mask's resolution, "full" enlarges the logits first, "full_aligned"
            with aligned corners (released code).
        loss_scale: Factor of the cross-entropy; 1 in the paper, 1.1 / 0.9 in the released code.
        dice_weight: Weight of an added Dice term; 0 in the paper.
    """

    least = {"padded_tokens": 0}

    swin: SwinConfig
    bert: BertConfig
    language: Literal["projected", "pooled"]
    fusion: Literal["vlf", "pwam"]
    fusion_heads: tuple[int, int, int, int]
    fusion_stages: tuple[int, ...]
    encoder_output: EncoderOutput
    grid: tuple[int, int]
    finer_neck: bool
    neck: tuple[int, int, int]
    neck_style: NeckStyle
    neck_text: bool
    num_queries: int
    qgm: Literal["printed", "released"]
    scale_queries: bool
    dec_layers: int
    block_layers: int
    heads: int
    ffn: int
    dropout: float
    extra_norms: bool
    calibration: bool
    add_last: bool
    head: Literal["fixed_conv", "sentence_kernel"]
    recon_weight: float
    recon: Literal["printed", "released"]
    padded_tokens: int
    recon_detach_target: bool
    loss_resolution: Resolution
    loss_scale: float
    dice_weight: float

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: No query, no layer, a stage that does not exist, or queries that the released form cannot make.
        """
        super().__post_init__()
        if self.qgm == "released" and self.num_queries % 4:
            raise ValueError(
                f"num_queries {self.num_queries} with qgm 'released': its position code has one channel per query and "
                "needs a multiple of 4; qgm 'printed' takes any number"
            )
        if len(self.swin.depths) != 4:
            raise ValueError(f"a Swin of {len(self.swin.depths)} stages: 4 are needed")
        if list(self.fusion_stages) != sorted(set(self.fusion_stages) & {1, 2, 3, 4}) or 4 not in self.fusion_stages:
            raise ValueError(
                f"fusion_stages {self.fusion_stages}: some of 1, 2 and 3, and 4, in this order, are accepted"
            )
        check_widths(self.grid, self.neck, self.heads)
        if self.fusion == "vlf" and set(self.fusion_heads) != {1}:
            raise ValueError(f"fusion_heads {self.fusion_heads} with fusion 'vlf': it has one head")
        if self.padded_tokens > self.bert.positions:
            raise ValueError(
                f"padded_tokens {self.padded_tokens}: 0 to {self.bert.positions} (BERT's positions) are accepted"
            )


class Reconstruction(nn.Module):
    """What the last queries say about the sentence, and what it says itself (eq. 13-14)."""

    def __init__(self, dim: int, word_dim: int) -> None:
        super().__init__()
        self.rebuild = nn.Sequential(  # W_re, "three learnable projections"
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        self.project = nn.Linear(word_dim, dim)  # W_pt

    def forward(self, queries: Tensor, words: Tensor, mask: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """(T, Q, D) queries, (T, L, J) words with their mask (T, L), (T, J) sentence to F_re and F_pt, both (T, D)."""
        tokens = torch.cat([words, sentence[:, None]], 1)  # (T, L + 1, J)
        real = F.pad(mask, (0, 1), value=True)
        return self.rebuild(queries).mean(1), masked_mean(F.relu(self.project(tokens)), real)


class ReleasedReconstruction(nn.Module):
    """The same as released: positions on the words, padding counts, two projections of the queries with a ReLU each."""

    def __init__(self, dim: int, word_dim: int) -> None:
        super().__init__()
        self.rebuild = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.sentence_in = LinearNormReLU(word_dim, word_dim)
        self.project = nn.Linear(word_dim, dim)

    def forward(self, queries: Tensor, words: Tensor, mask: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """(T, Q, D) queries, (T, L, J) words, (T, J) sentence to F_re and F_pt, both (T, D); the mask is not read."""
        length, width = words.shape[1], words.shape[2]
        # As released, the code counts channels and its waves run along the words; one more of them where L is odd.
        words = words + sine_line(width, length + length % 2, words)[:, :length].T
        tokens = torch.cat([words, self.sentence_in(sentence)[:, None]], 1)  # (T, L + 1, J)
        return self.rebuild(queries).mean(1), F.relu(self.project(tokens)).mean(1)


class CRFormer(SwinBertSegmenter):
    """CRFormer; see the module's first lines for what it does.

    With `language="pooled"` the published weights `bert.pooler.dense.*` belong into `pooler.dense`. Like the embeddings
    they stay as published, and learn only where the embeddings do.
    """

    def __init__(self, config: CRFormerConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim, bert = config.swin.channels, config.neck[1], config.bert.width
        self.text_encoder = Bert(config.bert)
        width = dim if config.language == "projected" else bert  # J
        reads_sentence = config.neck_text or config.head == "sentence_kernel" or config.recon_weight > 0
        self.word_in = self.sentence_in = self.pooler = None
        if config.language == "projected":
            self.word_in = nn.Linear(bert, dim)
            self.sentence_in = nn.Linear(bert, dim) if reads_sentence else None  # F_tg
        elif reads_sentence:
            self.pooler = Pooler(bert).requires_grad_(config.bert.train_embeddings)
        fusions = [self._fusion(stage, width) for stage in (1, 2, 3, 4)]
        self.encoder = FusedSwin(
            Swin(config.swin), fusions, chain_words=False, output=config.encoder_output,
            first_emitted=0 if config.finer_neck else 1,
        )  # fmt: skip
        c1, c2, c3, c4 = channels
        read = (c1, c2, c3 + c4) if config.finer_neck else (c2, c3, c4)
        self.neck = fusion_neck(config.neck_style, read, config.neck, width if config.neck_text else None)
        self.generate = self._queries(width, calibrating=False)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                PixelTransformerLayer(dim, config.heads, config.ffn, config.dropout, config.extra_norms)
                for _ in range(config.block_layers)
            )
            for _ in range(config.dec_layers)
        )
        if config.extra_norms:
            self.block_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.blocks)
        # The queries behind the last layer are read by the reconstruction alone.
        last = config.dec_layers if config.recon_weight else config.dec_layers - 1
        calibrations = last if config.calibration else 0
        self.calibrate = nn.ModuleList(self._queries(width, calibrating=True) for _ in range(calibrations))
        added = calibrations if config.add_last else min(calibrations, config.dec_layers - 1)
        self.alpha = nn.Parameter(torch.rand(added)) if added else None
        self.recon = None
        if config.recon_weight:
            recon = Reconstruction if config.recon == "printed" else ReleasedReconstruction
            self.recon = recon(dim, width)
        self.upsampler = upsampler(dim, dim // 2, "cris")
        if config.head == "fixed_conv":
            self.classify = nn.Conv2d(dim // 2, 1, 3, padding=1)
        else:
            self.kernel = nn.Linear(width, 9 * (dim // 2) + 1)

    def _fusion(self, stage: int, word_dim: int) -> nn.Module | None:
        config, channels = self.config, self.config.swin.channels[stage - 1]
        if stage not in config.fusion_stages:
            return None
        return (
            VLF(channels, word_dim)
            if config.fusion == "vlf"
            else PWAM(channels, word_dim, config.fusion_heads[stage - 1])
        )

    def _queries(self, word_dim: int, calibrating: bool) -> nn.Module:
        config = self.config
        shape = (config.neck[1], config.grid, config.num_queries, word_dim, config.scale_queries)
        return ReleasedMapQueries(*shape) if config.qgm == "released" else MapQueries(*shape, positions=calibrating)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to the Swin stages up to the first fusion, of the image padded to a multiple of 32."""
        padded = self.encoder.encode_image(pad_to_multiple(pixels, 32))
        return ImageFeatures(padded.maps, (pixels.shape[-2], pixels.shape[-1]))

    def encode_text(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        """(T, L) tokens to words (T, L, J) and, where anything reads it, the sentence (T, J)."""
        missing = max(0, self.config.padded_tokens - tokens.shape[1])
        tokens, mask = F.pad(tokens, (0, missing), value=PAD), F.pad(mask, (0, missing))
        words = self.text_encoder(tokens, mask).words
        to_sentence = self.pooler if self.sentence_in is None else self.sentence_in
        sentence = None if to_sentence is None else to_sentence(words[:, 0])
        return TextFeatures(words if self.word_in is None else self.word_in(words), mask, sentence)

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, h, w) logits.

        Details are `word_attention` (T, Q, L), the words that each of the first queries is made of;
        `word_attention_by_layer` (T, 1 + calibrations, Q, L), the same for them and for what calibrates them after each
        layer; `query_maps` (T, Q, g_h, g_w), what each of the first queries asks with, and `query_maps_by_layer`
        (T, 1 + calibrations, Q, g_h, g_w); and `fusion_attention_N` (T, L, H_N, W_N) of every stage N with a fusion,
        the words that its pixels read.
        """
        shown: dict[str, Tensor] = {}
        maps, _ = self.encoder(image, text, image_index, shown if details else None)
        if self.config.finer_neck:
            maps = [maps[0], maps[1], torch.cat([maps[2], double(maps[3])], 1)]
        fused = self.neck(self.neck.project(*maps), text.sentence if self.config.neck_text else None)  # F_v
        stride = 2 if self.config.finer_neck else 4
        decoded, queries, made = self._decode(fused, text, to_end=self.training or details)
        logits = self._head(decoded, text)
        aux: dict[str, Tensor] = {}
        if self.training and self.recon is not None:
            rebuilt, target = self.recon(queries, text.words, text.mask, text.sentence)
            aux = {"reconstructed": rebuilt, "reconstruction_target": target}
        if details:
            asked_with = crop_logits(torch.stack([one.maps for one in made], 1), image.size, 4 * stride)
            shown |= {
                "word_attention": made[0].attention,
                "word_attention_by_layer": torch.stack([one.attention for one in made], 1),
                "query_maps": asked_with[:, 0],
                "query_maps_by_layer": asked_with,
            }
        return Output(crop_logits(logits, image.size, stride), aux, shown)

    def _decode(self, fused: Tensor, text: TextFeatures, to_end: bool) -> tuple[Tensor, Tensor, list[Generated]]:
        """The calibration decoder: pixels read the queries, and the queries are made anew from what came out.

        Args:
            fused: (T, D, g_h, g_w) F_v.
            text: The words.
            to_end: Whether anything reads the queries behind the last layer.

        Returns:
            Pixels (T, D, g_h, g_w), the last queries (T, Q, D), and every generation of queries.
        """
        config, size = self.config, (fused.shape[2], fused.shape[3])
        made = [self.generate(fused, text.words, text.mask)]
        queries = made[0].queries  # (T, Q, D)
        at = sine_plane(size, fused.shape[1], fused)
        query_at = sine_line(config.num_queries, fused.shape[1], fused)
        x = fused.flatten(2).transpose(1, 2)  # (T, P, D)
        for n, block in enumerate(self.blocks):
            for layer in cast(nn.ModuleList, block):
                x = layer(x, at, queries, query_at, None)
            if config.extra_norms:
                x = self.block_norms[n](x)
            if n < len(self.calibrate) and (to_end or n + 1 < config.dec_layers):
                made.append(self.calibrate[n](x.transpose(1, 2).unflatten(2, size), text.words, text.mask))
                queries = self._calibrated(n, queries, made[-1].queries)
        return x.transpose(1, 2).unflatten(2, size), queries, made

    def _calibrated(self, n: int, queries: Tensor, anew: Tensor) -> Tensor:
        """The queries (T, Q, D) behind layer n: eq. 12's sum with those of before, or the new ones alone."""
        if self.alpha is None or n >= len(self.alpha):
            return anew
        return self.alpha[n] * anew + queries

    def _head(self, decoded: Tensor, text: TextFeatures) -> Tensor:
        """(T, D, g_h, g_w) decoded pixels to log-odds (T, 1, h, w), with four times as many cells a side."""
        features = self.upsampler(decoded)  # (T, D / 2, h, w)
        if self.config.head == "fixed_conv":
            return self.classify(features)
        return dynamic_conv(features, self.kernel(text.sentence)[:, None])

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy, in training the reconstruction loss (eq. 13-14), and the optional Dice term."""
        config = self.config
        terms = mask_losses(output.logits, targets, config.loss_resolution, 1.0, config.dice_weight)
        terms["seg"] = config.loss_scale * terms.pop("pixel_text")
        if "reconstructed" in output.aux:
            target = at_least_float32(output.aux["reconstruction_target"])
            target = target.detach() if config.recon_detach_target else target
            terms["reconstruction"] = config.recon_weight * F.mse_loss(
                at_least_float32(output.aux["reconstructed"]), target
            )
        return terms

    @property
    def inert(self) -> dict[str, str]:
        """Biases that a softmax or a norm takes out again, and what this configuration leaves without effect."""
        found = super().inert
        if self.config.encoder_output == "residual_ln":
            norms = "*" if self.config.neck_style == "printed" else 2  # CRIS's 3x3 kernels see the border
            found[f"encoder.norms.{norms}.bias"] = "moves all cells alike, which the neck's first batch norm takes out"
        only_recon = not (self.config.neck_text or self.config.head == "sentence_kernel")  # reads the sentence
        if self.recon is not None and self.config.recon_detach_target:
            detached = "only the target reads it, which is detached"
            found |= {"recon.project.*": detached, "recon.sentence_in.*": detached}
            if only_recon:
                found["sentence_in.*"] = detached
        elif self.config.recon == "released" and only_recon:
            found["sentence_in.bias"] = "taken out by the batch norm of the reconstruction"
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        found = {pattern: why for pattern, why in found.items() if any(fnmatch(name, pattern) for name in names)}
        if self.config.num_queries == 1:
            found["blocks.*.cross_norm.*"] = "attention to a single key is 1 whatever the scores"
        return found
