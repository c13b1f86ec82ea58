"""What can be had without a model: guessers that see a scene's objects and pick one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol, TypeGuard

import numpy as np

from refseg.data.questions import Question, ask, nobody
from refseg.data.transforms import InputConfig
from refseg.protocols import ORIGINAL
from refseg.protocols import Protocol as ScoringProtocol
from refseg.scoring.evaluation import judge, target_mask
from refseg.scoring.metrics import Scores
from refseg.types import Reference, Samples


class WithBaselines(Samples, Protocol):
    """A split that can also be guessed."""

    def baselines(self, index: int) -> dict[str, list[np.ndarray]]:
        """Per guesser, one mask for every expression of an image."""
        ...


class WithObjects(Samples, Protocol):
    """A split that knows the annotated objects of its images."""

    knows_objects: bool

    def objects(self, index: int, size: tuple[int, int]) -> Iterable[Reference]:
        """The objects of an image of a size (H, W), with their categories."""
        ...


def can_be_guessed(data: Samples) -> TypeGuard[WithBaselines | WithObjects]:
    """Whether a split brings guessers along, or knows the objects that one can guess."""
    return hasattr(data, "baselines") or getattr(data, "knows_objects", False)


class Guesses:
    """Scores what can be had without a model, one question after another.

    Args:
        data: The split.
        protocol: How masks are compared.
        config: What the model sees; only a protocol at network size needs it.

    Attributes:
        scores: Per guesser.
    """

    def __init__(
        self,
        data: WithBaselines | WithObjects,
        protocol: ScoringProtocol = ORIGINAL,
        config: InputConfig | None = None,
    ) -> None:
        self._data, self._protocol, self._config = data, protocol, config
        self.scores: dict[str, Scores] = {}

    def add(self, asked: Question) -> None:
        """Guesses what a question with the true words is about."""
        data, config, protocol = self._data, self._config, self._protocol
        question = replace(asked, others=nobody)  # what a guesser found instead is nobody's question
        guesses = data.baselines(asked.index) if hasattr(data, "baselines") else guess_objects(asked, data)
        for name, masks in guesses.items():
            guessed = [target_mask(masks[number], config, protocol) for number in question.numbers]
            for pair in judge(question, guessed, config, protocol):
                self.scores.setdefault(name, Scores(protocol=protocol)).add(pair)


def evaluate_baselines(
    data: WithBaselines | WithObjects,
    limit: int | None = None,
    protocol: ScoringProtocol = ORIGINAL,
    config: InputConfig | None = None,
) -> dict[str, Scores]:
    """Scores what can be had without a model, with the true words, in a pass over the split of its own.

    Args:
        data: The split.
        limit: At most this many expressions.
        protocol: How masks are compared.
        config: What the model sees; only a protocol at network size needs it.
    """
    guesses = Guesses(data, protocol, config)
    for asked in ask(data, limit):
        guesses.add(asked)
    return guesses.scores


def guess_objects(question: Question, data: WithObjects) -> dict[str, list[np.ndarray]]:
    """Guesses about an image with annotated objects: any of them, the largest, and any of the target's category.

    Only single annotated objects are guessed: no union of several, and never nothing. Where the target has no category,
    or none that is annotated, any object is.

    Args:
        question: What is asked; the same image is always guessed alike.
        data: Knows the objects.

    Returns:
        Per guesser one mask (H, W) bool for every expression of the image.
    """
    sample = question.sample
    empty = Reference("", np.zeros(question.size, dtype=bool))
    things = list(data.objects(question.index, question.size)) or [empty]
    random = np.random.default_rng(zlib.crc32(sample.image_id.encode("utf-8", "surrogatepass")))
    largest = max(things, key=lambda thing: int(np.count_nonzero(thing.mask)))
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("random object", "largest object", "its category")}
    for expression in sample.expressions:
        category = sample.references[expression.reference].category
        alike = [thing for thing in things if category is not None and thing.category == category] or things
        found["random object"].append(things[int(random.integers(len(things)))].mask)
        found["largest object"].append(largest.mask)
        found["its category"].append(alike[int(random.integers(len(alike)))].mask)
    return found
