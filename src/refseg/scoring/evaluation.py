"""The only evaluation loop. Training and the command line both call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from refseg.answers import AT_ONCE, Answer, Answerer
from refseg.data.questions import WHOLE, Question, Shard, Words, batches
from refseg.data.transforms import InputConfig, target_of
from refseg.fields import split_words
from refseg.heap import give_memory_back
from refseg.protocols import ORIGINAL
from refseg.protocols import Protocol as ScoringProtocol
from refseg.scoring.metrics import Scored, Scores, count_pixels
from refseg.types import Expression, Reference, Samples

IMAGES_PER_BATCH = 16
TRIM_EVERY = 64  # images; takes half a percent of the time of a compact model
DOUBTFUL = 0.51  # IoU up to which it matters what else a mask could mean; every protocol draws the line at 0.5
TWICE = 0.5  # IoU of two annotations of one object
INSIDE = 0.9  # share of the smaller of two masks that makes it a part of the larger


def judge(
    question: Question, masks: Sequence[np.ndarray], config: InputConfig | None, protocol: ScoringProtocol
) -> list[Scored]:
    """Compares the T masks of a question with their targets and, where one is missed, with the image's other objects.

    Args:
        question: What was asked.
        masks: T masks (H, W) bool at the size of the protocol.
        config: What the model saw; only a protocol at network size needs it.
        protocol: Where masks are compared.

    Raises:
        ValueError: A mask has another size than its target.
    """
    sample = question.sample
    targets = [target_mask(reference.mask, config, protocol) for reference in sample.references]
    scored = []
    for number, mask in zip(question.numbers, masks, strict=True):
        expression = sample.expressions[number]
        try:
            intersection, predicted, target = count_pixels(mask, targets[expression.reference])
        except ValueError as error:
            raise ValueError(f"expression {expression.sent_id!r}: {error}") from error
        alike = sample.references[expression.reference].same_category
        scored.append(
            Scored(
                expression.sent_id, sample.image_id, intersection, predicted, target, expression.kind,
                words_of(expression), mask.size, alike, None, question.index, number,
            )
        )  # fmt: skip
    rivals = _rivals(question, masks, targets, scored, config, protocol)
    return [replace(pair, rival=rivals[i]) if i in rivals else pair for i, pair in enumerate(scored)]


def words_of(expression: Expression) -> int:
    """How many words an expression has: as the data set counts them, else without punctuation."""
    return expression.words if expression.words is not None else len(split_words(expression.text))


def _rivals(
    question: Question,
    masks: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    scored: Sequence[Scored],
    config: InputConfig | None,
    protocol: ScoringProtocol,
) -> dict[int, float]:
    """The highest IoU with another object of the image, of the masks that miss their target.

    Other objects are the image's other references, and the annotated objects that are no reference. One that is the
    target itself, annotated twice, is no other object, and neither is a part of the target or a group that it belongs
    to: one that contains the other, of one category as far as known. A tie on a man is another object.
    """
    sample = question.sample
    missed = [i for i, p in enumerate(scored) if p.target and p.predicted and p.intersection <= DOUBTFUL * p.union]
    found: dict[int, float] = {}
    if not missed:
        return found
    about = [sample.expressions[question.numbers[i]].reference for i in range(len(scored))]

    def compare(rival: Reference, mask: np.ndarray, own: int | None = None) -> None:
        apart: dict[int, bool] = {}  # by the reference that is asked about
        area = int(np.count_nonzero(mask))
        for i in missed if area else ():
            asked = about[i]
            if asked == own:
                continue
            if asked not in apart:
                apart[asked] = _apart(rival, mask, sample.references[asked], targets[asked])
            if apart[asked]:
                shared = int(np.count_nonzero(masks[i] & mask))
                found[i] = max(found.get(i, 0.0), shared / (scored[i].predicted + area - shared))

    for number, reference in enumerate(sample.references):
        compare(reference, targets[number], number)
    for reference in question.others():
        compare(reference, target_mask(reference.mask, config, protocol))
    return found


def _apart(one: Reference, one_mask: np.ndarray, other: Reference, other_mask: np.ndarray) -> bool:
    """Whether two objects of an image are different ones, neither part of the other; see `_rivals`."""
    shared, first, second = count_pixels(one_mask, other_mask)
    if shared >= TWICE * (first + second - shared):
        return False
    unlike = None not in (one.category, other.category) and one.category != other.category
    return unlike or shared < INSIDE * min(first, second)


def evaluate(
    predictor: Answerer,
    data: Samples,
    limit: int | None = None,
    words: Words = "true",
    images_per_batch: int = IMAGES_PER_BATCH,
    progress: Callable[[int], None] | None = None,
    protocol: ScoringProtocol = ORIGINAL,
    known: Callable[[Question], list[np.ndarray] | None] | None = None,
    keep: Callable[[Question, Answer], None] | None = None,
    shard: Shard = WHOLE,
    at_once: int = AT_ONCE,
    judged: Callable[[Question], None] | None = None,
) -> tuple[Scores, dict[str, float]]:
    """Scores a model on a split. Every image is read and encoded once; of what was scored only counts stay in memory.

    The scores of all parts of a split merge to the very bits of one pass over it, because every batch is the same
    computation whoever makes it.

    Args:
        predictor: The model.
        data: The split.
        limit: At most this many expressions, counted over all parts.
        words: See `batches`.
        images_per_batch: How many images the model sees at a time; all have its one network size.
        progress: Called with the number of images done since the last call.
        protocol: How masks are made and compared.
        known: Asked for the masks of a question that was answered in an earlier run; None if it was not. A batch of
            which one is missing is answered again, so that a run which was stopped ends with the bits of one that was
            not.
        keep: Called with every new answer, to write it down.
        shard: Number of this part, from 0, and number of parts; see `batches`.
        at_once: How many expressions the model answers at a time, of all images of a batch together.
        judged: Called with every question that was judged, while its image is at hand.

    Returns:
        The scores, and what it took: `images`, `expressions`, `seconds`, and `rate` in expressions per second.
    """
    predictor.check_protocol(protocol)
    config = predictor.about.input

    def answers(batch: list[Question]) -> Iterator[Sequence[np.ndarray]]:
        before = [known(question) if known is not None else None for question in batch]
        if all(masks is not None for masks in before):
            yield from (masks for masks in before if masks is not None)
            return
        images, texts = [question.sample.image for question in batch], [question.texts for question in batch]
        found = predictor.answers(images, texts, protocol, at_once)
        for question, answer, masks in zip(batch, found, before, strict=True):
            if masks is not None:
                yield masks
                continue
            if keep is not None:
                keep(question, answer)
            yield list(answer.masks)

    asked = batches(data, limit, words, images_per_batch, shard)
    return score_answers(asked, answers, config, protocol, progress, judged)


def score_answers(
    asked: Iterable[list[Question]],
    answers: Callable[[list[Question]], Iterable[Sequence[np.ndarray] | None]],
    config: InputConfig | None,
    protocol: ScoringProtocol,
    progress: Callable[[int], None] | None = None,
    judged: Callable[[Question], None] | None = None,
) -> tuple[Scores, dict[str, float]]:
    """The loop over a split that every way of scoring shares.

    Args:
        asked: Batches of questions.
        answers: Gives, one after another, the T masks (H, W) of each question of a batch at the size of the protocol;
            None leaves a question out.
        config: What the model saw; only a protocol at network size needs it.
        protocol: How masks are compared.
        progress: Called with the number of images done since the last call.
        judged: See `evaluate`.

    Returns:
        See `evaluate`.
    """
    scores, images, trimmed, started = Scores(protocol=protocol), 0, 0, time.perf_counter()
    for batch in asked:
        for question, masks in zip(batch, answers(batch), strict=True):
            if masks is None:
                continue
            for pair in judge(question, masks, config, protocol):
                scores.add(pair)
            if judged is not None:
                judged(question)
        images += len(batch)
        if images - trimmed >= TRIM_EVERY:
            trimmed = images
            give_memory_back()
        if progress is not None:
            progress(len(batch))
    return scores, took(images, len(scores.pairs), time.perf_counter() - started)


def took(images: int, expressions: int, seconds: float) -> dict[str, float]:
    """What an evaluation took, with its `rate` in expressions per second."""
    return {"images": images, "expressions": expressions, "seconds": seconds, "rate": expressions / max(seconds, 1e-9)}


def target_mask(mask: np.ndarray, config: InputConfig | None, protocol: ScoringProtocol) -> np.ndarray:
    """A target (H, W) bool at the size at which a protocol compares masks."""
    if protocol.resolution == "original":
        return mask
    assert config is not None, "a protocol at network size needs to know that size"
    return target_of(mask, config, protocol)
