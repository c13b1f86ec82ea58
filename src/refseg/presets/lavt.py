"""LAVT (Yang et al., CVPR 2022), the baseline of all five papers, with the scores that its repository reports."""

from __future__ import annotations

from dataclasses import replace

from refseg.methods.lavt import LAVTConfig
from refseg.presets.base import (
    BERT_BASE,
    PAPER_INPUT,
    PAPER_RECIPE,
    SWIN_B,
    SWIN_B_BERT,
    Preset,
    compact_bert,
    compact_preset,
    compact_swin,
)

PAPER = Preset(
    name="lavt",
    method="lavt",
    model=LAVTConfig(
        swin=SWIN_B,
        bert=replace(BERT_BASE, trained_layers=10),
        fusion_heads=(1, 1, 1, 1),
        class_weights=(0.9, 1.1),
        dice_weight=0.0,
    ),
    input=PAPER_INPUT,
    recipe=PAPER_RECIPE,
    encoders=SWIN_B_BERT,
    source="LAVT, the baseline of all five papers",
    scores={
        "refcoco val oIoU": 72.73, "refcoco val mIoU": 74.46, "refcoco testA mIoU": 76.89, "refcoco testB mIoU": 70.94,
        "refcoco+ val mIoU": 65.81, "refcoco+ testA mIoU": 70.97, "refcoco+ testB mIoU": 59.23,
        "refcocog-umd val mIoU": 63.34, "refcocog-umd test mIoU": 63.62,
    },
    data="refcoco",
    epochs=40,
)  # fmt: skip


def presets() -> list[Preset]:
    """The paper and the compact version."""
    model = replace(PAPER.model, swin=compact_swin(), bert=compact_bert(), dice_weight=1.0)
    note = "Differs from the paper beyond its widths: Dice term."
    return [PAPER, compact_preset("lavt", model, note)]
