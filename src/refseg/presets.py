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
from refseg.losses import CMICConfig
from refseg.methods.alignformer import AlignFormerConfig
from refseg.methods.lavt import LAVTConfig
from refseg.methods.lgformer import LGFormerConfig


@dataclass(frozen=True)
class Recipe:
    """How a preset is trained.

    Attributes:
        steps: Optimiser steps.
        images_per_batch: Images of a step.
        expressions_per_image: At most this many expressions of an image in one step; 1 in the papers, of a reference.
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
        encoders: Published encoder weights and their tokenizer; None for presets that learn from scratch with the
            packaged word pieces.
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
    source: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PAPER_INPUT = InputConfig(size=(480, 480), max_tokens=20, **IMAGENET)
COMPACT_INPUT = InputConfig(size=(128, 128), max_tokens=28, **IMAGENET)

# Swin-B with window 12 (LAVT, LGFormer sec. 4.2).
SWIN_B = SwinConfig(128, (2, 2, 18, 2), (4, 8, 16, 32), window=12, patch=4, mlp_ratio=4.0, drop_path=0.3)
# Swin-S with window 7 (AlignFormer sec. 4.2, for its ablations).
SWIN_S = SwinConfig(96, (2, 2, 18, 2), (3, 6, 12, 24), window=7, patch=4, mlp_ratio=4.0, drop_path=0.3)
BERT_BASE = BertConfig(
    vocab=30522, width=768, layers=12, heads=12, ffn=3072, positions=512, dropout=0.1, trained_layers=12,
    train_embeddings=False,
)  # fmt: skip
SWIN_S_BERT = Encoders("microsoft/swin-small-patch4-window7-224", "google-bert/bert-base-uncased")
SWIN_B_BERT = Encoders("microsoft/swin-base-patch4-window12-384-in22k", "google-bert/bert-base-uncased")

# LGFormer sec. 4.2: AdamW, 5e-5, weight decay 0.01, polynomial decay, 40 epochs of 42,404 references, batch 32.
PAPER_RECIPE = Recipe(
    steps=40 * 1325, images_per_batch=32, expressions_per_image=1, lr=5e-5, weight_decay=0.01, warmup=0, power=0.9,
    clip=0.0, select="oIoU",
)  # fmt: skip
COMPACT_RECIPE = Recipe(
    steps=6500, images_per_batch=16, expressions_per_image=2, lr=1e-3, weight_decay=0.01, warmup=200, power=0.9,
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
    source="LGFormer Table 1 (and the last rows of Tables 2 and 4 to 6)",
    scores={
        "refcoco val oIoU": 74.69, "refcoco testA oIoU": 77.81, "refcoco testB oIoU": 70.66,
        "refcoco+ val oIoU": 65.69, "refcoco+ testA oIoU": 71.53, "refcoco+ testB oIoU": 57.89,
        "refcocog-umd val oIoU": 63.72, "refcocog-umd test oIoU": 65.18, "referit test oIoU": 75.80,
        "refcoco+ val mIoU": 69.44, "refcoco+ val P@0.5": 78.96, "refcoco+ val P@0.7": 71.30,
        "refcoco+ val P@0.9": 33.35,
    },
)  # fmt: skip


ALIGNFORMER = Preset(
    name="alignformer",
    method="alignformer",
    model=AlignFormerConfig(
        swin=SWIN_B,
        bert=BERT_BASE,
        fusion="vlba",
        fusion_heads=(1, 1, 1, 1),
        chain_words=True,
        encoder_output="updated",
        pixel_decoder=replace(LGFORMER.model.pixel_decoder, l2va=False),
        head="prototype",
        decoder=PrototypeConfig(layers=6, heads=8, ffn=2048, self_attention=False),
        loss_resolution="stride4",
        pos_weight=1.0,
        deep_supervision=False,
        dice_weight=0.0,
        # Sec. 4.2: lambda 0.5, M 20. What the paper leaves open: anchors once per image, no gradient through lambda.
        cmic=CMICConfig(0.5, 20, reduce="sum", sample="image", detach_weights=True, detach_anchors=False),
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
)  # fmt: skip

LAVT = Preset(
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
)  # fmt: skip


@cache
def shapes_tokenizer() -> Tokenizer:
    """The packaged word pieces: every word of RefShapes, and letters for all others."""
    from refseg.data.shapes import VOCABULARY

    return small_wordpiece(VOCABULARY)


def _compact() -> list[Preset]:
    """The compact versions: small widths, and what helps from scratch on small targets (named in each note)."""
    swin = SwinConfig(24, (2, 2, 4, 1), (2, 4, 6, 8), window=8, patch=4, mlp_ratio=4.0, drop_path=0.0)
    bert = BertConfig(
        vocab=shapes_tokenizer().size, width=96, layers=3, heads=4, ffn=384, positions=COMPACT_INPUT.max_tokens,
        dropout=0.0, trained_layers=3, train_embeddings=True,
    )  # fmt: skip
    pixel_decoder = replace(
        LGFORMER.model.pixel_decoder, width=64, layers=3, heads=4, ffn=256, mask_features="fpn", l2va_ffn_width=256,
        max_tokens=COMPACT_INPUT.max_tokens,
    )  # fmt: skip
    decoder = PrototypeConfig(layers=3, heads=4, ffn=384, self_attention=False)
    fpn = "Differs from the paper beyond its widths: stride-4 features by FPN, loss at full size, Dice term."
    models = {
        "lgformer": (
            replace(
                LGFORMER.model, swin=swin, bert=bert, pixel_decoder=pixel_decoder, prototype=decoder,
                loss_resolution="full", dice_weight=1.0,
            ),
            fpn,
        ),
        "alignformer": (
            replace(
                ALIGNFORMER.model, swin=swin, bert=bert, pixel_decoder=replace(pixel_decoder, l2va=False),
                decoder=decoder, loss_resolution="full", dice_weight=1.0,
            ),
            fpn,
        ),
        "lavt": (
            replace(LAVT.model, swin=swin, bert=bert, dice_weight=1.0),
            "Differs from the paper beyond its widths: Dice term.",
        ),
    }  # fmt: skip
    return [
        Preset(
            name=f"{method}-shapes", method=method, model=model, input=COMPACT_INPUT, recipe=COMPACT_RECIPE,
            encoders=None, source=f"{method}, small widths, on RefShapes", note=note,
        )
        for method, (model, note) in models.items()
    ]  # fmt: skip


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

# AlignFormer's ablations are on RefCOCO with Swin-S; P@0.5 P@0.7 P@0.9 oIoU mIoU of val, testA and testB as printed.
_ALIGNFORMER_ROWS: dict[str, tuple[dict[str, Any], tuple[tuple[float, ...], ...], str, str]] = {
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
        "Table 3", "Implausibly low for late fusion; not a target.",
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
    compact = {preset.method: preset for preset in _compact()}
    released = replace(
        LGFORMER, name="lgformer-released", model=override(LGFORMER.model, _LGFORMER_RELEASED), scores={},
        source="LGFormer's released code", note="The released code's choices where they differ.",
    )  # fmt: skip
    every = [ALIGNFORMER, LGFORMER, LAVT, released, *compact.values()]
    for row, (changes, scores, table, note) in _LGFORMER_ROWS.items():
        printed = {f"refcoco+ val {metric}": number for metric, number in scores.items()}
        every += _row(LGFORMER, compact["lgformer"], row, changes, printed, f"LGFormer {table}", note)
    swin_s = replace(ALIGNFORMER, model=replace(ALIGNFORMER.model, swin=SWIN_S), encoders=SWIN_S_BERT)
    for row, (changes, numbers, table, note) in _ALIGNFORMER_ROWS.items():
        printed = {
            f"refcoco {split} {metric}": number
            for split, of_split in zip(("val", "testA", "testB"), numbers, strict=True)
            for metric, number in zip(("P@0.5", "P@0.7", "P@0.9", "oIoU", "mIoU"), of_split, strict=True)
        }
        small = compact["alignformer"] if changes else None  # compact has one backbone: no row of its own
        every += _row(swin_s, small, row, changes, printed, f"AlignFormer {table}", note)
    return {preset.name: preset for preset in every}


def _row(
    paper: Preset,
    small: Preset | None,
    row: str,
    changes: Mapping[str, Any],
    scores: Mapping[str, float],
    source: str,
    note: str,
) -> list[Preset]:
    """One row of an ablation table in paper size, and in compact size where there is one; only the first has scores."""
    made = []
    for base, printed in ((paper, scores), (small, {})):
        if base is not None:
            model = override(base.model, changes)
            name = f"{base.name}/{row}"
            made.append(replace(base, name=name, model=model, source=source, scores=printed, note=note))
    return made


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in presets():
        raise ValueError(f"preset {name!r}: unknown; accepted are {', '.join(presets())}")
    return presets()[name]
