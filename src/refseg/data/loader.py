"""Samples to training batches.

A batch is a pure function of the data, the seed and its number, so that a run which stops at any step goes on with
exactly the batch that comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from refseg.data.transforms import InputConfig, image_to_pixels, mask_to_target
from refseg.types import Batch, Sample


class Samples(Protocol):
    """A data set: samples by number."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """One image with its expressions."""
        ...


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


@dataclass(frozen=True)
class TrainingBatches:
    """Batch number `step` of a training run, for any step.

    The images come in an order that is shuffled anew every pass over the data; endless data is read front to back.
    Of each image `expressions_per_image` different expressions are drawn, or all if it has fewer.

    Attributes:
        data: The training samples.
        tokenizer: Turns sentences into ids.
        input: What the model wants to see.
        images_per_batch: B.
        expressions_per_image: At most this many expressions of an image are used at a time.
        seed: Chooses order and expressions.
        steps: Number of batches.
        endless: Whether the data is endless and needs no shuffling.
    """

    data: Samples
    tokenizer: Encode
    input: InputConfig
    images_per_batch: int
    expressions_per_image: int
    seed: int
    steps: int
    endless: bool

    def __len__(self) -> int:
        """Number of batches of the run."""
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        """Builds one batch."""
        random = np.random.default_rng((self.seed, step))
        samples = [self.data[i] for i in self.indices(step)]
        picked = [
            (b, e)
            for b, sample in enumerate(samples)
            for e in sorted(random.permutation(len(sample.expressions))[: self.expressions_per_image].tolist())
        ]
        tokens = self.tokenizer([samples[b].expressions[e].text for b, e in picked], self.input.max_tokens)
        return Batch(
            pixels=torch.stack([image_to_pixels(sample.image, self.input) for sample in samples]),
            tokens=tokens.ids,
            token_mask=tokens.mask,
            image_index=torch.tensor([b for b, _ in picked]),
            targets=torch.stack([mask_to_target(samples[b].mask(e), self.input) for b, e in picked]),
            ids=tuple(samples[b].expressions[e].sent_id for b, e in picked),
        )

    def indices(self, step: int) -> list[int]:
        """Which samples batch number `step` holds."""
        first = step * self.images_per_batch
        numbers = range(first, first + self.images_per_batch)
        if self.endless:
            return list(numbers)
        size = len(self.data)
        orders = {p: np.random.default_rng((self.seed, 1, p)).permutation(size) for p in {n // size for n in numbers}}
        return [int(orders[n // size][n % size]) for n in numbers]
