"""Groups of expressions, and what went wrong with each."""

from __future__ import annotations

from typing import Any

from refseg.protocols import THRESHOLDS, Protocol
from refseg.scoring.metrics import Scored, Scores, iou_of, judged

LENGTHS = ((1, 2), (3, 7), (8, 12), (13, None))  # words; LGFormer, Table 3
SHARES = ((0.0, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, None))  # of the image
NO_TARGET = "no target"
MANY = 4  # objects of one category; as many or more are one group

OUTCOMES = {
    "right": "IoU reaches 0.5",
    "poor mask": "IoU is below 0.5 but not 0, and with no other known object of the image is it higher",
    "wrong object": "IoU is below 0.5 and higher with another known object of the same image",
    "elsewhere": "a mask that shares no pixel with the target or with another known object of the image",
    "nothing found": "the mask is empty although there is a target",
    "rightly nothing": "there is no target and the mask is empty",
    "should be nothing": "there is no target but the mask is not empty",
}


def length_of(pair: Scored) -> str:
    """The group of an expression's length in words, in LGFormer's buckets."""
    return next(_lengths(low, high) for low, high in LENGTHS if high is None or pair.words <= high)


def _lengths(low: int, high: int | None) -> str:
    return f"{low} or more words" if high is None else f"{low} to {high} words"


def share_of(pair: Scored) -> str:
    """The group of the target's share of the image's pixels."""
    if pair.target == 0:
        return NO_TARGET
    share = pair.target / pair.pixels if pair.pixels else 0.0
    return next(_shares(low, high) for low, high in SHARES if high is None or share < high)


def _shares(low: float, high: float | None) -> str:
    return f"{low:.0%} of the image or more" if high is None else f"{low:.0%} to {high:.0%} of the image"


def alike_of(pair: Scored) -> str | None:
    """The group of how many objects of the target's category are in the image; None if unknown."""
    if pair.same_category is None or pair.target == 0:
        return None
    return str(pair.same_category) if pair.same_category < MANY else f"{MANY} or more"


def outcome_of(pair: Scored, protocol: Protocol) -> str:
    """Which of `OUTCOMES` an expression is; every one is exactly one."""
    seen = judged(pair, protocol)
    if seen.target == 0:
        return "should be nothing" if seen.predicted else "rightly nothing"
    if seen.predicted == 0:
        return "nothing found"
    iou = iou_of(pair, protocol)
    if iou > THRESHOLDS[0] or (iou == THRESHOLDS[0] and protocol.precision_comparison == ">="):
        return "right"
    if (pair.rival or 0.0) > seen.intersection / seen.union:
        return "wrong object"
    return "poor mask" if seen.intersection else "elsewhere"


def kind_of(pair: Scored) -> str | None:
    """The kind of an expression, as the data set names it; None if unknown."""
    return pair.kind


GROUPINGS = {"by_kind": kind_of, "by_length": length_of, "by_size": share_of, "by_same_category": alike_of}


def breakdowns(scores: Scores) -> dict[str, dict[str, dict[str, Any]]]:
    """Per way of grouping, per group, its number of `expressions` and its summary; groups in their natural order."""
    orders = {
        "by_length": [_lengths(low, high) for low, high in LENGTHS],
        "by_size": [*(_shares(low, high) for low, high in SHARES), NO_TARGET],
        "by_same_category": [*map(str, range(1, MANY)), f"{MANY} or more"],
    }
    found: dict[str, dict[str, dict[str, Any]]] = {"by_kind": scores.by_kind()}
    for name, group in (("by_length", length_of), ("by_size", share_of), ("by_same_category", alike_of)):
        parts = scores.by(group)
        found[name] = {
            label: {"expressions": len(parts[label].pairs), **parts[label].summary()}
            for label in orders[name]
            if label in parts
        }
    return found


def outcomes(scores: Scores) -> dict[str, int]:
    """How many expressions are what, in the order of `OUTCOMES`."""
    found = dict.fromkeys(OUTCOMES, 0)
    for pair in scores.pairs:
        found[outcome_of(pair, scores.protocol)] += 1
    return found
