"""A Swin Transformer whose stages meet the words: the encoder of AlignFormer, LGFormer, CRFormer and LAVT.

B images, T expressions, P pixels of a stage, L words, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from refseg.geometry import crop_logits
from refseg.layers.fusion import VLBA, Fused
from refseg.types import ImageFeatures, TextFeatures

if TYPE_CHECKING:
    from refseg.encoders.swin import Swin

EncoderOutput = Literal["updated", "residual_ln", "residual"]


# Layers of the fusion modules whose bias is the same for every pixel when it reaches an instance norm.
_BEFORE_NORM = ("word_value", "value")
_GATES = ("gate", "pixel_gate", "word_gate")


class FusedSwin(nn.Module):
    """Runs a Swin with one fusion module per stage, after the stage's last block and before its patch merging.

    The blocks up to the first fusion do not depend on the text: `encode_image` computes them once per image and
    `forward` goes on for every expression.

    Args:
        swin: The vision backbone.
        fusions: One fusion module per stage, None where a stage has none.
        chain_words: Whether a stage's updated words feed the next stage; otherwise all read the text encoder's.
        output: What leaves the encoder: "updated" is V' and L' as the papers write; "residual_ln" is LayerNorm(V_m) and
            the last stage's L_m, as LAVT's and LGFormer's released code does; "residual" is V_m and L_m themselves.
            A stage without fusion emits its map in their place.
        first_emitted: First stage that is emitted, counted from 0; what is never read is not gathered for every
            expression.
    """

    def __init__(
        self,
        swin: Swin,
        fusions: Sequence[nn.Module | None],
        chain_words: bool,
        output: EncoderOutput,
        first_emitted: int = 0,
    ) -> None:
        super().__init__()
        if len(fusions) != swin.stages:
            raise ValueError(f"{len(fusions)} fusion modules for {swin.stages} stages: one per stage is needed")
        self.swin = swin
        self.fusions = nn.ModuleList(nn.Identity() if f is None else f for f in fusions)
        self.chain_words, self.output, self.first_emitted = chain_words, output, first_emitted
        fused = [stage for stage, fusion in enumerate(fusions) if fusion is not None]
        # The blocks of these stages see no word: up to the first stage that fuses, as fusion comes behind the blocks.
        self.text_free_stages = min(fused, default=swin.stages - 1) + 1
        norms = swin.config.channels[first_emitted:] if output == "residual_ln" else ()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in norms)

    @property
    def inert(self) -> dict[str, str]:
        """Names below this module of parameters that cannot learn, with the reason; see `Segmenter.inert`."""
        softmax, norm = "adds the same to all scores of a softmax", "taken out by the instance norm behind it"
        found = {"swin.*.attention.self.key.bias": softmax}
        found |= {f"fusions.*.{name}.bias": norm for name in _BEFORE_NORM}
        for i, fusion in enumerate(self.fusions):
            if not (isinstance(fusion, VLBA) and fusion.update_words):
                found[f"fusions.{i}.key.bias"] = softmax
        if self.output != "updated":
            last = len(self.fusions) - 1
            found |= {f"fusions.{last}.{gate}.*": "only the residual leaves the last stage" for gate in _GATES}
        names = [name for name, _ in self.named_parameters()]
        return {pattern: reason for pattern, reason in found.items() if any(fnmatch(name, pattern) for name in names)}

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to the maps `stage1`, ... of all stages up to the first fusion, before any word."""
        x, size = self.swin.embed(pixels)
        maps = {}
        for stage in range(self.text_free_stages):
            if stage > 0:
                x, size = self.swin.merge(stage - 1, x, size)
            x = self.swin.blocks(stage, x, size)
            maps[f"stage{stage + 1}"] = x.transpose(1, 2).unflatten(2, size)
        return ImageFeatures(maps, (pixels.shape[-2], pixels.shape[-1]))

    def forward(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        image_index: Tensor,
        shown: dict[str, Tensor] | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Fuses T expressions with the images they ask about.

        Args:
            image: What `encode_image` gave; its size is the image's without any padding.
            text: The words.
            image_index: (T,) which image each expression asks about.
            shown: Takes, if given, `fusion_attention_N` (T, L, H_N, W_N) of every stage N with a fusion: how much of
                what each pixel read is each word.

        Returns:
            One map (T, C_i, H_i, W_i) per stage from `first_emitted` on, and the words (T, L, D) that leave
            the encoder.
        """
        words, out_words, maps = text.words, text.words, []
        for stage, fusion in enumerate(self.fusions):
            text_free, emits = stage < self.text_free_stages, stage >= self.first_emitted
            if not emits and stage + 1 < self.text_free_stages:
                continue  # the next stage goes on from what `encode_image` kept
            if text_free:
                shared = image.maps[f"stage{stage + 1}"][image_index]  # (T, C, H, W)
                size = (shared.shape[2], shared.shape[3])
                x = shared.flatten(2).transpose(1, 2)  # (T, P, C)
            else:
                x, size = self.swin.merge(stage - 1, x, size)
                x = self.swin.blocks(stage, x, size)
            emitted = x
            if not isinstance(fusion, nn.Identity):
                fused: Fused = fusion(x, words, text.mask, shown is not None)
                x = emitted = fused.pixels
                out_words = fused.words
                if self.output != "updated":
                    emitted, out_words = fused.pixel_residual, fused.word_residual
                if self.chain_words:
                    words = fused.words
                if shown is not None:
                    assert fused.attention is not None
                    read = fused.attention.transpose(1, 2).unflatten(2, size)
                    stride = self.swin.config.patch * 2**stage
                    shown[f"fusion_attention_{stage + 1}"] = crop_logits(read, image.size, stride)
            if not emits:
                continue
            if self.output == "residual_ln":
                emitted = self.norms[stage - self.first_emitted](emitted)
            maps.append(emitted.transpose(1, 2).unflatten(2, size))
        return maps, out_words
