"""The dataclasses that cross a module boundary.

Letters used for shapes all over the package: B images, T expressions, L words (tokens), P pixels, C channels, N heads,
Q queries, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """One object that is referred to.

    Attributes:
        ref_id: Identifier of the reference, unique within its data set and split.
        mask: (H, W) bool at the image's own size, the visible part of the object.
        category: Name of the object's category, if the data set has categories.
        same_category: How many objects of that category the data set knows in the image, this one among them; None
            if it does not say.
    """

    ref_id: str
    mask: np.ndarray
    category: str | None = None
    same_category: int | None = None


@dataclass(frozen=True)
class Expression:
    """One sentence about one reference.

    Attributes:
        sent_id: Identifier of the sentence, unique within its data set and split.
        text: The sentence as a person wrote it.
        reference: Index into `Sample.references`.
        kind: What the sentence relies on ("attribute", "relation", ...), if the data set knows.
        words: How many words it has, where the data set counts them itself (REFER's `tokens`).
    """

    sent_id: str
    text: str
    reference: int
    kind: str | None = None
    words: int | None = field(default=None, compare=False)  # of the same text, and no other format has it


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with everything that is asked about it.

    Attributes:
        image_id: Identifier of the image, unique within its data set.
        image: (H, W, 3) uint8, RGB.
        references: The objects that are referred to.
        expressions: The sentences; several may share a reference.
    """

    image_id: str
    image: np.ndarray
    references: tuple[Reference, ...]
    expressions: tuple[Expression, ...]

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool mask that the expression number `index` refers to."""
        return self.references[self.expressions[index].reference].mask


class Samples(Protocol):
    """A data set: samples by number."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """One image with its expressions."""
        ...


class Dataset(Protocol):
    """One split of a data set."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        ...

    @property
    def split(self) -> str:
        """Name of the split."""
        ...

    @property
    def endless(self) -> bool:
        """Whether it has no end and needs no shuffling."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """One image with its expressions."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step reads.

    Attributes:
        pixels: (B, 3, H, W) float, normalised; or uint8, which `to` normalises where they arrive.
        tokens: (T, L) int64 token ids.
        token_mask: (T, L) bool, True on real tokens.
        image_index: (T,) int64, which image each expression asks about.
        targets: (T, H, W) bool at network size.
        ids: T names of the expressions, for messages.
        normalise: What makes of uint8 what a network reads; None where the pixels are.
    """

    pixels: Tensor
    tokens: Tensor
    token_mask: Tensor
    image_index: Tensor
    targets: Tensor
    ids: tuple[str, ...] = ()
    normalise: Callable[[Tensor], Tensor] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device, its pixels normalised."""
        pixels = self.pixels.to(device)
        return Batch(
            pixels if self.normalise is None else self.normalise(pixels),
            self.tokens.to(device),
            self.token_mask.to(device),
            self.image_index.to(device),
            self.targets.to(device),
            self.ids,
        )


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Everything a method computes from the pixels before the text enters.

    Attributes:
        maps: Feature maps (B, C, h, w) by name; which ones is the method's own business.
        size: (H, W) of the network input.
    """

    maps: dict[str, Tensor]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Words and sentence.

    Attributes:
        words: (T, L, C) one vector per token.
        mask: (T, L) bool, True on real tokens.
        sentence: (T, C) one vector per expression, for the methods that use one.
    """

    words: Tensor
    mask: Tensor
    sentence: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """What a method returns for T expressions.

    Attributes:
        logits: (T, 1, h, w) log-odds of the foreground.
        aux: Tensors that only the loss reads, filled in training.
        details: Tensors for a curious eye (attention, prototypes, masks by stage), filled on request.
    """

    logits: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)
