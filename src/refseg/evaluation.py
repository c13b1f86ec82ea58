"""The only evaluation loop. Training and the command line both call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from refseg.data.loader import Samples
from refseg.data.transforms import InputConfig, logits_to_masks, target_of
from refseg.metrics import Scored, Scores, count_pixels
from refseg.predictor import AT_ONCE, Predictor
from refseg.protocols import ORIGINAL
from refseg.protocols import Protocol as ScoringProtocol
from refseg.types import Sample

Words = Literal["true", "shuffled", "swapped"]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about one image.

    Attributes:
        index: Number of the image in its split.
        sample: The image with its references.
        numbers: Which of its expressions are scored.
        texts: The words that are used for each.
    """

    index: int
    sample: Sample
    numbers: list[int]
    texts: list[str]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.sample.image.shape[0], self.sample.image.shape[1]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says to the T expressions of a question.

    Attributes:
        masks: (T, H, W) bool at the size of the protocol.
        scores: T mean foreground probabilities over the masks; 0 for an empty one.
        logits: (T, 1, h, w) log-odds as the network gave them.
    """

    masks: np.ndarray
    scores: list[float]
    logits: Tensor


def ask(data: Samples, limit: int | None = None, words: Words = "true") -> Iterator[Question]:
    """What is asked about each image, reading every image once.

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
            yield Question(index, sample, numbers, texts[: len(numbers)])


def judge(
    question: Question, masks: Sequence[np.ndarray], config: InputConfig | None, protocol: ScoringProtocol
) -> list[Scored]:
    """Compares the T masks of a question with their targets, and with the image's other references.

    Args:
        question: What was asked.
        masks: T masks (H, W) bool at the size of the protocol.
        config: What the model saw; only a protocol at network size needs it.
        protocol: Where masks are compared.

    Raises:
        ValueError: A mask has another size than its target.
    """
    sample = question.sample
    targets = [_target(reference.mask, config, protocol) for reference in sample.references]
    scored = []
    for number, mask in zip(question.numbers, masks, strict=True):
        expression = sample.expressions[number]
        try:
            intersection, predicted, target = count_pixels(mask, targets[expression.reference])
        except ValueError as error:
            raise ValueError(f"expression {expression.sent_id!r}: {error}") from error
        rivals = [
            shared / (predicted + other - shared) if shared else 0.0
            for i, rival in enumerate(targets)
            if i != expression.reference
            for shared, _, other in [count_pixels(mask, rival)]
        ]
        alike = sample.references[expression.reference].same_category
        scored.append(
            Scored(
                expression.sent_id, sample.image_id, intersection, predicted, target, expression.kind,
                len(expression.text.split()), mask.size, alike, max(rivals, default=None), question.index, number,
            )
        )  # fmt: skip
    return scored


def evaluate(
    predictor: Predictor,
    data: Samples,
    limit: int | None = None,
    words: Words = "true",
    images_per_batch: int = 16,
    progress: Callable[[int], None] | None = None,
    protocol: ScoringProtocol = ORIGINAL,
    known: Callable[[Question], list[np.ndarray] | None] | None = None,
    keep: Callable[[Question, Answer], None] | None = None,
) -> tuple[Scores, dict[str, float]]:
    """Scores a model on a split. Every image is read and encoded once; of what was scored only counts stay in memory.

    Args:
        predictor: The model.
        data: The split.
        limit: At most this many expressions.
        words: See `ask`.
        images_per_batch: How many images the model sees at a time; all have its one network size.
        progress: Called with the number of images done since the last call.
        protocol: How masks are made and compared.
        known: Asked for the masks of a question that was answered in an earlier run; None if it was not.
        keep: Called with every new answer, to write it down.

    Returns:
        The scores, and what it took: `images`, `expressions`, `seconds`, and `rate` in expressions per second.
    """
    scores, images, started = Scores(protocol=protocol), 0, time.perf_counter()
    config = predictor.model.input
    batch: list[Question] = []

    def add(question: Question, masks: Sequence[np.ndarray]) -> None:
        for pair in judge(question, masks, config, protocol):
            scores.add(pair)

    def flush() -> None:
        _, maps = predictor.network_logits([q.sample.image for q in batch], [q.texts for q in batch])
        for question, logits in zip(batch, maps, strict=True):
            answer = answer_of(logits, question.size, config, protocol)
            add(question, list(answer.masks))
            if keep is not None:
                keep(question, answer)
        if progress is not None:
            progress(len(batch))
        batch.clear()

    for question in ask(data, limit, words):
        images += 1
        before = known(question) if known is not None else None
        if before is not None:
            add(question, before)
            if progress is not None:
                progress(1)
            continue
        batch.append(question)
        if len(batch) == images_per_batch:
            flush()
    if batch:
        flush()
    return scores, took(images, len(scores.pairs), time.perf_counter() - started)


def took(images: int, expressions: int, seconds: float) -> dict[str, float]:
    """What an evaluation took, with its `rate` in expressions per second."""
    return {"images": images, "expressions": expressions, "seconds": seconds, "rate": expressions / max(seconds, 1e-9)}


def answer_of(logits: Tensor, own: tuple[int, int], config: InputConfig, protocol: ScoringProtocol) -> Answer:
    """(T, 1, h, w) log-odds of an image of `own` size (H, W) as masks of a protocol, `AT_ONCE` at a time."""
    masks, scores = [], []
    for part in logits.split(AT_ONCE):
        found, probabilities = logits_to_masks(part, own, config, protocol)
        inside = (probabilities * found).flatten(1).sum(1) / found.flatten(1).sum(1).clamp(min=1)  # (T,)
        masks.append(found.cpu().numpy())
        scores += inside.tolist()
    return Answer(np.concatenate(masks), scores, logits)


def _target(mask: np.ndarray, config: InputConfig | None, protocol: ScoringProtocol) -> np.ndarray:
    if protocol.resolution == "original":
        return mask
    assert config is not None, "a protocol at network size needs to know that size"
    return target_of(mask, config, protocol)


class WithBaselines(Samples, Protocol):
    """A split that can also be guessed."""

    def baselines(self, index: int) -> dict[str, list[np.ndarray]]:
        """Per guesser, one mask for every expression of an image."""
        ...


def evaluate_baselines(
    data: WithBaselines,
    limit: int | None = None,
    protocol: ScoringProtocol = ORIGINAL,
    config: InputConfig | None = None,
) -> dict[str, Scores]:
    """Scores what can be had without a model, with the true words.

    Args:
        data: The split.
        limit: At most this many expressions.
        protocol: How masks are compared.
        config: What the model sees; only a protocol at network size needs it.
    """
    scores: dict[str, Scores] = {}
    for question in ask(data, limit):
        for name, masks in data.baselines(question.index).items():
            guessed = [_target(masks[number], config, protocol) for number in question.numbers]
            for pair in judge(question, guessed, config, protocol):
                scores.setdefault(name, Scores(protocol=protocol)).add(pair)
    return scores
