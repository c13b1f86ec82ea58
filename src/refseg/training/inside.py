"""Three numbers that tell, while a method is trained, whether it begins to read: what the score does not yet show.

`words`  how much of what the network answers about an image depends on the words: the variance of the log-odds between
         expressions, of their whole variance over expressions and pixels. 0 where every expression has the same answer.
`gap`    mean IoU of the answers with the object that is asked about, less that with the other objects which expressions
         of the same image are about. Below 0.1 the words do not decide.
`queries` how far the queries (EAVL, CRFormer) or embeddings (JMCELN) of an expression are apart: 1 less the mean cosine
         of their maps. 0 where all are the same; left out for methods that have one query or none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from refseg.answers import answer_of
from refseg.predictor import Predictor
from refseg.protocols import ORIGINAL
from refseg.scoring.metrics import count_pixels
from refseg.types import Sample, Samples

IMAGES, LOOKED_THROUGH = 16, 200
OF_QUERIES = ("query_masks", "embedding_attention")  # (T, Q, h, w) in a method's details


def crowded(data: Samples) -> list[Sample]:
    """The first images of a split with expressions about two objects or more."""
    found: list[Sample] = []
    for index in range(min(len(data), LOOKED_THROUGH)):
        try:
            sample = data[index]
        except ValueError:  # scoring says so, if it gets there; this ends no run
            continue
        asked = {e.reference for e in sample.expressions if sample.references[e.reference].mask.any()}
        if len(asked) > 1:
            found.append(sample)
        if len(found) == IMAGES:
            break
    return found


def look_inside(predictor: Predictor, samples: Sequence[Sample]) -> dict[str, float]:
    """The numbers of the module's first lines, over some images; none for no image."""
    if not samples:
        return {}
    texts = [[expression.text for expression in sample.expressions] for sample in samples]
    shown, maps = predictor.network_logits([sample.image for sample in samples], texts, details=True)
    between, whole, gaps = 0.0, 0.0, list[float]()
    for sample, logits in zip(samples, maps, strict=True):
        values = logits.double().flatten(1)  # (T, P)
        between += float(values.var(0, correction=0).mean())
        whole += float(values.var(correction=0))
        answer = answer_of(logits, sample.image.shape[:2], predictor.model.input, ORIGINAL)
        for expression, mask in zip(sample.expressions, answer.masks, strict=True):
            ious = [_iou(mask, reference.mask) for reference in sample.references]
            asked = {other.reference for other in sample.expressions} - {expression.reference}
            if asked:
                gaps.append(ious[expression.reference] - sum(ious[place] for place in asked) / len(asked))
    found = {"words": between / whole if whole else 0.0, "gap": sum(gaps) / len(gaps)}
    for name in OF_QUERIES:
        if name in shown and shown[name].shape[1] > 1:
            found["queries"] = spread(shown[name].double().flatten(2))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def spread(maps: Tensor) -> float:
    """1 less the mean cosine between the Q maps (T, Q, P) of an expression, each pair once."""
    unit = torch.nn.functional.normalize(maps, dim=-1)
    count = maps.shape[1]
    cosines = unit @ unit.transpose(1, 2)  # (T, Q, Q)
    return float(1 - (cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)).mean() / (count * (count - 1)))


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    shared, first, second = count_pixels(one, other)
    return shared / max(1, first + second - shared)
