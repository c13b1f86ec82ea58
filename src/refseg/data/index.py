"""A split as an index: which image, which sentences, which stored masks. Images are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from refseg.data.formats.annotated import AnnotatedObjects
from refseg.data.formats.entries import Entry
from refseg.data.formats.images import read_image
from refseg.data.formats.regions import Overlap, Size, rasterise
from refseg.types import Expression, Reference, Sample


class IndexedSamples:
    """The samples of a split, every image once with all its expressions; masks are drawn when they are asked for.

    Args:
        name: Name of the data set.
        split: Name of the split.
        entries: The images in order.
        source: The file the index was read from, for messages.
        overlap: What becomes of pixels that several parts of a mask cover; see `rasterise`.
    """

    endless = False

    def __init__(
        self, name: str, split: str, entries: Sequence[Entry], source: Path, overlap: Overlap = "union"
    ) -> None:
        self.name = name
        self.split = split
        self.entries = tuple(entries)
        self.source = source
        self.overlap: Overlap = overlap
        self._annotated = AnnotatedObjects(source, [entry.image_id for entry in self.entries])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image and draws its masks.

        Raises:
            IndexError: There is no such image.
            ValueError: The image is missing or damaged, its size is not the one that the annotations give, or a mask
                does not fit it; names the index file, the image and the reference.
        """
        entry = self._entry(index)
        return self.sample(entry, range(len(entry.references)))

    def expressions(self, index: int) -> tuple[Expression, ...]:
        """What is written about an image, which is not read.

        Raises:
            IndexError: There is no such image.
        """
        return self._entry(index).expressions

    def others(self, index: int, size: Size) -> Iterator[Reference]:
        """The annotated objects of an image that are no reference of their own, where the layout knows any.

        The file of all annotations is read when somebody asks for the first time, and drawn is one object at a time.

        Args:
            index: Number of the image.
            size: (H, W) of the image.

        Raises:
            IndexError: There is no such image.
        """
        entry = self._entry(index)
        told = [reference.extra["ann_ids"] for reference in entry.references if "ann_ids" in reference.extra]
        if told:  # else the references are all that the layout has
            alone = {ann_ids[0] for ann_ids in told if len(ann_ids) == 1}
            yield from self._annotated.of(entry.image_id, size, alone)

    def sample(self, entry: Entry, numbers: Sequence[int]) -> Sample:
        """The sample of an entry with some of its references, and the expressions about those.

        Raises:
            ValueError: See `__getitem__`.
        """
        image = read_image(entry.file)
        size = (image.shape[0], image.shape[1])
        if entry.size is not None and entry.size != size:
            given, found = (f"{side[1]}x{side[0]}" for side in (entry.size, size))
            raise ValueError(
                f"{self.source}: image {entry.image_id} is annotated as {given} pixels, {entry.file} has {found}; "
                "the image that was annotated is accepted"
            )
        references = []
        for number in numbers:
            raw = entry.references[number]
            try:
                mask = rasterise(raw, size, self.overlap)
            except ValueError as error:
                raise ValueError(
                    f"{self.source}: image {entry.image_id}, reference {raw.ref_id}: {error}; "
                    "a mask of the image's own size is accepted"
                ) from error
            references.append(Reference(raw.ref_id, mask, raw.category, raw.extra.get("same_category")))
        place = {number: i for i, number in enumerate(numbers)}
        expressions = tuple(replace(e, reference=place[e.reference]) for e in entry.expressions if e.reference in place)
        return Sample(entry.image_id, image, tuple(references), expressions)

    def _entry(self, index: int) -> Entry:
        if not 0 <= index < len(self.entries):
            raise IndexError(f"{self.name} {self.split}: there is no image {index}; it has {len(self.entries)}")
        return self.entries[index]


class PerReference:
    """The same data with one item per reference: its image, its mask and its sentences.

    The papers train so: an epoch takes every reference once, with one of its sentences drawn at random, which a
    batch of one expression per image does with these samples.

    Args:
        samples: A split.
    """

    endless = False

    def __init__(self, samples: IndexedSamples) -> None:
        self.samples = samples
        self.name = samples.name
        self.split = samples.split
        asked = (
            (index, number)
            for index, entry in enumerate(samples.entries)
            for number in sorted({expression.reference for expression in entry.expressions})
        )
        self._items = tuple(asked)

    def __len__(self) -> int:
        """Number of references."""
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        """The image of one reference with the sentences about it.

        Raises:
            IndexError: There is no such reference.
            ValueError: See `IndexedSamples`.
        """
        if not 0 <= index < len(self._items):
            raise IndexError(f"{self.name} {self.split}: there is no reference {index}; it has {len(self._items)}")
        entry, number = self._items[index]
        return self.samples.sample(self.samples.entries[entry], (number,))
