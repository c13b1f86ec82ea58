"""Named configurations. Every number that comes from a paper stands here, with the paper's score beside it.

`METHOD` is the paper, `METHOD-released` its published code where that differs, `METHOD-shapes` the compact version that
learns RefShapes on a laptop, `METHOD/ROW` a row of the paper's ablation tables, also for the compact version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from refseg.data.transforms import InputConfig
from refseg.encoders.bert import BertConfig
from refseg.encoders.swin import SwinConfig
from refseg.encoders.tokenizer import Tokenizer, small_wordpiece
from refseg.layers.pixel_decoder import PixelDecoderConfig
from refseg.layers.prototype import PrototypeConfig
from refseg.methods.lgformer import LGFormerConfig


@dataclass(frozen=True)
class Recipe:
    """How a preset is trained.

    Attributes:
        steps: Optimiser steps.
        images_per_batch: Images of a step.
        expressions_per_image: At most this many expressions of an image in one step; the papers use 1.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        warmup: Steps over which the rate grows from 0; the papers have none.
        power: The rate falls as (1 - step / steps) ** power.
        clip: Largest norm of the gradient; 0 is no limit, as in the papers.
        select: Score on the validation split that decides which weights are kept as the best.
    """

    steps: int
    images_per_batch: int
    expressions_per_image: int
    lr: float
    weight_decay: float
    warmup: int
    power: float
    clip: float
    select: Literal["oIoU", "mIoU"]


@dataclass(frozen=True)
class Encoders:
    """Where the published weights of a preset's encoders are.

    Attributes:
        swin: Hub id of the Swin checkpoint.
        bert: Hub id of the BERT checkpoint and its tokenizer.
    """

    swin: str
    bert: str


@dataclass(frozen=True)
class Preset:
    """A method with all its numbers.

    Attributes:
        name: Name of the preset.
        method: Key of `refseg.methods.METHODS`.
        model: The method's config.
        input: What the model wants to see.
        recipe: How it is trained.
        encoders: Published encoder weights, None for presets that learn from scratch.
        tokenizer: "refshapes" for the packaged word pieces, "published" for the one of the text encoder.
        source: Table of the paper that the row is from.
        scores: The paper's scores, in percent as printed, by "data split metric".
        note: What a reader should know about the row.
    """

    name: str
    method: str
    model: Any
    input: InputConfig
    recipe: Recipe
    encoders: Encoders | None
    tokenizer: Literal["refshapes", "published"]
    source: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PAPER_INPUT = InputConfig(size=(480, 480), max_tokens=20, **IMAGENET)
COMPACT_INPUT = InputConfig(size=(128, 128), max_tokens=28, **IMAGENET)

# Swin-B with window 12 (LAVT, LGFormer sec. 4.2).
SWIN_B = SwinConfig(128, (2, 2, 18, 2), (4, 8, 16, 32), window=12, patch=4, mlp_ratio=4.0, drop_path=0.3)
BERT_BASE = BertConfig(
    vocab=30522, width=768, layers=12, heads=12, ffn=3072, positions=512, dropout=0.1, trained_layers=12,
    train_embeddings=False,
)  # fmt: skip
SWIN_B_BERT = Encoders("microsoft/swin-base-patch4-window12-384-in22k", "google-bert/bert-base-uncased")

# LGFormer sec. 4.2: AdamW, 5e-5, weight decay 0.01, polynomial decay, 40 epochs of 42,404 references, batch 32.
PAPER_RECIPE = Recipe(
    steps=40 * 1325, images_per_batch=32, expressions_per_image=1, lr=5e-5, weight_decay=0.01, warmup=0, power=0.9,
    clip=0.0, select="oIoU",
)  # fmt: skip
COMPACT_RECIPE = Recipe(
    steps=7000, images_per_batch=16, expressions_per_image=2, lr=1e-3, weight_decay=0.01, warmup=200, power=0.9,
    clip=1.0, select="mIoU",
)  # fmt: skip

LGFORMER = Preset(
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
            width=256, layers=6, heads=8, points=4, ffn=1024, mask_features="bilinear", l2va=True, l2va_input="words",
            l2va_ffn="one", l2va_ffn_width=2048, max_tokens=20,
        ),
        query="linguistic",
        num_queries=1,
        merge_hidden=64,
        v2la=True,
        prototype=PrototypeConfig(layers=6, heads=8, ffn=2048, self_attention=False),
        head_bias=False,
        loss_resolution="stride4",
        pos_weight=1.0,
        deep_supervision=False,
        dice_weight=0.0,
    ),
    input=PAPER_INPUT,
    recipe=PAPER_RECIPE,
    encoders=SWIN_B_BERT,
    tokenizer="published",
    source="LGFormer Table 1 (and the last rows of Tables 2 and 4 to 6)",
    scores={
        "refcoco val oIoU": 74.69, "refcoco testA oIoU": 77.81, "refcoco testB oIoU": 70.66,
        "refcoco+ val oIoU": 65.69, "refcoco+ testA oIoU": 71.53, "refcoco+ testB oIoU": 57.89,
        "refcocog-umd val oIoU": 63.72, "refcocog-umd test oIoU": 65.18, "referit test oIoU": 75.80,
        "refcoco+ val mIoU": 69.44, "refcoco+ val P@0.5": 78.96, "refcoco+ val P@0.7": 71.30,
        "refcoco+ val P@0.9": 33.35,
    },
)  # fmt: skip


@cache
def shapes_tokenizer() -> Tokenizer:
    """The packaged word pieces: every word of RefShapes, and letters for all others."""
    from refseg.data.shapes import VOCABULARY

    return small_wordpiece(VOCABULARY)


def _lgformer_shapes() -> Preset:
    paper: LGFormerConfig = LGFORMER.model
    model = replace(
        paper,
        swin=SwinConfig(24, (2, 2, 4, 1), (2, 4, 6, 8), window=8, patch=4, mlp_ratio=4.0, drop_path=0.0),
        bert=BertConfig(
            vocab=shapes_tokenizer().size, width=96, layers=3, heads=4, ffn=384, positions=COMPACT_INPUT.max_tokens,
            dropout=0.0, trained_layers=3, train_embeddings=True,
        ),
        pixel_decoder=replace(
            paper.pixel_decoder, width=64, layers=3, heads=4, ffn=256, mask_features="fpn", l2va_ffn_width=256,
            max_tokens=COMPACT_INPUT.max_tokens,
        ),
        prototype=replace(paper.prototype, layers=3, heads=4, ffn=384),
        loss_resolution="full",
        dice_weight=1.0,
    )  # fmt: skip
    return Preset(
        name="lgformer-shapes",
        method="lgformer",
        model=model,
        input=COMPACT_INPUT,
        recipe=COMPACT_RECIPE,
        encoders=None,
        tokenizer="refshapes",
        source="LGFormer, small widths, on RefShapes",
        note="Differs from the paper beyond its widths: stride-4 features by FPN, loss at full size, Dice term.",
    )


# Fields of the row's config that differ from the default, the printed scores, and their table.
_LGFORMER_ROWS: dict[str, tuple[dict[str, Any], dict[str, float], str, str]] = {
    "query-learnable-1": (
        {"query": "learnable"}, {}, "Table 2",
        "The printed numbers of this row are lost (only a P@0.9 of 29.37 survives): no target.",
    ),
    "query-learnable-10": (
        {"query": "learnable", "num_queries": 10},
        {"P@0.5": 77.37, "P@0.7": 69.64, "P@0.9": 31.96, "oIoU": 64.26, "mIoU": 68.14}, "Table 2",
        "Masks merged by a 3-layer MLP; its hidden width 64 is ours.",
    ),
    "baseline-pwam": (
        {"fusion": "pwam", "pixel_decoder.l2va": False, "v2la": False}, {"oIoU": 63.91, "mIoU": 67.47}, "Table 4", "",
    ),
    "vlba-only": (
        {"pixel_decoder.l2va": False, "v2la": False}, {"oIoU": 64.81, "mIoU": 68.68}, "Table 4", "",
    ),
    "without-v2la": ({"v2la": False}, {"oIoU": 65.22, "mIoU": 68.75}, "Table 4", ""),
    "layers-3": (
        {"pixel_decoder.layers": 3, "prototype.layers": 3}, {"oIoU": 65.31, "mIoU": 69.02}, "Table 5",
        "Layers of the pixel decoder and of the prototype generator.",
    ),
    "l2va-sentence": ({"pixel_decoder.l2va_input": "sentence"}, {"oIoU": 65.36, "mIoU": 68.93}, "Table 6", ""),
}  # fmt: skip

_LGFORMER_RELEASED = {
    "encoder_output": "residual_ln", "pixel_decoder.mask_features": "fpn", "pixel_decoder.l2va_ffn": "two",
    "head_bias": True, "loss_resolution": "full", "pos_weight": 1.1, "deep_supervision": True,
}  # fmt: skip


def override(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a config with some fields replaced; a dotted key reaches into a nested config.

    Raises:
        ValueError: A key names no field.
    """
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if head not in getattr(config, "__dataclass_fields__", {}):
            accepted = ", ".join(getattr(config, "__dataclass_fields__", {}))
            raise ValueError(f"config key {key!r}: {type(config).__name__} has no field {head!r}; it has {accepted}")
        config = replace(config, **{head: override(getattr(config, head), {rest: value}) if rest else value})
    return config


@cache
def presets() -> dict[str, Preset]:
    """All presets by name."""
    compact = _lgformer_shapes()
    every = [LGFORMER, compact]
    every.append(
        replace(
            LGFORMER, name="lgformer-released", model=override(LGFORMER.model, _LGFORMER_RELEASED), scores={},
            source="LGFormer's released code", note="The released code's choices where they differ.",
        )
    )  # fmt: skip
    for base in (LGFORMER, compact):
        for row, (changes, scores, table, note) in _LGFORMER_ROWS.items():
            if base is compact:
                scores = {}
            every.append(
                replace(
                    base, name=f"{base.name}/{row}", model=override(base.model, changes), source=f"LGFormer {table}",
                    scores={f"refcoco+ val {metric}": number for metric, number in scores.items()}, note=note,
                )
            )  # fmt: skip
    return {preset.name: preset for preset in every}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in presets():
        raise ValueError(f"preset {name!r}: unknown; accepted are {', '.join(presets())}")
    return presets()[name]
