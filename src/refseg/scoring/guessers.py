"""What can be had without a model: guessers that see a scene's objects and pick one."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeGuard

import numpy as np

from refseg.data.questions import ask, nobody
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


def can_be_guessed(data: Samples) -> TypeGuard[WithBaselines]:
    """Whether a split brings guessers along."""
    return hasattr(data, "baselines")


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
    for asked in ask(data, limit):
        question = replace(asked, others=nobody)  # what a guesser found instead is nobody's question
        for name, masks in data.baselines(question.index).items():
            guessed = [target_mask(masks[number], config, protocol) for number in question.numbers]
            for pair in judge(question, guessed, config, protocol):
                scores.setdefault(name, Scores(protocol=protocol)).add(pair)
    return scores
