"""What is asked about the images of a split: which expressions, in which words, and in which batches.

H and W are an image's height and width.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from refseg.types import Expression, Reference, Sample, Samples

Words = Literal["true", "shuffled", "swapped"]
Shard = tuple[int, int]
Others = Callable[[], Iterable[Reference]]

WHOLE: Shard = (0, 1)


def nobody() -> tuple[Reference, ...]:
    """The other objects of an image of which no more is known than its references."""
    return ()


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about one image.

    Attributes:
        index: Number of the image in its split.
        sample: The image with its references.
        numbers: Which of its expressions are scored.
        texts: The words that are used for each.
        others: Gives the objects of the image that are none of its references, as far as the data knows any. They are
            drawn one by one when somebody asks.
    """

    index: int
    sample: Sample
    numbers: list[int]
    texts: list[str]
    others: Others = nobody

    @property
    def sent_ids(self) -> list[str]:
        """Identifiers of the expressions that are scored."""
        return [self.sample.expressions[number].sent_id for number in self.numbers]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.sample.image.shape[0], self.sample.image.shape[1]


class Quick(Protocol):
    """A split that tells what is written about an image without reading its pixels."""

    def expressions(self, index: int) -> tuple[Expression, ...]:
        """The expressions of an image, as its sample has them."""
        ...


class Crowded(Protocol):
    """A split that knows more objects of an image than those that are referred to."""

    def others(self, index: int, size: tuple[int, int]) -> Iterable[Reference]:
        """Objects of an image of a size (H, W) that are none of its references, drawn one by one."""
        ...


class _Reader:
    """Reads a split by image; the expressions alone where that is cheaper."""

    def __init__(self, data: Samples) -> None:
        self._data = data
        self._last: tuple[int, Sample] | None = None

    def expressions(self, index: int) -> tuple[Expression, ...]:
        """What is written about an image."""
        if hasattr(self._data, "expressions"):
            return typing.cast(Quick, self._data).expressions(index)
        return self.sample(index).expressions

    def sample(self, index: int) -> Sample:
        """The image with all that belongs to it."""
        if self._last is None or self._last[0] != index:
            self._last = None  # two samples at a time are one too many
            self._last = index, self._data[index]
        return self._last[1]

    def asked(self, index: int, words: Words) -> tuple[list[int], list[str]]:
        """Which expressions of an image are scored, and the words that are used for each."""
        # The other image first: where reading expressions means reading an image, the last one read is needed again.
        other = self.expressions((index + len(self._data) // 2) % len(self._data)) if words == "shuffled" else ()
        own = self.expressions(index)
        numbers, texts = list(range(len(own))), [expression.text for expression in own]
        if words == "shuffled":
            numbers = numbers if other else []
            texts = [other[i % len(other)].text for i in numbers]
        elif words == "swapped":
            of = [expression.reference for expression in own]
            swaps = [next((j for j in numbers[i + 1 :] + numbers[:i] if of[j] != of[i]), None) for i in numbers]
            numbers = [i for i in numbers if swaps[i] is not None]
            texts = [own[j].text for j in swaps if j is not None]
        return numbers, texts

    def question(self, index: int, numbers: list[int], texts: list[str]) -> Question:
        """The question about an image."""
        found = Question(index, self.sample(index), numbers, texts)
        if not hasattr(self._data, "others"):
            return found
        return replace(found, others=partial(typing.cast(Crowded, self._data).others, index, found.size))


def batches(
    data: Samples,
    limit: int | None = None,
    words: Words = "true",
    images_per_batch: int = 1,
    shard: Shard = WHOLE,
) -> Iterator[list[Question]]:
    """What is asked about the images of a split, batch by batch; every image is read once, when its batch comes.

    A batch is made of images by their number: k times `images_per_batch` and the following are batch k, whichever of
    them are asked about, and part r of n has the batches k with k % n == r. So a batch holds the same questions
    however many parts there are, and what a model answers to it does not depend on who asks.

    Args:
        data: The split. If it has `expressions` (see `Quick`), images that are not asked about are never read.
        limit: At most this many expressions, counted over all parts in the order of the split.
        words: "true" asks what was written. To see whether a model reads at all, "shuffled" asks about every image
            what was written about another one, and "swapped" what was written about another target of the same image
            (images with one target are left out).
        images_per_batch: How many images a batch has at most.
        shard: Number of this part, from 0, and number of parts.

    Raises:
        ValueError: There is no such part, or a batch has no image.
    """
    part, parts = shard
    if not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts}: a number from 0 to one less than the number of parts is accepted")
    if images_per_batch < 1:
        raise ValueError(f"{images_per_batch} images per batch: 1 or more is accepted")
    if words == "shuffled" and len(data) < 2:
        raise ValueError(f"shuffled words for a split of {len(data)} image: two or more images are accepted")
    reader, left = _Reader(data), limit
    for number, first in enumerate(range(0, len(data), images_per_batch)):
        mine = number % parts == part
        if left == 0:
            return
        if left is None and not mine:  # with a limit it still has to be counted
            continue
        batch = []
        for index in range(first, min(first + images_per_batch, len(data))):
            asked, texts = reader.asked(index, words)
            asked = asked[:left]
            left = left if left is None else left - len(asked)
            if asked and mine:
                batch.append(reader.question(index, asked, texts[: len(asked)]))
        if batch:
            yield batch


def asked_of(data: Samples, index: int, words: Words) -> dict[int, str]:
    """The words that are used for each expression of an image that is scored, by its number; see `batches`."""
    return dict(zip(*_Reader(data).asked(index, words), strict=True))


def images_asked(data: Samples, limit: int | None, words: Words = "true") -> int | None:
    """How many images `batches` comes by; None where only reading the images would tell."""
    if limit is None:
        return len(data)
    if not hasattr(data, "expressions"):
        return None
    reader, left, images = _Reader(data), limit, 0
    for index in range(len(data)):
        if left <= 0:
            break
        count = min(left, len(reader.asked(index, words)[0]))
        left, images = left - count, images + (count > 0)
    return images


def ask(data: Samples, limit: int | None = None, words: Words = "true") -> Iterator[Question]:
    """What is asked about each image, one after another; see `batches`."""
    for batch in batches(data, limit, words):
        yield from batch
