"""Masks to numbers: oIoU, mIoU and P@X, and what else a protocol publishes.

What is kept of a pair of masks are counts of pixels, and every number is a ratio of two sums over expressions. The sums
are exact, so that parts of a split merge to the same bits in any order and over any number of processes; an expression
that occurs in two parts, as samplers that pad the last batch make it, counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from refseg.protocols import ORIGINAL, PRECISIONS, STANDARD, THRESHOLDS, Protocol

SAME = {"gIoU": "mIoU", "cIoU": "oIoU"}  # other projects' names for the same ratios
Ratio = tuple[float, int]


@dataclass(frozen=True)
class Scored:
    """What is kept of one expression once its masks have been compared.

    Attributes:
        sent_id: Identifier of the expression, unique within its data set and split.
        image_id: Identifier of its image.
        intersection: Pixels in both masks.
        predicted: Pixels of the prediction.
        target: Pixels of the target.
        kind: Kind of the expression, if known.
        words: Number of words of the expression, as the data set counts them or without punctuation; 0 if unknown.
        pixels: Pixels of the whole image, at the size of the masks; 0 if unknown.
        same_category: How many objects of the target's category the data set knows in the image, the target included;
            None where categories are unknown.
        rival: Highest IoU of the prediction with another object of the same image (`refseg.scoring.evaluation.judge`
            says which count); None if none is known, and where nothing depends on it: the target is found, or there is
            none.
        index: Number of the image in its split, and
        number: number of the expression in its image; both only to find them again.
    """

    sent_id: str
    image_id: str
    intersection: int
    predicted: int
    target: int
    kind: str | None = None
    words: int = 0
    pixels: int = 0
    same_category: int | None = None
    rival: float | None = None
    index: int = -1
    number: int = -1

    @property
    def union(self) -> int:
        """Pixels in at least one mask."""
        return self.predicted + self.target - self.intersection


def count_pixels(prediction: np.ndarray, target: np.ndarray) -> tuple[int, int, int]:
    """Compares two (H, W) bool masks: pixels of the intersection, of the prediction and of the target.

    Raises:
        ValueError: The shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction of shape {prediction.shape}, target of shape {target.shape}: they must agree")
    intersection = int(np.count_nonzero(prediction & target))
    return intersection, int(np.count_nonzero(prediction)), int(np.count_nonzero(target))


def judged(pair: Scored, protocol: Protocol = ORIGINAL) -> Scored:
    """The pair as the protocol sees it: under `gres` a prediction of too few pixels is a rejection, so empty."""
    if protocol.no_target == "gres" and pair.predicted < protocol.min_target_pixels:
        return Scored(pair.sent_id, pair.image_id, 0, 0, pair.target)
    return pair


def iou_of(pair: Scored, protocol: Protocol = ORIGINAL) -> float:
    """Intersection over union of one expression under a protocol."""
    seen = judged(pair, protocol)
    return seen.intersection / (seen.union + protocol.iou_epsilon) if seen.union else protocol.empty


def ratios(pair: Scored, protocol: Protocol = ORIGINAL) -> dict[str, Ratio]:
    """What one expression adds to the numerator and the denominator of every number."""
    seen, iou = judged(pair, protocol), iou_of(pair, protocol)
    gres = protocol.no_target == "gres"
    has_target = seen.target > 0
    found: dict[str, Ratio] = {"oIoU": (seen.intersection, seen.union), "mIoU": (iou, 1)}
    for name, threshold in zip(PRECISIONS, THRESHOLDS, strict=True):
        hit = iou > threshold if protocol.precision_comparison == ">" else iou >= threshold
        asked = has_target or not gres
        found[name] = (int(hit and asked), int(asked))
    found["T_acc"] = (int(has_target and seen.predicted > 0), int(has_target))
    found["N_acc"] = (int(not has_target and seen.predicted == 0), int(not has_target))
    return found


class Scores:
    """All compared expressions of a split; merging two of them gives the same bits as one pass over both.

    Args:
        pairs: Expressions to begin with.
        protocol: How they are judged.
    """

    def __init__(self, pairs: Iterable[Scored] = (), protocol: Protocol = ORIGINAL) -> None:
        self.protocol = protocol
        self._pairs: dict[str, Scored] = {}
        for pair in pairs:
            self.add(pair)

    @property
    def pairs(self) -> list[Scored]:
        """The expressions in the order in which they came."""
        return list(self._pairs.values())

    def add(self, pair: Scored) -> None:
        """Takes in one expression; one that is there already counts once.

        Where two processes disagree about the same expression by rounding, the one with the smaller counts stays, in
        whichever order they come.

        Raises:
            ValueError: The same id stands for another image or another target.
        """
        known = self._pairs.get(pair.sent_id)
        if known is None:
            self._pairs[pair.sent_id] = pair
            return
        if (known.image_id, known.target) != (pair.image_id, pair.target):
            raise ValueError(f"expression {pair.sent_id!r} of the image {pair.image_id!r} was scored before with "
                             "another image or target; ids that are unique within a split are accepted")  # fmt: skip
        self._pairs[pair.sent_id] = min(known, pair, key=lambda p: (p.intersection, p.predicted, p.rival or 0.0))

    def merge(self, other: Scores) -> Scores:
        """The expressions of both.

        Raises:
            ValueError: They were judged under different protocols.
        """
        if other.protocol != self.protocol:
            raise ValueError(
                f"scores under {self.protocol.name!r} and {other.protocol.name!r}: one protocol is accepted"
            )
        return Scores([*self._pairs.values(), *other.pairs], self.protocol)

    def summary(self) -> dict[str, float]:
        """The numbers oIoU, mIoU, P@0.5 to P@0.9 under the protocol, always together, as fractions of 1.

        P@X is left out where no expression has a target and the protocol counts only those.

        Raises:
            ValueError: There is nothing to summarise.
        """
        return self._numbers(STANDARD)

    def published(self) -> dict[str, float]:
        """The numbers that the protocol's project publishes, by its names, as fractions of 1.

        Raises:
            ValueError: There is nothing to summarise.
        """
        return self._numbers(self.protocol.metrics)

    def _numbers(self, names: Iterable[str]) -> dict[str, float]:
        if not self._pairs:
            raise ValueError("no expression was scored: at least one is needed")
        parts = [ratios(pair, self.protocol) for pair in self._pairs.values()]
        numbers: dict[str, float] = {}
        for name in names:
            own = SAME.get(name, name)
            below = sum(part[own][1] for part in parts)
            if below:
                numbers[name] = math.fsum(part[own][0] for part in parts) / below  # fsum: the same in any order
            elif own == "oIoU":  # nothing was asked for and nothing was said
                numbers[name] = self.protocol.empty
        return numbers

    def by(self, group: Callable[[Scored], str | None]) -> dict[str, Scores]:
        """The expressions by what `group` says of them, in the order of first occurrence; None leaves one out."""
        groups: dict[str, Scores] = {}
        for pair in self._pairs.values():
            name = group(pair)
            if name is not None:
                groups.setdefault(name, Scores(protocol=self.protocol)).add(pair)
        return groups

    def by_kind(self) -> dict[str, dict[str, float]]:
        """The summary of each kind of expression that occurs, with its `expressions`."""
        parts = sorted(self.by(lambda pair: pair.kind).items())
        return {kind: {"expressions": len(part.pairs), **part.summary()} for kind, part in parts}
