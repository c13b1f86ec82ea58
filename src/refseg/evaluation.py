"""The only evaluation loop. Training and the command line both call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import numpy as np

from refseg.data.loader import Samples
from refseg.metrics import Scores, score
from refseg.predictor import Predictor
from refseg.types import Sample

Words = Literal["true", "shuffled", "swapped"]


def ask(
    data: Samples, limit: int | None = None, words: Words = "true"
) -> Iterator[tuple[Sample, list[int], list[str]]]:
    """What is asked about each image: the sample, the numbers of its expressions, and the words used.

    Args:
        data: The split.
        limit: At most this many expressions.
        words: "true" asks what was written. To see whether a model reads at all, "shuffled" asks about every image
            what was written about another one, and "swapped" what was written about another target of the same image
            (images with one target are left out).
    """
    left = limit if limit is not None else -1
    for index in range(len(data)):
        if left == 0:
            return
        sample = data[index]
        numbers = list(range(len(sample.expressions)))
        texts = [expression.text for expression in sample.expressions]
        if words == "shuffled":
            other = data[(index + len(data) // 2) % len(data)].expressions
            texts = [other[i % len(other)].text for i in numbers]
        elif words == "swapped":
            of = [expression.reference for expression in sample.expressions]
            swaps = [next((j for j in numbers[i + 1 :] + numbers[:i] if of[j] != of[i]), None) for i in numbers]
            numbers = [i for i in numbers if swaps[i] is not None]
            texts = [texts[j] for j in swaps if j is not None]
        numbers = numbers[:left] if left > 0 else numbers
        if numbers:
            left -= len(numbers) if left > 0 else 0
            yield sample, numbers, texts[: len(numbers)]


def evaluate(
    predictor: Predictor,
    data: Samples,
    limit: int | None = None,
    words: Words = "true",
    images_per_batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> tuple[Scores, dict[str, float]]:
    """Scores a model on a split at every image's own size, threshold 0.5 (protocol `original`).

    Args:
        predictor: The model.
        data: The split.
        limit: At most this many expressions.
        words: See `ask`.
        images_per_batch: How many images the model sees at a time.
        progress: Called with the number of images done since the last call.

    Returns:
        The scores, and what it took: `images`, `expressions`, `seconds`.
    """
    scores, images, started = Scores(), 0, time.perf_counter()
    batch: list[tuple[Sample, list[int], list[str]]] = []

    def flush() -> None:
        _, logits = predictor.answer([sample.image for sample, _, _ in batch], [texts for _, _, texts in batch])
        for (sample, numbers, _), maps in zip(batch, logits, strict=True):
            for number, mask in zip(numbers, (maps > 0).cpu().numpy(), strict=True):
                scores.add(score(mask, sample.mask(number), sample.expressions[number].kind))
        if progress is not None:
            progress(len(batch))
        batch.clear()

    for question in ask(data, limit, words):
        batch.append(question)
        images += 1
        if len(batch) == images_per_batch:
            flush()
    if batch:
        flush()
    took = {"images": images, "expressions": len(scores.pairs), "seconds": time.perf_counter() - started}
    return scores, took


class WithBaselines(Samples, Protocol):
    """A split that can also be guessed."""

    def baselines(self, index: int) -> dict[str, list[np.ndarray]]:
        """Per guesser, one mask for every expression of an image."""
        ...


def evaluate_baselines(data: WithBaselines, limit: int | None = None) -> dict[str, Scores]:
    """Scores what can be had without a model, with the true words."""
    scores: dict[str, Scores] = {}
    for index, (sample, numbers, _) in enumerate(ask(data, limit)):
        for name, masks in data.baselines(index).items():
            for number in numbers:
                pair = score(masks[number], sample.mask(number), sample.expressions[number].kind)
                scores.setdefault(name, Scores()).add(pair)
    return scores
