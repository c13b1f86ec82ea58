"""How well the masks of every precision agree with the network's own, on RefShapes and packaged models.

    python -m benchmarks.agreement --json

Every linear layer and convolution takes its fast form, however small it is: the compact models have none so large that
it would by itself. IoU is that of two masks of one expression; two empty ones agree.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from benchmarks.side_by_side import machine, say

import refseg.fast.convolution
import refseg.fast.linear
from refseg.data.shapes import RefShapes
from refseg.fast.choice import has_int8
from refseg.predictor import Predictor
from refseg.weights.folders import packaged_models
from refseg.weights.store import load_model


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks (H, W) bool."""
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else 1.0


def measure(name: str, scenes: int) -> dict[str, Any]:
    """Mean and least IoU with the network's own masks, and the mean IoU with the truth."""
    plain = Predictor(load_model(name), "cpu", "fp32")
    plain.network = plain.model.network.eval()
    others = {p: Predictor(load_model(name), "cpu", p) for p in ("fp32", "bf16", *(("int8",) if has_int8() else ()))}
    agree: dict[str, list[float]] = {precision: [] for precision in others}
    true: dict[str, list[float]] = {precision: [] for precision in ("plain", *others)}
    data = RefShapes()
    for number in range(scenes):
        sample = data[number]
        texts = [expression.text for expression in sample.expressions]
        targets = [sample.references[expression.reference].mask for expression in sample.expressions]
        own = plain(sample.image, texts)
        true["plain"] += [iou(found.mask, target) for found, target in zip(own, targets, strict=True)]
        for precision, predictor in others.items():
            for found, its, target in zip(predictor(sample.image, texts), own, targets, strict=True):
                agree[precision].append(iou(found.mask, its.mask))
                true[precision].append(iou(found.mask, target))
    return {
        "model": name, "scenes": scenes, "expressions": len(true["plain"]),
        "agreement": {p: {"mean": round(float(np.mean(v)), 4), "least": round(min(v), 3)} for p, v in agree.items()},
        "mIoU": {precision: round(100 * float(np.mean(values)), 2) for precision, values in true.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    refseg.fast.linear.LEAST = refseg.fast.convolution.LEAST = 1
    for name in packaged_models():
        say({"benchmark": "agreement", **measure(name, given.scenes), **machine(1, "cpu"), "seed": 0}, given.json)


if __name__ == "__main__":
    main()
