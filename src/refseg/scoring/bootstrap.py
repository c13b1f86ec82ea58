"""95 % intervals by resampling images, because the expressions of one image succeed and fail together.

Every number is a ratio of two sums over expressions, so that a resample is a weighted sum over images and all resamples
are matrix products. Images are taken in the order of their ids, so that the seed alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refseg.scoring.metrics import SAME, Scores, ratios

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
CHUNK = 100  # resamples at a time: bounds the memory on large splits


def intervals(
    scores: Scores, names: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """Per number its percentile interval [low, high], as fractions of 1; one that cannot be computed is left out."""
    drawn = resampled(sums_by_image(scores, names), seed, resamples)
    return {name: found for i, name in enumerate(names) if (found := interval_of(drawn[:, i])) is not None}


def interval_of(values: np.ndarray) -> list[float] | None:
    """The percentile interval of resampled values, those that could not be computed left aside; None if all."""
    finite = values[np.isfinite(values)]
    return [float(x) for x in np.percentile(finite, PERCENTILES)] if finite.size else None


def sums_by_image(scores: Scores, names: Sequence[str]) -> np.ndarray:
    """(images, numbers, 2) numerators and denominators summed over each image, in the order of the images' ids.

    Every sum is exact before it is rounded once, so that the order of the expressions changes no bit.
    """
    found: dict[str, list[list[float]]] = {}
    for pair in scores.pairs:
        parts = ratios(pair, scores.protocol)
        own = [x for name in names for x in parts[SAME.get(name, name)]]
        found.setdefault(pair.image_id, []).append(own)
    sums = [[math.fsum(column) for column in zip(*found[image_id], strict=True)] for image_id in sorted(found)]
    return np.array(sums, dtype=np.float64).reshape(len(sums), len(names), 2)


def resampled(sums: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """(resamples, numbers) of as many images drawn with replacement; nan where a denominator is 0.

    Args:
        sums: (images, numbers, 2) sums over each image.
        seed: Decides which images are drawn; the same for the same number of images.
        resamples: How many times.
    """
    count, random, parts = len(sums), np.random.default_rng(seed), []
    flat = sums.reshape(count, -1)
    for first in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - first)
        drawn = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        parts.append(weights.astype(np.float64) @ flat)
    totals = np.concatenate(parts).reshape(resamples, -1, 2)
    above, below = totals[..., 0], totals[..., 1]
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
