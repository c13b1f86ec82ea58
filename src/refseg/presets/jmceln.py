"""JMCELN (EMNLP 2023): its numbers, and the rows of its Table 2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refseg.encoders.clip import ClipResNetConfig
from refseg.methods.jmceln import JMCELNConfig
from refseg.presets.base import (
    CLIP_INPUT,
    CLIP_RN101,
    COMPACT_INPUT,
    ClipTowers,
    Preset,
    Recipe,
    ablation,
    compact_clip,
    compact_preset,
    printed,
)


def _resnet(towers: ClipTowers) -> ClipResNetConfig:
    """The image tower, which has to be a ModifiedResNet here."""
    assert isinstance(towers.vision, ClipResNetConfig)
    return towers.vision


PAPER = Preset(
    name="jmceln",
    method="jmceln",
    # Sec. 4: ResNet-101, C 1024, n 6, Q 20, 8 heads. Ours: slope, window (52 = 4 x 13), dilations, and what is off.
    model=JMCELNConfig(
        vision=_resnet(CLIP_RN101),
        text=CLIP_RN101.text,
        c5="layer4",
        width=1024,
        heads=8,
        slope=0.1,
        lsran=True,
        window=13,
        dilations=(1, 3, 6, 9),
        boundary_sigmoid=False,
        stages=6,
        embeddings=20,
        share_stages=False,
        sine_positions=False,
        lce_adaptive=True,
        pan=True,
        head_lr_mult=1.0,
        dice_weight=0.0,
    ),
    input=replace(CLIP_INPUT, size=(416, 416), max_tokens=30),
    # Sec. 4: AdamW, 6e-6, polynomial decay, 60 epochs of 42,404 references, batch 20. The weight decay is ours.
    recipe=Recipe(
        steps=60 * 2120, images_per_batch=20, expressions_per_image=1, lr=6e-6, weight_decay=0.01, warmup=0, power=0.9,
        clip=0.0, select="mIoU",
    ),
    encoders=CLIP_RN101.encoders,
    source="JMCELN Tables 1 and 3 (and row 5 of Table 2)",
    scores={
        "refcoco val mIoU": 74.40, "refcoco testA mIoU": 77.69, "refcoco testB mIoU": 70.43,
        "refcoco+ val mIoU": 66.99, "refcoco+ testA mIoU": 72.69, "refcoco+ testB mIoU": 57.34,
        "refcocog-umd val mIoU": 64.08, "refcocog-umd test mIoU": 64.99,
        "refcoco testB P@0.5": 79.88, "refcoco testB P@0.9": 31.54,
        "refcoco+ testA P@0.5": 83.74, "refcoco+ testA P@0.9": 29.71,
        "refcoco+ testB P@0.5": 64.31, "refcoco+ testB P@0.9": 24.34,
    },
    note=(
        "The least determined of the papers: we found no code, and had its text without the figures, which hold "
        "window, kernel sizes and dilations. Those, the layers of the upsampling, the batch norms of LSRAN, the slope, "
        "letterboxing, CLIP's image statistics and the weight decay are ours. The words are encoded but never used: "
        "language enters only as the sentence in the neck. Filters without a sigmoid can amplify as well as reduce. "
        "The RefCOCOg scores are called UNC partition, which does not exist; they are taken for umd."
    ),
    data="refcoco",
    epochs=60,
)  # fmt: skip


# Fields that differ from the full model, Table 2's mIoU, P@0.5 and P@0.9 on RefCOCO testB, and a note.
ROWS: dict[str, tuple[dict[str, Any], tuple[float, float, float], str]] = {
    "baseline": ({"lsran": False, "stages": 0}, (62.57, 70.11, 23.73), "Encoders, neck and upsampling (row 1)."),
    "lsran-only": ({"stages": 0}, (68.03, 77.53, 27.36), "Row 2."),
    "cascade-only": (
        {"lsran": False, "pan": False}, (69.23, 78.08, 29.54),
        "Row 3. That it has no LSRAN follows from the text: its gain of approximately 7 % is the one over row 1 (over "
        "row 2 it would be 1.2), and row 4 is introduced as combining the two.",
    ),
    "without-pan": ({"pan": False}, (69.46, 78.86, 30.56), "Row 4."),
    "without-adaptive": (
        {"lce_adaptive": False}, (69.11, 77.60, 29.22),
        "Row 6: the embeddings of every stage gather from the map of stage 0. That PAN stays and that the embeddings "
        "still add up over the stages is ours.",
    ),
}  # fmt: skip


def presets() -> list[Preset]:
    """The paper, the compact version, and every row in both sizes; the full model is row 5."""
    towers = compact_clip(COMPACT_INPUT.size[0])
    model = replace(
        PAPER.model, vision=_resnet(towers), text=towers.text, width=64, window=8, stages=3, embeddings=8,
        dice_weight=1.0,
    )  # fmt: skip
    note = (
        "Differs from the paper beyond its widths: 3 stages, 8 embeddings, windows of 8, Dice term; squashed images, "
        "ImageNet's statistics, 28 tokens."
    )
    compact = compact_preset("jmceln", model, note)
    every = [PAPER, compact]
    for row, (changes, numbers, note) in ROWS.items():
        scores = printed("refcoco testB", ("mIoU", "P@0.5", "P@0.9"), numbers)
        every.append(ablation(PAPER, row, changes, "JMCELN Table 2", scores, note))
        every.append(ablation(compact, row, changes, "JMCELN Table 2", note=note))
    return every
