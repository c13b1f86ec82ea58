"""The best, the median and the worst expressions of a split, as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from refseg.data.transforms import InputConfig, content_box, target_of
from refseg.protocols import Protocol
from refseg.scoring.breakdown import outcome_of
from refseg.scoring.metrics import Scored, Scores, iou_of
from refseg.types import Sample, Samples
from refseg.visualize import overlay

SHOWN = 6  # of each
WIDTH = 320  # pixels of a picture at most, in either direction
MaskOf = Callable[[Scored, Sample], tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """One expression as the page shows it.

    Attributes:
        expression: What was asked.
        image_id: Where.
        iou: Of prediction and target.
        outcome: One of `OUTCOMES`.
        predicted: The image with the prediction, as a `data:` address.
        target: The image with the target, as a `data:` address.
    """

    expression: str
    image_id: str
    iou: float
    outcome: str
    predicted: str
    target: str


def choose(scores: Scores, seed: int, count: int = SHOWN) -> dict[str, list[Scored]]:
    """The `best`, `median` and `worst` expressions by IoU, at most one of an image in each; the seed decides ties."""
    pairs = sorted(scores.pairs, key=lambda pair: pair.sent_id)
    order = np.random.default_rng(seed).permutation(len(pairs))
    ranked = sorted((pairs[i] for i in order), key=lambda pair: iou_of(pair, scores.protocol))
    middle = iou_of(ranked[(len(ranked) - 1) // 2], scores.protocol)
    near = sorted(ranked, key=lambda pair: abs(iou_of(pair, scores.protocol) - middle))
    return {
        name: _of_different_images(some, count)
        for name, some in (("best", ranked[::-1]), ("median", near), ("worst", ranked))
    }


def _of_different_images(pairs: list[Scored], count: int) -> list[Scored]:
    found: dict[str, Scored] = {}
    for pair in pairs:
        if len(found) == count:
            break
        found.setdefault(pair.image_id, pair)
    return list(found.values())


def draw_cases(
    scores: Scores, data: Samples, mask_of: MaskOf, config: InputConfig | None, seed: int
) -> dict[str, list[Case]]:
    """Pictures of the chosen expressions; only their images are read again.

    Args:
        scores: What was scored.
        data: The split.
        mask_of: The words that were asked and the predicted mask (H, W), at the size of the protocol.
        config: What the model saw; only a protocol at network size needs it.
        seed: Decides ties.
    """
    return {
        name: [_draw(pair, data[pair.index], mask_of, config, scores.protocol) for pair in pairs]
        for name, pairs in choose(scores, seed).items()
    }


def _draw(pair: Scored, sample: Sample, mask_of: MaskOf, config: InputConfig | None, protocol: Protocol) -> Case:
    text, mask = mask_of(pair, sample)
    target, image = sample.mask(pair.number), sample.image
    if protocol.resolution == "network":
        assert config is not None, "a protocol at network size needs to know that size"
        target, image = target_of(target, config, protocol), _as_seen(image, config)
    shown, truth = (_address(overlay(image, some)) for some in (mask, target))
    return Case(text, sample.image_id, iou_of(pair, protocol), outcome_of(pair, protocol), shown, truth)


def _as_seen(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """The image squashed or letterboxed to network size, on grey."""
    top, left, h, w = content_box((image.shape[0], image.shape[1]), config)
    seen = np.full((*config.size, 3), 128, dtype=np.uint8)
    seen[top : top + h, left : left + w] = np.asarray(Image.fromarray(image).resize((w, h)))
    return seen


def _address(picture: Image.Image) -> str:
    """The picture inside its own address, small enough for a page of many."""
    picture.thumbnail((WIDTH, WIDTH))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
