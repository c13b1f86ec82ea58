"""Masks to numbers: oIoU, mIoU and P@X, under a named protocol.

A protocol says what a number means. `original`, the default, compares at the image's own size: IoU of two empty masks
is 1, and P@X counts IoU >= X. The counts are integers, so that parts of a split merge exactly, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Scored:
    """One compared pair of masks.

    Attributes:
        intersection: Pixels in both masks.
        union: Pixels in at least one.
        kind: Kind of the expression, if known.
    """

    intersection: int
    union: int
    kind: str | None = None

    @property
    def iou(self) -> float:
        """Intersection over union; 1 when both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


def score(prediction: np.ndarray, target: np.ndarray, kind: str | None = None) -> Scored:
    """Compares two (H, W) bool masks.

    Raises:
        ValueError: The shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction of shape {prediction.shape}, target of shape {target.shape}: they must agree")
    intersection = int(np.count_nonzero(prediction & target))
    return Scored(intersection, int(np.count_nonzero(prediction | target)), kind)


@dataclass
class Scores:
    """All compared pairs of a split; merging two of them gives the same numbers as one pass over both."""

    pairs: list[Scored] = field(default_factory=list)

    def add(self, pair: Scored) -> None:
        """Takes in one pair."""
        self.pairs.append(pair)

    def merge(self, other: Scores) -> Scores:
        """The pairs of both."""
        return Scores(self.pairs + other.pairs)

    def summary(self) -> dict[str, float]:
        """The numbers oIoU, mIoU, P@0.5 to P@0.9, as fractions of 1.

        Raises:
            ValueError: There is nothing to summarise.
        """
        if not self.pairs:
            raise ValueError("no expression was scored: at least one is needed")
        count = len(self.pairs)
        union = sum(pair.union for pair in self.pairs)
        numbers = {
            "oIoU": sum(pair.intersection for pair in self.pairs) / union if union else 1.0,
            "mIoU": math.fsum(pair.iou for pair in self.pairs) / count,  # fsum: the same in any order
        }
        for threshold in THRESHOLDS:
            numbers[f"P@{threshold}"] = sum(pair.iou >= threshold for pair in self.pairs) / count
        return numbers

    def by_kind(self) -> dict[str, dict[str, float]]:
        """The summary of each kind of expression that occurs, with its `expressions`."""
        kinds: Iterable[str] = sorted({pair.kind for pair in self.pairs if pair.kind is not None})
        parts = {kind: Scores([pair for pair in self.pairs if pair.kind == kind]) for kind in kinds}
        return {kind: {"expressions": len(part.pairs), **part.summary()} for kind, part in parts.items()}
