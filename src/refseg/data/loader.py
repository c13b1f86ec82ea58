"""Samples to training batches.

A batch is a pure function of the data, the seed and its number, so that a run which stops at any step goes on with
exactly the batch that comes next, and any number of processes share the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from refseg.data.transforms import InputConfig, Normalise, image_to_bytes, mask_to_target, sizes_of
from refseg.types import Batch, Samples


class Encode(Protocol):
    """What turns sentences into ids; `refseg.encoders.tokenizer.Tokenizer` fits."""

    def __call__(self, sentences: Sequence[str], max_tokens: int) -> Tokens:
        """Encodes T sentences."""
        ...


class Tokens(Protocol):
    """Ids and mask of encoded sentences."""

    @property
    def ids(self) -> torch.Tensor:
        """(T, L) int64."""
        ...

    @property
    def mask(self) -> torch.Tensor:
        """(T, L) bool."""
        ...


def shares_of(count: int, rank: int, processes: int, pieces: int) -> list[range]:
    """Which of the `count` places of a step each batch of process number `rank` has; none has two more than another."""
    first, parts = rank * pieces, processes * pieces
    ends = [part * count // parts for part in range(first, first + pieces + 1)]
    return [range(a, b) for a, b in zip(ends, ends[1:], strict=False)]


@dataclass(frozen=True)
class TrainingBatches:
    """What one process reads in step number `step` of a training run, for any step.

    The images come in an order that is shuffled anew every pass over the data; endless data is read front to back.
    Of each image `expressions_per_image` different expressions are drawn, or all if it has fewer. What is drawn
    depends on the seed, the step and the image's place in the step alone, so that a step has the same content however
    it is divided.

    Attributes:
        data: The images.
        tokenizer: Turns sentences into ids.
        input: What the model wants to see.
        images_per_batch: Images of a step, over all processes.
        expressions_per_image: At most this many expressions of an image.
        seed: Seed of order and expressions.
        steps: Steps of the run.
        endless: Whether the data has no end and needs no shuffling.
        rank: Number of this process.
        processes: How many share every step; each has as many images as another, or one more.
        pieces: How many batches each process divides its share into, to go through them one after the other.
    """

    data: Samples
    tokenizer: Encode
    input: InputConfig
    images_per_batch: int
    expressions_per_image: int
    seed: int
    steps: int
    endless: bool
    rank: int = 0
    processes: int = 1
    pieces: int = 1

    def __post_init__(self) -> None:
        """Refuses more parts than there are images.

        Raises:
            ValueError: A part of a step would be empty.
        """
        parts = self.processes * self.pieces
        if not 1 <= parts <= self.images_per_batch:
            raise ValueError(
                f"{self.processes} process(es) with --accumulate {self.pieces}: a step has to have at least {parts} "
                f"images; recipe.images_per_batch is {self.images_per_batch}"
            )

    def __len__(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def __getitem__(self, step: int) -> tuple[Batch, ...]:
        """Builds the batches of this process in one step."""
        indices = self.indices(step)
        shares = shares_of(len(indices), self.rank, self.processes, self.pieces)
        return tuple(self._batch(step, share, indices[share.start : share.stop]) for share in shares)

    def _batch(self, step: int, places: range, indices: list[int]) -> Batch:
        samples = [self.data[i] for i in indices]
        picked = [
            (b, e)
            for b, (place, sample) in enumerate(zip(places, samples, strict=True))
            for e in self._pick(step, place, len(sample.expressions))
        ]
        tokens = self.tokenizer([samples[b].expressions[e].text for b, e in picked], self.input.max_tokens)
        return Batch(
            pixels=torch.stack([image_to_bytes(sample.image, self.input) for sample in samples]),
            tokens=tokens.ids,
            token_mask=tokens.mask,
            image_index=torch.tensor([b for b, _ in picked]),
            targets=torch.stack([mask_to_target(samples[b].mask(e), self.input) for b, e in picked]),
            ids=tuple(samples[b].expressions[e].sent_id for b, e in picked),
            normalise=Normalise(sizes_of([sample.image for sample in samples]), self.input),
        )

    def _pick(self, step: int, place: int, count: int) -> list[int]:
        """Which of an image's expressions are asked about."""
        random = np.random.default_rng((self.seed, 0, step, place))
        return sorted(random.permutation(count)[: self.expressions_per_image].tolist())

    def indices(self, step: int) -> list[int]:
        """Which samples step number `step` holds, over all processes."""
        first = step * self.images_per_batch
        numbers = range(first, first + self.images_per_batch)
        if self.endless:
            return list(numbers)
        size = len(self.data)
        orders = {p: np.random.default_rng((self.seed, 1, p)).permutation(size) for p in {n // size for n in numbers}}
        return [int(orders[n // size][n % size]) for n in numbers]
