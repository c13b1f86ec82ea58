"""EAVL (arXiv 2308.09779): its numbers, and the rows of its Tables 1 to 4."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refseg.encoders.clip import ClipViTConfig
from refseg.methods.eavl import EAVLConfig
from refseg.presets.base import (
    CLIP_INPUT,
    CLIP_RN50,
    CLIP_RN101,
    CLIP_VIT_B16,
    CLIP_VIT_L14,
    COMPACT_INPUT,
    ROW_METRICS,
    ClipTowers,
    Preset,
    Recipe,
    ablation,
    compact_clip,
    compact_preset,
    printed,
)

# Sec. 4.1: Adam, which AdamW without weight decay is (none is mentioned), 1e-5, polynomial decay, 100 epochs of 42,404
# references, batch 64.
RECIPE = Recipe(
    steps=100 * 662, images_per_batch=64, expressions_per_image=1, lr=1e-5, weight_decay=0.0, warmup=0, power=0.9,
    clip=0.0, select="mIoU",
)  # fmt: skip
METRIC = (
    "The paper's metric is called IoU; by its definition and its kinship with CRIS it is the mean over expressions at "
    "the image's own size."
)


def _paper(towers: ClipTowers, scores: tuple[float, ...], note: str = "") -> Preset:
    """The main model with one of the backbones of Table 1."""
    model = EAVLConfig(
        vision=towers.vision,
        text=towers.text,
        grid=(30, 30),
        finer_neck=False,
        neck=(256, 512, 1024),
        neck_style="printed",
        share_necks=False,
        pool_residual=False,
        num_queries=24,
        global_vision=True,
        matrix_bias=False,
        scale_queries=False,
        decoder_layers=3,
        heads=8,
        ffn=2048,
        dropout=0.1,
        extra_norms=False,
        upsampler="printed",
        aligner="dynamic",
        kernel_relu=True,
        estimator="attention",
        head_lr_mult=1.0,
        loss_resolution="stride4",
        dice_weight=0.0,
    )
    splits = (
        "refcoco val", "refcoco testA", "refcoco testB", "refcoco+ val", "refcoco+ testA", "refcoco+ testB",
        "refcocog-umd val", "refcocog-umd test",
    )  # fmt: skip
    main = {f"{split} mIoU": score for split, score in zip(splits, scores, strict=True)} if scores else {}
    inputs = replace(CLIP_INPUT, size=(480, 480), max_tokens=17)
    full = f"{METRIC} 17 tokens; 22 for RefCOCOg. {note}".strip()
    by_data = {f"refcocog-{split}": {"input.max_tokens": 22} for split in ("umd", "google")}
    return Preset(
        "eavl", "eavl", model, inputs, RECIPE, towers.encoders, "EAVL Table 1", main, full, "refcoco", 100, by_data
    )


PAPER = _paper(CLIP_RN101, (70.65, 73.81, 66.62, 63.42, 68.26, 54.71, 60.93, 61.24))

FIXED_KERNEL = {"aligner": "fixed", "kernel_relu": False, "estimator": "off"}

# RefCOCO+ testA, RN50, 50 epochs: mIoU, P@0.5, P@0.6, P@0.7, P@0.8, P@0.9 as printed.
ROWS: dict[str, tuple[dict[str, Any], tuple[float, ...], str, str]] = {
    "queries-32": ({"num_queries": 32}, (67.26, 79.45, 75.58, 68.71, 52.65, 14.91), "Table 2", ""),
    "rn50": ({}, (68.14, 80.51, 76.89, 70.22, 52.99, 15.46), "Tables 2 to 4", "24 queries: the full model."),
    "queries-16": ({"num_queries": 16}, (67.59, 79.86, 75.82, 69.03, 52.71, 14.80), "Tables 2 and 3", ""),
    "queries-8": ({"num_queries": 8}, (66.85, 78.69, 75.03, 68.05, 52.55, 14.83), "Tables 2 and 3", ""),
    "queries-4": ({"num_queries": 4}, (66.13, 78.08, 74.39, 68.54, 52.12, 14.29), "Table 2", ""),
    "queries-2": ({"num_queries": 2}, (65.80, 77.53, 74.19, 68.13, 51.87, 14.39), "Table 2", ""),
    "queries-1": ({"num_queries": 1}, (65.42, 76.62, 72.73, 66.26, 51.41, 13.84), "Table 2", ""),
    "fixed-kernel": (
        FIXED_KERNEL, (66.75, 78.39, 74.54, 68.39, 52.08, 15.08), "Table 3",
        "The whole aligner replaced by convolutions; the queries still feed the decoder.",
    ),
    "fixed-kernel-16": (
        FIXED_KERNEL | {"num_queries": 16}, (66.52, 78.24, 74.85, 67.91, 50.56, 13.87),
        "Table 3", "",
    ),
    "fixed-kernel-8": (
        FIXED_KERNEL | {"num_queries": 8}, (66.09, 77.38, 73.89, 67.05, 49.60, 13.41),
        "Table 3", "",
    ),
    "without-global": (
        {"global_vision": False}, (67.32, 79.22, 75.83, 69.39, 53.48, 14.91), "Table 4", "Eq. 8 reads F_t alone.",
    ),
    "without-estimator": (
        {"estimator": "off"}, (66.69, 78.54, 75.35, 69.03, 52.43, 14.73), "Table 4", "The masks are added up.",
    ),
    "without-global-and-estimator": (
        {"global_vision": False, "estimator": "off"}, (66.17, 77.46, 74.07, 67.91, 51.91, 14.38), "Table 4", "",
    ),
}  # fmt: skip


def presets() -> list[Preset]:
    """The paper with its three backbones, the compact version, and every ablation row in both sizes."""
    note = "The paper says ViT-B without a patch size: B/16."
    vit_b = _paper(CLIP_VIT_B16, (71.74, 74.38, 67.24, 64.05, 68.41, 56.82, 61.87, 62.21), note)
    note = "The paper says ViT-L: L/14 at 336; its 34 x 34 tokens are brought to 30 x 30."
    vit_l = _paper(CLIP_VIT_L14, (75.01, 77.81, 71.59, 68.44, 72.81, 59.86, 66.52, 67.28), note)
    small = compact_clip(COMPACT_INPUT.size[0])
    compact = compact_preset(
        "eavl",
        replace(
            PAPER.model, vision=small.vision, text=small.text, grid=(16, 16), finer_neck=True, neck=(32, 64, 64),
            pool_residual=True, num_queries=8, scale_queries=True, heads=4, ffn=256, dropout=0.0, kernel_relu=False,
            loss_resolution="full", dice_weight=1.0,
        ),
        "Differs from the paper beyond its widths: a neck from stride 4 on, CRIS's residual branch around the "
        "attention pool, 8 queries, scaled scores in eq. 9, no ReLU on the kernels, loss at full size, Dice term; "
        "squashed images, ImageNet's statistics, 28 tokens.",
    )  # fmt: skip
    vit = {
        "vision": ClipViTConfig(width=96, layers=4, heads=4, patch=16, joint=96, grid=8), "grid": (8, 8),
        "finer_neck": False, "pool_residual": False,
    }  # fmt: skip
    every = [PAPER, replace(vit_b, name="eavl/vit-b16"), replace(vit_l, name="eavl/vit-l14"), compact]
    note = "A small vision transformer instead of a ResNet; nothing packaged, it starts from nothing."
    every.append(replace(ablation(compact, "vit", vit, "EAVL Table 1", note=note), encoders=None))
    # 50 epochs of the 42,278 references of RefCOCO+.
    rn50 = replace(_paper(CLIP_RN50, ()), recipe=replace(RECIPE, steps=50 * 660), data="refcoco+", epochs=50)
    for row, (changes, numbers, table, note) in ROWS.items():
        scores = printed("refcoco+ testA", ROW_METRICS, numbers)
        every.append(ablation(rn50, row, changes, f"EAVL {table}", scores, f"{METRIC} {note}".strip()))
        if changes == {"num_queries": 8}:  # the compact version itself; the paper's number is its row
            every.append(ablation(compact, "queries-24", {"num_queries": 24}, f"EAVL {table}"))
        elif changes:  # the compact version has one backbone
            every.append(ablation(compact, row, changes, f"EAVL {table}", note=note))
    return every
