"""What a preset is, and the numbers that several papers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from refseg.checked import Checked
from refseg.data.transforms import InputConfig
from refseg.encoders.bert import BertConfig
from refseg.encoders.clip import ClipResNetConfig, ClipTextConfig, ClipViTConfig
from refseg.encoders.swin import SwinConfig
from refseg.encoders.tokenizer import Tokenizer, small_wordpiece
from refseg.layers.pixel_decoder import PixelDecoderConfig
from refseg.layers.prototype import PrototypeConfig


@dataclass(frozen=True)
class Recipe(Checked):
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

    least = {"warmup": 0}

    steps: int
    images_per_batch: int
    expressions_per_image: int
    lr: float
    weight_decay: float
    warmup: int
    power: float
    clip: float
    select: Literal["oIoU", "mIoU"]

    def __post_init__(self) -> None:
        """Refuses numbers with which nothing is learned.

        Raises:
            ValueError: Names the number and what is accepted.
        """
        super().__post_init__()
        for name in ("lr", "power"):
            if not getattr(self, name):
                raise ValueError(f"Recipe: {name} {getattr(self, name)}: a positive number is accepted")


@dataclass(frozen=True)
class Encoders:
    """Where the weights are that a preset's encoders start from; what a method does not use is empty.

    Attributes:
        swin: Hub id of the Swin checkpoint.
        bert: Hub id of the BERT checkpoint and its tokenizer.
        clip: Hub id of the CLIP checkpoint with both towers.
        clip_tokenizer: Hub id of a repository with CLIP's tokenizer, for checkpoints that come without one.
        packaged: Names of the packaged encoders whose towers a compact version starts from.
    """

    swin: str = ""
    bert: str = ""
    clip: str = ""
    clip_tokenizer: str = ""
    packaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """A method with all its numbers.

    Attributes:
        name: Name of the preset.
        method: Key of `refseg.methods.METHODS`.
        model: The method's config.
        input: What the model wants to see.
        recipe: How it is trained.
        encoders: What the encoders start from; None for presets that learn from scratch. Compact versions read the
            packaged word pieces, the others the tokenizer of their encoders.
        source: Table of the paper that the row is from.
        scores: The paper's scores, in percent as printed, by "data split metric".
        note: What a reader should know about the row.
        data: Data set of the row; the steps are `epochs` times its training references. Empty for compact versions.
        epochs: Passes over the references; 0 where the recipe is ours and counts steps.
        by_data: Settings, by data set, that the paper has for that one alone.
        unusable: Why the printed score is no target, a sentence of `note`; empty where it is one.
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
    data: str = ""
    epochs: int = 0
    by_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unusable: str = ""

    @property
    def compact(self) -> bool:
        """Whether it is a compact version, or a row of one: for RefShapes, with the packaged word pieces."""
        return self.name.split("/")[0].endswith("-shapes")

    @property
    def own_words(self) -> bool:
        """Whether it learns its own words, rather than those of published encoders."""
        return self.encoders is None or bool(self.encoders.packaged)


PAPER_INPUT = InputConfig(  # LAVT: ImageNet's statistics
    size=(480, 480), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), max_tokens=20, resize="squash",
)  # fmt: skip
COMPACT_INPUT = replace(PAPER_INPUT, size=(128, 128), max_tokens=28)

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


@dataclass(frozen=True)
class ClipTowers:
    """The two towers of one CLIP.

    Attributes:
        vision: The image tower.
        text: The text tower.
        encoders: Where its published weights are; None for towers that learn from scratch.
    """

    vision: ClipResNetConfig | ClipViTConfig
    text: ClipTextConfig
    encoders: Encoders | None


def _clip_text(width: int, heads: int, joint: int) -> ClipTextConfig:
    return ClipTextConfig(vocab=49408, width=width, layers=12, heads=heads, joint=joint, positions=77)


CLIP_TOKENIZER = "openai/clip-vit-base-patch32"
CLIP_RN50 = ClipTowers(
    ClipResNetConfig((3, 4, 6, 3), width=64, heads=32, joint=1024, grid=7), _clip_text(512, 8, 1024),
    Encoders(clip="timm/resnet50_clip.openai", clip_tokenizer=CLIP_TOKENIZER),
)  # fmt: skip
CLIP_RN101 = ClipTowers(
    ClipResNetConfig((3, 4, 23, 3), width=64, heads=32, joint=512, grid=7), _clip_text(512, 8, 512),
    Encoders(clip="timm/resnet101_clip.openai", clip_tokenizer=CLIP_TOKENIZER),
)  # fmt: skip
CLIP_VIT_B16 = ClipTowers(
    ClipViTConfig(width=768, layers=12, heads=12, patch=16, joint=512, grid=14), _clip_text(512, 8, 512),
    Encoders(clip="openai/clip-vit-base-patch16", clip_tokenizer=CLIP_TOKENIZER),
)  # fmt: skip
CLIP_VIT_L14 = ClipTowers(
    ClipViTConfig(width=1024, layers=24, heads=16, patch=14, joint=768, grid=24), _clip_text(768, 12, 768),
    Encoders(clip="openai/clip-vit-large-patch14-336", clip_tokenizer=CLIP_TOKENIZER),
)  # fmt: skip
CLIP_INPUT = InputConfig(  # CRIS: CLIP's statistics, the image's shape kept; each paper sets its size and its tokens
    size=(416, 416), mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), max_tokens=17,
    resize="letterbox",
)  # fmt: skip

# LGFormer sec. 4.2: AdamW, 5e-5, weight decay 0.01, polynomial decay, 40 epochs of 42,404 references, batch 32. As in
# LAVT's code, an epoch has whole batches only; so for all papers.
PAPER_RECIPE = Recipe(
    steps=40 * 1325, images_per_batch=32, expressions_per_image=1, lr=5e-5, weight_decay=0.01, warmup=0, power=0.9,
    clip=0.0, select="oIoU",
)  # fmt: skip
COMPACT_DECODER = PrototypeConfig(layers=3, heads=4, ffn=384, self_attention=False)
COMPACT_FPN_NOTE = "Differs from the paper beyond its widths: stride-4 features by FPN, loss at full size, Dice term."
ROW_METRICS = ("mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9")  # of EAVL's and CRFormer's ablations
COMPACT_SWIN_BERT = Encoders(packaged=("swin-shapes", "bert-shapes"))  # `refseg pretrain` made them
COMPACT_CLIP = Encoders(packaged=("clip-shapes",))
COMPACT_RECIPE = Recipe(
    steps=6500, images_per_batch=16, expressions_per_image=2, lr=1e-3, weight_decay=0.01, warmup=200, power=0.9,
    clip=1.0, select="mIoU",
)  # fmt: skip


@cache
def shapes_tokenizer() -> Tokenizer:
    """The packaged word pieces: every word of RefShapes, and letters for all others."""
    from refseg.data.shapes import VOCABULARY

    return small_wordpiece(VOCABULARY)


@cache
def shapes_clip_tokenizer() -> Tokenizer:
    """The same word pieces between CLIP's special tokens, for the compact versions that follow CLIP."""
    from refseg.data.shapes import VOCABULARY

    return small_wordpiece(VOCABULARY, clip=True)


def compact_tokenizer(preset: Preset, texts: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer of a preset that learns its own words: those of RefShapes and of its training sentences.

    Args:
        preset: One with `own_words`.
        texts: The sentences; none for RefShapes.
    """
    known = shapes_clip_tokenizer() if _text_field(preset) == "text" else shapes_tokenizer()
    return known.with_words(texts)


def with_vocabulary(preset: Preset, tokenizer: Tokenizer) -> Preset:
    """The preset with as many word vectors as the tokenizer has words, if it learns its own words; else as it is."""
    if not preset.own_words:
        return preset
    return replace(preset, model=override(preset.model, {f"{_text_field(preset)}.vocab": tokenizer.size}))


def _text_field(preset: Preset) -> str:
    """Where a method's config has its text encoder: CLIP's under `text`, BERT under `bert`."""
    return "text" if hasattr(preset.model, "text") else "bert"


def compact_swin() -> SwinConfig:
    """The vision encoder of the compact versions."""
    return SwinConfig(24, (2, 2, 4, 1), (2, 4, 6, 8), window=8, patch=4, mlp_ratio=4.0, drop_path=0.0)


def compact_bert() -> BertConfig:
    """The text encoder of the compact versions."""
    return BertConfig(
        vocab=shapes_tokenizer().size, width=96, layers=3, heads=4, ffn=384, positions=COMPACT_INPUT.max_tokens,
        dropout=0.0, trained_layers=3, train_embeddings=True,
    )  # fmt: skip


def compact_pixel_decoder(paper: PixelDecoderConfig) -> PixelDecoderConfig:
    """The pixel decoder of the compact versions: small widths, and an FPN for small targets."""
    return replace(
        paper, width=64, layers=3, heads=4, ffn=256, mask_features="fpn", mask_conv=True, l2va_ffn_width=256,
        max_tokens=COMPACT_INPUT.max_tokens,
    )  # fmt: skip


def compact_clip(side: int) -> ClipTowers:
    """The two towers of the compact versions that follow CLIP, for square inputs."""
    text = ClipTextConfig(
        vocab=shapes_tokenizer().size, width=96, layers=3, heads=4, joint=96, positions=COMPACT_INPUT.max_tokens
    )
    return ClipTowers(ClipResNetConfig((1, 2, 2, 1), width=12, heads=6, joint=96, grid=side // 32), text, None)


def compact_preset(method: str, model: Any, note: str) -> Preset:
    """The compact version of a method: `model` in small widths, for RefShapes.

    All of a family start from the same packaged encoders, as the papers start from ImageNet and BERT, or from CLIP.

    Args:
        method: Key of `refseg.methods.METHODS`.
        model: Its config.
        note: How it differs from the paper beyond its widths.
    """
    source = f"{method}, small widths, on RefShapes"
    encoders = COMPACT_SWIN_BERT if hasattr(model, "swin") else COMPACT_CLIP
    return Preset(f"{method}-shapes", method, model, COMPACT_INPUT, COMPACT_RECIPE, encoders, source, note=note)


def printed(where: str, metrics: tuple[str, ...], numbers: tuple[float, ...]) -> dict[str, float]:
    """Scores as a preset holds them: the numbers of one table row, of the data set and split `where`."""
    return {f"{where} {metric}": number for metric, number in zip(metrics, numbers, strict=True)}


def override(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a config with some fields replaced, all at once; a dotted key reaches into a nested config.

    Raises:
        ValueError: A key names no field, or the config refuses the new values.
    """
    values: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    accepted = getattr(config, "__dataclass_fields__", {})
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if head not in accepted:
            has = ", ".join(accepted)
            raise ValueError(f"config key {key!r}: {type(config).__name__} has no field {head!r}; it has {has}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            values[head] = value
    for head, inner in nested.items():
        values[head] = override(values.get(head, getattr(config, head)), inner)
    return replace(config, **values)


def ablation(
    base: Preset,
    row: str,
    changes: Mapping[str, Any],
    source: str = "",
    scores: Mapping[str, float] | None = None,
    note: str = "",
    unusable: str = "",
) -> Preset:
    """The row BASE/ROW of an ablation table: a preset with some fields of its model replaced, and the row's scores.

    A row of a compact version also keeps the note that says how it differs from the paper. Why a printed score is no
    target ends the note.
    """
    model = override(base.model, changes)
    name, source = f"{base.name}/{row}", source or base.source
    if base.compact:
        note = f"{base.note} {note}".strip()
    note = f"{note} {unusable}".strip()
    return replace(base, name=name, model=model, source=source, scores=scores or {}, note=note, unusable=unusable)
