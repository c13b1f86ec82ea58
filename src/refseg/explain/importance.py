"""How much an answer changes when a word is left out.

N words, H and W size of the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from refseg.prediction import Prediction, mean_probability

ROWS = 256  # looked at together: as doubles a map takes twice its memory


@dataclass(frozen=True, eq=False)
class Importance:
    """What leaving one word out changes; NaN where it is not defined.

    With M the mask of the whole expression, M' the mask without a word, z and z' the log-odds, p and p' the
    probabilities:

    Attributes:
        mask_change: (N,) 1 - IoU(M, M'), in [0, 1]; 0 where both are empty.
        probability_fall: (N,) mean over M of p - p', in [-1, 1]: positive where the word speaks for the mask. Not
            defined for an empty M, and for models that give masks alone.
        log_odds_fall: (N,) mean over M of z - z', likewise.
    """

    mask_change: np.ndarray
    probability_fall: np.ndarray
    log_odds_fall: np.ndarray


def importance_of(whole: Prediction, without: Iterable[Prediction | None]) -> Importance:
    """Compares the answer to an expression with those to the same without each of its words.

    Args:
        whole: The answer to the expression.
        without: N answers, one for every word left out; None where there is none. Taken one after another, since each
            has the size of the image.
    """
    rows = [(np.nan,) * 3 if other is None else _changes(whole, other) for other in without]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Importance(table[:, 0], table[:, 1], table[:, 2])


def _changes(whole: Prediction, other: Prediction) -> tuple[float, float, float]:
    union = int((whole.mask | other.mask).sum())
    change = 1 - int((whole.mask & other.mask).sum()) / union if union else 0.0
    if whole.logits is None or other.logits is None or not whole.area:
        return change, np.nan, np.nan
    fall = mean_probability(whole.logits, whole.mask) - mean_probability(other.logits, whole.mask)
    total = 0.0
    for first in range(0, len(whole.mask), ROWS):
        rows = slice(first, first + ROWS)
        inside = whole.mask[rows]
        total += float((whole.logits[rows][inside].astype(np.float64) - other.logits[rows][inside]).sum())
    return change, fall, total / whole.area
