"""EAVL: explicitly align vision and language (arXiv 2308.09779).

CLIP encodes image and sentence; a neck joins three scales of pixels with the sentence (sec. 3.1). Maps of the image
alone ask which words matter, each in its own way, and so become queries (sec. 3.2). The pixels read the queries in a
transformer decoder, and every query turns into a 3x3 convolution kernel that draws a mask of its own. An estimator says
how much each of these masks counts (sec. 3.3).

B images, T expressions, L words, P pixels at stride 16, Q queries, D width of the decoder, J joint width of CLIP, h and
w a quarter of the network size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.encoders.clip import ClipResNet, ClipResNetConfig, ClipText, ClipTextConfig, ClipViT, ClipViTConfig
from refseg.geometry import crop_logits, pad_to_multiple
from refseg.layers.heads import UpsamplerStyle, dynamic_conv, upsampler
from refseg.layers.neck import NeckStyle, check_widths, conv_norm_relu, double, fusion_neck
from refseg.layers.pixel_transformer import PixelTransformer
from refseg.layers.positions import sine_line, sine_plane
from refseg.layers.queries import QueryGeneration
from refseg.losses import Resolution, mask_losses
from refseg.methods.base import ClipSegmenter
from refseg.types import ImageFeatures, Output, TextFeatures


@dataclass(frozen=True)
class EAVLConfig(Checked):
    """Everything that can be switched in EAVL. The paper's values are in `refseg.presets.eavl`.

    Attributes:
        vision: CLIP's image tower, a ModifiedResNet or a vision transformer.
        text: CLIP's text tower.
        grid: (rows, columns) of the stride-16 map at the configured size; eq. 9's W_vd has one row per cell of it. For
            other sizes the maps are resized to it (ours: the paper has one size).
        finer_neck: Whether the neck reads layers 1 and 2 and the attention pool's map enlarged twice, instead of layers
            2 and 3 and that map: for small pictures, not in the paper. What comes behind, and `grid`, is twice as fine.
        neck: Widths of F_v2, F_v3 and F_v4 (strides 8, 16 and 32); the middle one is D, the last one that of F_vg.
        neck_style: "printed" is eq. 2 to 6 as they stand, with the same F_v2 to F_v4 for both necks; "cris" is the neck
            of CRIS, which projects CLIP's maps itself.
        share_necks: Whether the text-free neck of eq. 6 has the weights of the fusion neck. Open in the paper; ours is
            separate ones, since batch statistics with and without text differ.
        pool_residual: Whether CRIS's residual branch around the attention pool is there; not in the paper.
        num_queries: N_q, the number of queries (Table 2).
        global_vision: Whether the image's global feature colours the words (eq. 8, Table 4); if not, the words are
            ReLU(F_t W_t) alone, eq. 8 without its second factor (ours; "directly use the F_t" could also mean F_t).
        matrix_bias: Whether the matrices of eq. 8, and the one that makes F_vg, have biases; none is printed.
        scale_queries: Whether eq. 9 divides by the root of D. Not in the paper; the text's ReLU'd products are large.
        decoder_layers: Layers of the transformer decoder. Open in the paper; CRIS has 3.
        heads: Attention heads of the decoder and the estimator.
        ffn: Hidden width of the decoder's feed-forward networks.
        dropout: Dropout of the decoder.
        extra_norms: Whether the decoder has CRIS's additional LayerNorms; the paper's is "a standard transformer
            decoder".
        upsampler: "printed" is eq. 11's plain convolution between two enlargements, "single" the same with batch norm
            and ReLU, "cris" the stack of CRIS, which ends in a plain 1x1 convolution.
        aligner: "dynamic" turns queries into kernels; "fixed" is one learned kernel without estimator (Table 3).
        kernel_relu: Whether the kernels pass a ReLU, as eq. 11 prints; about a third of the log-odds are negative at
            the start (docs/methods.md). With "single" features, which end in one as well, none could be, and everything
            would be foreground.
        estimator: What weighs the masks (eq. 13): "attention" is self-attention and a linear layer, "lean" puts Linear
            and ReLU in front, one head with sine positions, and a LayerNorm behind; "off" adds the masks up (Table
            4). A
            single query has none, since its score would always be 1.
        head_lr_mult: How much faster than CLIP's towers everything else learns; 1 in the paper.
        loss_resolution: "stride4" compares at the masks' resolution (CRIS), "full" enlarges the logits first.
        dice_weight: Weight of an added Dice term; 0 in the paper.
    """

    vision: ClipResNetConfig | ClipViTConfig
    text: ClipTextConfig
    grid: tuple[int, int]
    finer_neck: bool
    neck: tuple[int, int, int]
    neck_style: NeckStyle
    share_necks: bool
    pool_residual: bool
    num_queries: int
    global_vision: bool
    matrix_bias: bool
    scale_queries: bool
    decoder_layers: int
    heads: int
    ffn: int
    dropout: float
    extra_norms: bool
    upsampler: UpsamplerStyle
    aligner: Literal["dynamic", "fixed"]
    kernel_relu: bool
    estimator: Literal["attention", "lean", "off"]
    head_lr_mult: float
    loss_resolution: Resolution
    dice_weight: float

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            ValueError: No query, layer or cell, a width that cannot be split, an estimator with nothing to weigh, a
                ReLU without kernels to pass it, or a residual branch without attention pool.
        """
        super().__post_init__()
        check_widths(self.grid, self.neck, self.heads)
        if self.head_lr_mult <= 0:
            raise ValueError(f"head_lr_mult {self.head_lr_mult}: a positive number is accepted")
        if self.aligner == "fixed" and self.kernel_relu:
            raise ValueError("kernel_relu with the fixed kernel: there are no kernels from queries; off is accepted")
        if self.aligner == "fixed" and self.estimator != "off":
            raise ValueError(
                f"estimator {self.estimator!r} with the fixed kernel: there is one mask; accepted is 'off'"
            )
        if self.finer_neck and isinstance(self.vision, ClipViTConfig):
            raise ValueError("finer_neck with a vision transformer: its one map has no finer one")
        if self.pool_residual and isinstance(self.vision, ClipViTConfig):
            raise ValueError("pool_residual with a vision transformer: there is no attention pool to bypass")


class ResNetScales(nn.Module):
    """The three scales that the neck reads, from CLIP's ModifiedResNet (sec. 3.1).

    Attributes:
        channels: Channels of strides 8, 16 and 32, or of half these strides.
    """

    def __init__(self, config: ClipResNetConfig, residual: bool, finer: bool) -> None:
        super().__init__()
        c2, c3, c4, c5 = config.channels
        self.finer = finer
        self.channels = (c2, c3, config.joint) if finer else (c3, c4, config.joint)
        self.residual = None
        if residual:
            self.residual = nn.Sequential(nn.Conv2d(c5, config.joint, 1, bias=False), nn.BatchNorm2d(config.joint))

    def forward(self, encoder: ClipResNet, pixels: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """(B, 3, H, W) to x_2, x_3 and z of eq. 1 (strides 8, 16, 32, or half), and the pooled vector (B, J)."""
        found = encoder(pixels)
        assert found.spatial is not None and found.pooled is not None
        spatial = found.spatial
        if self.residual is not None:
            spatial = F.relu(spatial + self.residual(found.stages[3]))
        if self.finer:
            return (found.stages[0], found.stages[1], double(spatial)), found.pooled
        return (found.stages[1], found.stages[2], spatial), found.pooled


def tokens_at_stride_16(tokens: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """(B, J, a, b) tokens of `patch` pixels, read bilinearly at the centres of 16-pixel cells: (B, J, *size)."""
    if patch == 16:
        return tokens
    rows, columns = (
        (torch.arange(cells, device=tokens.device) + 0.5) * 16 / (patch * have) * 2 - 1
        for cells, have in zip(size, tokens.shape[2:], strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (*size, 2) as (x, y)
    grid = grid.to(tokens.dtype).expand(tokens.shape[0], -1, -1, -1)
    return F.grid_sample(tokens, grid, mode="bilinear", padding_mode="border", align_corners=False)


class ViTScales(nn.Module):
    """The same from a vision transformer: three convolutions on its tokens (sec. 3.1; their shapes are ours).

    Attributes:
        channels: Channels of strides 8, 16 and 32.
    """

    def __init__(self, joint: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.channels = widths
        # Without biases: the neck's batch norms would take them out.
        self.to8 = nn.ConvTranspose2d(joint, widths[0], 2, stride=2, bias=False)
        self.to16 = nn.Conv2d(joint, widths[1], 3, padding=1, bias=False)
        self.to32 = nn.Conv2d(joint, widths[2], 3, padding=1, stride=2, bias=False)

    def forward(self, encoder: ClipViT, pixels: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """(B, 3, H, W) to maps of strides 8, 16, 32, and the class token (B, J)."""
        patch, size = encoder.config.patch, (pixels.shape[2] // 16, pixels.shape[3] // 16)
        tokens, pooled = encoder(pad_to_multiple(pixels, patch))  # no pixel is left out
        tokens = tokens_at_stride_16(tokens, patch, size)
        return (self.to8(tokens), self.to16(tokens), self.to32(tokens)), pooled


class QueryEstimator(nn.Module):
    """How much each query's mask counts (eq. 13)."""

    def __init__(self, dim: int, heads: int, lean: bool) -> None:
        super().__init__()
        self.lean = lean
        self.prepare = nn.Sequential(nn.Linear(dim, dim), nn.ReLU()) if lean else nn.Identity()
        self.attention = nn.MultiheadAttention(dim, 1 if lean else heads, batch_first=True)
        self.norm = nn.LayerNorm(dim) if lean else nn.Identity()
        self.score = nn.Linear(dim, 1, bias=False)  # a bias would add the same to all scores of the softmax

    def forward(self, queries: Tensor) -> Tensor:
        """(T, Q, D) to scores (T, Q) that sum to 1."""
        x = self.prepare(queries)
        at = x + sine_line(x.shape[1], x.shape[2], x) if self.lean else x
        x = self.norm(self.attention(at, at, x, need_weights=False)[0])
        return self.score(x)[..., 0].softmax(-1)


class EAVL(ClipSegmenter):
    """EAVL; see the module's first lines for what it does."""

    def __init__(self, config: EAVLConfig) -> None:
        super().__init__()
        self.config, self.head_lr_mult = config, config.head_lr_mult
        dim, joint = config.neck[1], config.vision.joint
        self.text_encoder = ClipText(config.text)
        self.encoder: ClipResNet | ClipViT
        self.scales: ResNetScales | ViTScales
        if isinstance(config.vision, ClipResNetConfig):
            self.encoder = ClipResNet(config.vision)
            self.scales = ResNetScales(config.vision, config.pool_residual, config.finer_neck)
        else:
            self.encoder = ClipViT(config.vision)
            self.scales = ViTScales(joint, config.neck)
        channels = self.scales.channels
        self.to_widths = None
        if config.neck_style == "printed" and isinstance(config.vision, ClipResNetConfig):
            matrices = (nn.Conv2d(*pair, 1, bias=False) for pair in zip(channels, config.neck, strict=True))
            self.to_widths = nn.ModuleList(matrices)  # F_v2 to F_v4; the convolutions on a ViT's tokens make them
            channels = config.neck
        self.neck = fusion_neck(config.neck_style, channels, config.neck, config.text.joint)
        self.dense_neck = None if config.share_necks else fusion_neck(config.neck_style, channels, config.neck, None)
        self.to_maps = nn.Sequential(  # eq. 7
            conv_norm_relu(dim, dim, 3), conv_norm_relu(dim, dim, 3), nn.Conv2d(dim, config.num_queries, 3, padding=1)
        )
        self.word_in = nn.Linear(config.text.width, dim, bias=config.matrix_bias)  # W_t
        if config.global_vision:
            self.global_out = nn.Linear(joint, config.neck[2], bias=config.matrix_bias)  # F_vg
            self.global_in = nn.Linear(config.neck[2], dim, bias=config.matrix_bias)  # W_vg
        self.generate = QueryGeneration(config.grid, dim, dim, config.scale_queries)
        self.decoder = PixelTransformer(
            config.decoder_layers, dim, config.heads, config.ffn, config.dropout, config.extra_norms
        )
        width = dim // 2  # C_p
        self.upsampler = upsampler(dim, width, config.upsampler)
        if config.aligner == "dynamic":
            self.kernel = nn.Linear(dim, 9 * width + 1)  # W_p
        else:
            self.fixed_kernel = nn.Conv2d(width, 1, 3, padding=1)
        self.estimator = None
        if config.estimator != "off" and config.num_queries > 1:  # a softmax over one score is 1
            self.estimator = QueryEstimator(dim, config.heads, config.estimator == "lean")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Maps, words and log-odds start of the size 1.

        Two factors of eq. 8 and two of eq. 9 multiply. With torch's own start, a third of that size each, all queries
        are the same to the sixth digit, and what tells them apart (estimator, maps) does not learn.
        """
        nn.init.kaiming_normal_(cast(nn.Conv2d, self.to_maps[-1]).weight, nonlinearity="linear")
        nn.init.kaiming_normal_(self.word_in.weight, nonlinearity="relu")
        if self.config.global_vision:
            nn.init.kaiming_normal_(self.global_out.weight, nonlinearity="linear")
            with torch.no_grad():  # pooled features are smaller than 1, those of a ResNet most of all
                self.global_out.weight *= 8 if isinstance(self.encoder, ClipResNet) else 3
            nn.init.kaiming_normal_(self.global_in.weight, nonlinearity="relu")
        if self.config.aligner == "dynamic":
            taps, dim = self.kernel.weight.shape
            nn.init.normal_(self.kernel.weight, std=(dim * taps) ** -0.5)
            nn.init.zeros_(self.kernel.bias)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to all that is free of text: the neck's three maps, the maps of the queries, and F_vg."""
        size = (pixels.shape[-2], pixels.shape[-1])
        scales, pooled = self.scales(self.encoder, pad_to_multiple(pixels, 32))
        if self.to_widths is not None:
            fine, middle, deep = (matrix(x) for matrix, x in zip(self.to_widths, scales, strict=True))
            scales = fine, middle, deep
        projected = self.neck.project(*scales)
        if self.dense_neck is None:
            dense = self.neck(projected, None)
        else:
            dense = self.dense_neck(self.dense_neck.project(*scales), None)
        maps = {f"neck{i}": x for i, x in enumerate(projected)} | {"queries": self.to_maps(dense)}
        return ImageFeatures(maps | {"pooled": pooled}, size)

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, h, w) logits.

        Details are `query_masks` (T, Q, h, w) and `query_scores` (T, Q), whose weighted sum the logits are, and
        `word_attention` (T, Q, L).
        """
        assert text.sentence is not None
        maps = {name: x[image_index] for name, x in image.maps.items()}
        fused = self.neck((maps["neck0"], maps["neck1"], maps["neck2"]), text.sentence)  # (T, D, H/16, W/16), F_inte
        grid = (fused.shape[2], fused.shape[3])
        words = F.relu(self.word_in(text.words))
        if self.config.global_vision:
            words = words * F.relu(self.global_in(self.global_out(maps["pooled"])))[:, None]  # eq. 8, F_tv (T, L, D)
        queries, attention = self.generate(maps["queries"], words, text.mask)  # eq. 9-10, F_q (T, Q, D)
        pixels = self.decoder(
            fused.flatten(2).transpose(1, 2),  # (T, P, D), F_vt
            sine_plane(grid, fused.shape[1], fused),
            queries,
            sine_line(queries.shape[1], queries.shape[2], queries),
            None,
        )
        features = self.upsampler(pixels.transpose(1, 2).unflatten(2, grid))  # (T, D / 2, h, w), F_p
        if self.config.aligner == "fixed":
            masks = self.fixed_kernel(features)
            scores = torch.ones_like(masks[:, :, 0, 0])
        else:
            kernels = self.kernel(queries)
            masks = dynamic_conv(features, F.relu(kernels) if self.config.kernel_relu else kernels)  # eq. 12
            scores = torch.ones_like(masks[:, :, 0, 0]) if self.estimator is None else self.estimator(queries)
        masks = crop_logits(masks, image.size, 2 if self.config.finer_neck else 4)  # (T, Q, h, w)
        logits = torch.einsum("tq,tqhw->thw", scores, masks)[:, None]  # eq. 14
        shown = {"query_masks": masks, "query_scores": scores, "word_attention": attention} if details else {}
        return Output(logits, {}, shown)

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy of the weighted sum (sec. 3.3), and the optional Dice term."""
        return mask_losses(output.logits, targets, self.config.loss_resolution, 1.0, self.config.dice_weight)

    @property
    def inert(self) -> dict[str, str]:
        """Biases that a softmax or a norm takes out again, and what this configuration leaves without effect."""
        found = super().inert
        if isinstance(self.encoder, ClipResNet) and not (self.config.global_vision or self.config.pool_residual):
            norm = "the same at every pixel, taken out by the neck's batch norms"
            found |= {f"encoder.attnpool.{name}_proj.bias": norm for name in "vc"}
        if self.estimator is not None:
            last = "norm" if self.estimator.lean else "attention.out_proj"
            found[f"estimator.{last}.bias"] = "adds the same to all scores of a softmax"
        if self.config.num_queries == 1:
            found["decoder.layers.*.cross_norm.*"] = "attention to a single key is 1 whatever the scores"
        return found
