"""A split as an index: which image, which sentences, which stored masks. Images are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from refseg.data.formats.annotated import AnnotatedObjects
from refseg.data.formats.entries import Entry
from refseg.data.formats.images import LYING, read_image, stored_size
from refseg.data.formats.mask_pictures import mask_size
from refseg.data.formats.regions import BadMask, RawReference, Region, Size, draw, region_size, with_foreground
from refseg.data.reading import AS_IT_IS, Reading
from refseg.files import is_file
from refseg.types import Expression, Reference, Sample

_SLACK = 1.5  # pixels: annotation tools put a corner on or just beyond the border


class BadSample(ValueError):
    """An image or a mask that cannot be used.

    Args:
        finding: What that is called, a key of `refseg.data.checks.findings.FINDINGS`.
        message: Names the index file, the image and what is accepted.
        example: What stands for it in a list: a file, or a reference.
    """

    def __init__(self, finding: str, message: str, example: str) -> None:
        super().__init__(message)
        self.finding, self.example = finding, example


class IndexedSamples:
    """The samples of a split, every image once with all its expressions; masks are drawn when they are asked for.

    Args:
        name: Name of the data set.
        split: Name of the split.
        entries: The images in order.
        source: The file the index was read from, for messages.
        reading: How files are read that leave a choice.
        left_out: What was left out of the split before it came here, a message each.
    """

    endless = False

    def __init__(
        self,
        name: str,
        split: str,
        entries: Sequence[Entry],
        source: Path,
        reading: Reading = AS_IT_IS,
        left_out: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.split = split
        self.entries = tuple(entries)
        self.source = source
        self.reading = reading
        self.left_out = tuple(left_out)
        self._foreground = reading.foreground
        self._annotated = AnnotatedObjects(source, [entry.image_id for entry in self.entries])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image and draws its masks.

        Raises:
            IndexError: There is no such image.
            BadSample: The image is missing or damaged, it is not clear how it was turned when it was annotated, its
                size is not the one that the annotations give, or a mask does not fit it, has no pixel or contradicts
                what its file says of it.
        """
        entry = self._entry(index)
        return self.sample(entry, range(len(entry.references)))

    def expressions(self, index: int) -> tuple[Expression, ...]:
        """What is written about an image, which is not read.

        Raises:
            IndexError: There is no such image.
        """
        return self._entry(index).expressions

    @property
    def knows_objects(self) -> bool:
        """Whether the layout has annotated objects beside those that are referred to."""
        told = any("ann_ids" in reference.extra for entry in self.entries for reference in entry.references)
        return told and self._annotated.there

    def objects(self, index: int, size: Size) -> Iterator[Reference]:
        """All annotated objects of an image, where the layout knows them, each drawn when it is its turn.

        Args:
            index: Number of the image.
            size: (H, W) of the image.

        Raises:
            IndexError: There is no such image.
            ValueError: The annotations are not those that the references name.
        """
        entry = self._entry(index)
        for reference in entry.references:
            self._annotated.check(entry.image_id, reference.extra.get("ann_ids", ()))
        yield from self._annotated.of(entry.image_id, size, set())

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
        if told and self._annotated.there:  # else the references are all that the layout has
            for ann_ids in told:
                self._annotated.check(entry.image_id, ann_ids)
            alone = {ann_ids[0] for ann_ids in told if len(ann_ids) == 1}
            yield from self._annotated.of(entry.image_id, size, alone)

    def sample(self, entry: Entry, numbers: Sequence[int]) -> Sample:
        """The sample of an entry with some of its references, and the expressions about those.

        Raises:
            BadSample: See `__getitem__`.
        """
        image = self.image(entry)
        size = (image.shape[0], image.shape[1])
        references = []
        for number in numbers:
            raw = entry.references[number]
            mask = self.mask(entry, raw, size)
            references.append(Reference(raw.ref_id, mask, raw.category, raw.extra.get("same_category")))
        place = {number: i for i, number in enumerate(numbers)}
        expressions = tuple(replace(e, reference=place[e.reference]) for e in entry.expressions if e.reference in place)
        return Sample(entry.image_id, image, tuple(references), expressions)

    def image(self, entry: Entry) -> np.ndarray:
        """(H, W, 3) uint8, the image of an entry as it was annotated.

        Raises:
            BadSample: It is missing, damaged, or not the one that was annotated.
        """
        size, upright = self.frame(entry)
        try:
            image = read_image(entry.file, upright)
        except ValueError as error:
            raise self._bad_image("unreadable images", entry, str(error)) from error
        if image.shape[:2] != size:  # an orientation that stands behind the pixels
            raise self._bad_image("turned photos", entry, f"{entry.file}: its EXIF orientation cannot be relied on; "
                                  "a photo without one is accepted")  # fmt: skip
        return image

    def frame(self, entry: Entry) -> tuple[Size, bool]:
        """(H, W) of an entry's image as it was annotated, and whether it is to be turned upright; from its header.

        Raises:
            BadSample: See `image`.
        """
        if not is_file(entry.file):
            places = ", ".join(str(place) for place in dict.fromkeys(entry.places) if place.is_dir())
            looked = f" (looked for in {places})" if places else ""
            raise self._bad_image("missing images", entry, f"{entry.file}: no such file{looked}; --images FOLDER says "
                                  "where the images are")  # fmt: skip
        try:
            stored, turned = stored_size(entry.file)
        except ValueError as error:
            raise self._bad_image("unreadable images", entry, str(error)) from error
        shown = stored[::-1] if turned >= LYING else stored
        upright = self.reading.orientation != "stored"
        if turned != 1 and self.reading.orientation == "fitting" and any(r.regions for r in entry.references):
            as_shown, as_stored = self._fits(entry, shown), self._fits(entry, stored)
            if as_stored:
                fits = "both ways" if as_shown else "the stored pixels, and not the photo as it is shown"
                raise self._bad_image("turned photos", entry, f"{entry.file}: has the EXIF orientation {turned}, and "
                                      f"its annotations fit {fits}; --orientation stored or shown says on which of the "
                                      "two they were drawn")  # fmt: skip
        size = shown if upright else stored
        if entry.size is not None and entry.size != size:
            given, found = (f"{side[1]}x{side[0]}" for side in (entry.size, size))
            raise self._bad_image(
                "images of another size",
                entry,
                f"annotated as {given} pixels, {entry.file} has {found}; the image that was annotated is accepted",
            )
        return size, upright

    def mask(self, entry: Entry, raw: RawReference, size: Size) -> np.ndarray:
        """(H, W) bool, the mask of a reference.

        Raises:
            BadSample: It cannot be drawn, has no pixel, or contradicts what its file says of it.
        """
        try:
            return draw(self.chosen(raw), size, self.reading.overlap).mask
        except BadMask as error:
            raise self._bad_mask(error, entry, raw) from error

    def chosen(self, raw: RawReference) -> RawReference:
        """A reference with the values that are the object in its pictures."""
        return with_foreground(raw, self._foreground)

    def outline(self, entry: Entry, raw: RawReference, size: Size) -> None:
        """Looks at a reference without drawing it: the sizes of codes and pictures, and whether an outline is one.

        Raises:
            BadSample: It cannot be a mask of an image of that size.
        """
        try:
            for region in raw.regions:
                own = _own_size(region)
                if own not in (None, size):
                    raise BadMask("masks of another size", f"mask of {own} for an image of {size} (height, width)")
            if raw.regions and not any(_may_have_area(region) for region in raw.regions):
                draw(self.chosen(raw), size)  # says why it is none
        except BadMask as error:
            raise self._bad_mask(error, entry, raw) from error
        except ValueError as error:
            raise self._bad_mask(BadMask("unreadable masks", str(error)), entry, raw) from error

    def _fits(self, entry: Entry, size: Size) -> bool:
        """Whether an entry's annotations may have been drawn on an image of that size, by all that they say of it."""
        if entry.size not in (None, size):
            return False
        for reference in entry.references:
            for region in reference.regions:
                try:
                    own = _own_size(region)
                except ValueError:
                    continue  # said when it is drawn
                if own not in (None, size) or any(is_outside(polygon, size) for polygon in region.polygons or ()):
                    return False
        return True

    def _bad_image(self, finding: str, entry: Entry, what: str) -> BadSample:
        return BadSample(finding, f"{self.source}: image {entry.image_id}: {what}", str(entry.file))

    def _bad_mask(self, error: BadMask, entry: Entry, raw: RawReference) -> BadSample:
        told = str(error) if "accepted" in str(error) else f"{error}; a mask of the image's own size is accepted"
        message = f"{self.source}: image {entry.image_id}, reference {raw.ref_id}: {told}"
        return BadSample(error.finding, message, raw.ref_id)

    def _entry(self, index: int) -> Entry:
        if not 0 <= index < len(self.entries):
            raise IndexError(f"{self.name} {self.split}: there is no image {index}; it has {len(self.entries)}")
        return self.entries[index]


def is_outside(polygon: np.ndarray, size: Size) -> bool:
    """Whether an outline x, y, x, y, ... leaves an image of size (H, W)."""
    points = polygon.reshape(-1, 2)
    return bool((points < -_SLACK).any() or (points > np.array([size[1], size[0]]) + _SLACK).any())


def _own_size(region: Region) -> Size | None:
    return region_size(region) if region.file is None else mask_size(region.file)


def _may_have_area(region: Region) -> bool:
    """Whether a region may have a pixel, without drawing it."""
    if region.polygons is None:
        return region.file is not None or bool(region.codes)
    return any(polygon.size >= 6 and polygon.max() > 1 for polygon in region.polygons)


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
