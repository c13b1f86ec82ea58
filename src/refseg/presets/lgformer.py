"""LGFormer (arXiv 2301.06429 v3): its numbers, and the rows of its Tables 2 and 4 to 6."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refseg.layers.pixel_decoder import PixelDecoderConfig
from refseg.layers.prototype import PrototypeConfig
from refseg.methods.lgformer import LGFormerConfig
from refseg.presets.base import (
    BERT_BASE,
    COMPACT_DECODER,
    COMPACT_FPN_NOTE,
    PAPER_INPUT,
    PAPER_RECIPE,
    SWIN_B,
    SWIN_B_BERT,
    Preset,
    ablation,
    compact_bert,
    compact_pixel_decoder,
    compact_preset,
    compact_swin,
    override,
    printed,
)


def by_length(scores: tuple[float, float, float, float]) -> dict[str, float]:
    """Table 3: oIoU on RefCOCO+ val of expressions of 1 or 2, 3 to 7, 8 to 12, and 13 or more words."""
    return printed("refcoco+", tuple(f"val:{words}-words oIoU" for words in ("1-2", "3-7", "8-12", "13+")), scores)


PAPER = Preset(
    name="lgformer",
    method="lgformer",
    model=LGFormerConfig(
        swin=SWIN_B,
        bert=BERT_BASE,
        fusion="vlba",
        fusion_heads=(1, 1, 1, 1),
        chain_words=True,
        encoder_output="updated",
        pixel_decoder=PixelDecoderConfig(
            width=256, layers=6, heads=8, points=4, ffn=1024, mask_features="bilinear", mask_conv=False, l2va=True,
            l2va_input="words", l2va_ffn="one", l2va_ffn_width=2048, max_tokens=20,
        ),
        query="linguistic",
        num_queries=1,
        merge_hidden=64,
        v2la=True,
        generator=PrototypeConfig(layers=6, heads=8, ffn=2048, self_attention=False),
        head_bias=False,
        loss_resolution="stride4",
        pos_weight=1.0,
        deep_supervision=False,
        dice_weight=0.0,
    ),
    input=PAPER_INPUT,
    recipe=PAPER_RECIPE,
    encoders=SWIN_B_BERT,
    source="LGFormer Table 1 (and the last rows of Tables 2 and 4 to 6, the first of 3)",
    scores={
        "refcoco val oIoU": 74.69, "refcoco testA oIoU": 77.81, "refcoco testB oIoU": 70.66,
        "refcoco+ val oIoU": 65.69, "refcoco+ testA oIoU": 71.53, "refcoco+ testB oIoU": 57.89,
        "refcocog-umd val oIoU": 63.72, "refcocog-umd test oIoU": 65.18, "referit test oIoU": 75.80,
        "refcoco+ val mIoU": 69.44, "refcoco+ val P@0.5": 78.96, "refcoco+ val P@0.7": 71.30,
        "refcoco+ val P@0.9": 33.35,
        **by_length((75.86, 65.33, 54.61, 50.81)),
    },
    data="refcoco",
    epochs=40,
)  # fmt: skip


# Fields of the row's config that differ from the default, the printed scores, and their table.
ROWS: dict[str, tuple[dict[str, Any], dict[str, float], str, str]] = {
    "query-learnable-1": ({"query": "learnable"}, {}, "Table 2", ""),
    "query-learnable-10": (
        {"query": "learnable", "num_queries": 10},
        {"P@0.5": 77.37, "P@0.7": 69.64, "P@0.9": 31.96, "oIoU": 64.26, "mIoU": 68.14}, "Table 2",
        "Masks merged by a 3-layer MLP; its hidden width 64 is ours. Table 3 does not say which learnable queries it "
        "means: ten, as the better ones.",
    ),
    "baseline-pwam": (
        {"fusion": "pwam", "pixel_decoder.l2va": False, "v2la": False}, {"oIoU": 63.91, "mIoU": 67.47}, "Table 4", "",
    ),
    "vlba-only": (
        {"pixel_decoder.l2va": False, "v2la": False}, {"oIoU": 64.81, "mIoU": 68.68}, "Table 4", "",
    ),
    "without-v2la": ({"v2la": False}, {"oIoU": 65.22, "mIoU": 68.75}, "Table 4", ""),
    "layers-3": (
        {"pixel_decoder.layers": 3, "generator.layers": 3}, {"oIoU": 65.31, "mIoU": 69.02}, "Table 5",
        "Layers of the pixel decoder and of the prototype generator.",
    ),
    "l2va-sentence": ({"pixel_decoder.l2va_input": "sentence"}, {"oIoU": 65.36, "mIoU": 68.93}, "Table 6", ""),
}  # fmt: skip
UNUSABLE = {
    "query-learnable-1": "Our copy of the paper lacks the numbers of this row (only a P@0.9 of 29.37 is legible): no "
    "target."
}

RELEASED = {
    "encoder_output": "residual_ln", "pixel_decoder.mask_features": "fpn", "pixel_decoder.mask_conv": True,
    "pixel_decoder.l2va_ffn": "two",
    "head_bias": True, "loss_resolution": "full", "pos_weight": 1.1, "deep_supervision": True,
}  # fmt: skip


def presets() -> list[Preset]:
    """The paper, its released code, the compact version, and every row in both sizes."""
    released = replace(
        PAPER, name="lgformer-released", model=override(PAPER.model, RELEASED), scores={},
        source="LGFormer's released code", note="The released code's choices where they differ.",
    )  # fmt: skip
    model = replace(
        PAPER.model,
        swin=compact_swin(),
        bert=compact_bert(),
        pixel_decoder=compact_pixel_decoder(PAPER.model.pixel_decoder),
        generator=COMPACT_DECODER,
        loss_resolution="full",
        dice_weight=1.0,
    )  # fmt: skip
    compact = compact_preset("lgformer", model, COMPACT_FPN_NOTE)
    every = [PAPER, released, compact]
    # The ablations are on RefCOCO+, with 42,278 references.
    plus = replace(PAPER, recipe=replace(PAPER_RECIPE, steps=40 * 1321), data="refcoco+")
    for row, (changes, scores, table, note) in ROWS.items():
        numbers = {f"refcoco+ val {metric}": number for metric, number in scores.items()}
        if row == "query-learnable-10":
            numbers |= by_length((75.20, 64.11, 51.64, 43.13))
        every.append(ablation(plus, row, changes, f"LGFormer {table}", numbers, note, UNUSABLE.get(row, "")))
        every.append(ablation(compact, row, changes, f"LGFormer {table}", note=note))
    return every
