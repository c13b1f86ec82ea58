"""AlignFormer (arXiv 2301.06429 v1): its numbers, and the rows of its Tables 2 to 4."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refseg.layers.pixel_decoder import PixelDecoderConfig
from refseg.layers.prototype import PrototypeConfig
from refseg.losses import CMICConfig
from refseg.methods.alignformer import AlignFormerConfig
from refseg.presets.base import (
    BERT_BASE,
    COMPACT_DECODER,
    COMPACT_FPN_NOTE,
    PAPER_INPUT,
    PAPER_RECIPE,
    SWIN_B,
    SWIN_B_BERT,
    SWIN_S,
    SWIN_S_BERT,
    Preset,
    ablation,
    compact_bert,
    compact_pixel_decoder,
    compact_preset,
    compact_swin,
    printed,
)

PAPER = Preset(
    name="alignformer",
    method="alignformer",
    model=AlignFormerConfig(
        swin=SWIN_B,
        bert=BERT_BASE,
        fusion="vlba",
        fusion_heads=(1, 1, 1, 1),
        chain_words=True,
        encoder_output="updated",
        pixel_decoder=PixelDecoderConfig(
            width=256, layers=6, heads=8, points=4, ffn=1024, mask_features="bilinear", mask_conv=False, l2va=False,
            l2va_input="words", l2va_ffn="one", l2va_ffn_width=2048, max_tokens=20,
        ),
        head="prototype",
        generator=PrototypeConfig(layers=6, heads=8, ffn=2048, self_attention=False),
        loss_resolution="stride4",
        pos_weight=1.0,
        deep_supervision=False,
        dice_weight=0.0,
        # Sec. 4.2: lambda 0.5, M 20. What the paper leaves open: anchors once per image, no gradient through lambda.
        cmic=CMICConfig(
            0.5, 20, similarity="dot", temperature=1.0, reduce="sum", sample="image", detach_weights=True,
            detach_anchors=False,
        ),
    ),
    input=PAPER_INPUT,
    recipe=PAPER_RECIPE,
    encoders=SWIN_B_BERT,
    source="AlignFormer Table 1",
    scores={
        "refcoco val oIoU": 73.73, "refcoco testA oIoU": 77.00, "refcoco testB oIoU": 70.64,
        "refcoco+ val oIoU": 64.55, "refcoco+ testA oIoU": 70.19, "refcoco+ testB oIoU": 56.18,
        "refcocog-umd val oIoU": 63.56, "refcocog-umd test oIoU": 64.83, "refcocog-google val oIoU": 62.12,
    },
    note="The schedule is not in the paper: LGFormer's polynomial decay.",
    data="refcoco",
    epochs=40,
)  # fmt: skip


# AlignFormer's ablations are on RefCOCO with Swin-S; P@0.5 P@0.7 P@0.9 oIoU mIoU of val, testA and testB as printed.
ROWS: dict[str, tuple[dict[str, Any], tuple[tuple[float, ...], ...], str, str]] = {
    "swin-s": (
        {},
        ((84.93, 76.09, 33.00, 72.04, 74.15), (87.59, 79.34, 33.46, 75.34, 76.31), (79.51, 69.05, 33.84, 68.68, 70.88)),
        "Tables 2 to 4", "The full model with the backbone of the ablations.",
    ),
    "pixel-classifier": (
        {"cmic.weight": 0.0, "head": "pixel_classifier"},
        ((83.48, 73.47, 31.65, 70.74, 72.97), (86.95, 78.08, 32.35, 74.75, 75.81), (77.51, 65.65, 32.40, 65.96, 68.83)),
        "Table 2", "No transformer decoder; the contrastive loss needs a prototype and is off.",
    ),
    "no-interaction": (
        {"fusion": "none"},
        ((30.13, 17.08, 2.28, 32.74, 30.83), (34.06, 20.28, 2.51, 34.70, 33.18), (31.71, 19.47, 2.62, 33.19, 31.66)),
        "Table 3", "",
    ),
    "vlua": (
        {"fusion": "vlua"},
        ((84.75, 75.90, 32.58, 71.70, 74.05), (87.45, 79.30, 33.20, 74.32, 76.09), (78.14, 67.81, 33.68, 66.85, 69.79)),
        "Table 3", "Called vision-to-language in the paper, although language-to-vision is what remains.",
    ),
    "without-cmic": (
        {"cmic.weight": 0.0},
        ((83.70, 74.22, 32.26, 71.09, 73.29), (87.06, 78.01, 32.44, 74.24, 75.66), (78.55, 68.81, 34.15, 66.98, 70.07)),
        "Table 4", "",
    ),
}  # fmt: skip
UNUSABLE = {
    "no-interaction": "The printed score is implausibly low for late fusion, with which others reach 60 and more: no "
    "target."
}


def presets() -> list[Preset]:
    """The paper, the compact version, and every row in both sizes; the paper's rows have a smaller backbone."""
    model = replace(
        PAPER.model,
        swin=compact_swin(),
        bert=compact_bert(),
        pixel_decoder=compact_pixel_decoder(PAPER.model.pixel_decoder),
        generator=COMPACT_DECODER,
        loss_resolution="full",
        dice_weight=1.0,
        cmic=replace(PAPER.model.cmic, similarity="cosine", temperature=0.1, reduce="mean"),
    )  # fmt: skip
    note = f"{COMPACT_FPN_NOTE} CMIC compares angles, at temperature 0.1, and averages over the anchors."
    compact = compact_preset("alignformer", model, note)
    every = [PAPER, compact]
    swin_s = replace(PAPER, model=replace(PAPER.model, swin=SWIN_S), encoders=SWIN_S_BERT)
    for row, (changes, numbers, table, note) in ROWS.items():
        scores: dict[str, float] = {}
        for split, of_split in zip(("val", "testA", "testB"), numbers, strict=True):
            scores |= printed(f"refcoco {split}", ("P@0.5", "P@0.7", "P@0.9", "oIoU", "mIoU"), of_split)
        every.append(ablation(swin_s, row, changes, f"AlignFormer {table}", scores, note, UNUSABLE.get(row, "")))
        if changes:  # the compact version has one backbone, so that the full model needs no row of its own
            every.append(ablation(compact, row, changes, f"AlignFormer {table}", note=note))
    return every
