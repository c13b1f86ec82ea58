"""What can be had without a model: guessers that see a scene's objects and pick one."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Protocol, TypeGuard

import numpy as np

from refseg.data.questions import Question, ask, nobody
from refseg.data.transforms import InputConfig
from refseg.protocols import ORIGINAL
from refseg.protocols import Protocol as ScoringProtocol
from refseg.scoring.evaluation import judge, target_mask
from refseg.scoring.metrics import Scores
from refseg.types import Samples


class WithBaselines(Samples, Protocol):
    """A split that can also be guessed."""

    def baselines(self, index: int) -> dict[str, list[np.ndarray]]:
        """Per guesser, one mask for every expression of an image."""
        ...


class WithObjects(Samples, Protocol):
    """A split that knows the annotated objects of its images."""

    knows_objects: bool


def can_be_guessed(data: Samples) -> TypeGuard[WithBaselines | WithObjects]:
    """Whether a split brings guessers along, or knows the objects that one can guess."""
    return hasattr(data, "baselines") or getattr(data, "knows_objects", False)


def evaluate_baselines(
    data: WithBaselines | WithObjects,
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
    for asked in ask(data, limit):
        question = replace(asked, others=nobody)  # what a guesser found instead is nobody's question
        guesses = data.baselines(asked.index) if hasattr(data, "baselines") else guess_objects(asked)
        for name, masks in guesses.items():
            guessed = [target_mask(masks[number], config, protocol) for number in question.numbers]
            for pair in judge(question, guessed, config, protocol):
                scores.setdefault(name, Scores(protocol=protocol)).add(pair)
    return scores


def guess_objects(question: Question) -> dict[str, list[np.ndarray]]:
    """Guesses about an image with annotated objects: any of them, the largest, and any of the target's category.

    Args:
        question: What is asked; the same image is always guessed alike.

    Returns:
        Per guesser one mask (H, W) bool for every expression of the image.
    """
    sample = question.sample
    things = [*sample.references, *question.others()]
    random = np.random.default_rng(zlib.crc32(sample.image_id.encode("utf-8", "surrogatepass")))
    largest = max(things, key=lambda thing: int(np.count_nonzero(thing.mask)))
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("random object", "largest object", "its category")}
    for expression in sample.expressions:
        category = sample.references[expression.reference].category
        alike = [thing for thing in things if thing.category == category]
        found["random object"].append(things[int(random.integers(len(things)))].mask)
        found["largest object"].append(largest.mask)
        found["its category"].append(alike[int(random.integers(len(alike)))].mask)
    return found
