"""All annotated objects of images in REFER or COCO layout, also those that no expression is about.

Only statistics about mistakes need them ("it found another object"), so nothing is read before somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from refseg.data.formats.regions import RawReference, Size, rasterise
from refseg.types import Reference

FILE = "instances.json"


class AnnotatedObjects:
    """The annotations of some images; the file is read on the first question, and kept of it is what these images need.

    Args:
        source: The file of references or expressions that the annotations lie beside.
        image_ids: The images.

    Attributes:
        there: Whether they lay there at the beginning.
    """

    def __init__(self, source: Path, image_ids: Sequence[str]) -> None:
        self._path = source.with_name(FILE)
        self.there = self._path.is_file()
        self._image_ids = image_ids
        self._found: Mapping[str, tuple[RawReference, ...]] | None = None
        self._ids: set[tuple[str, str]] = set()  # image and annotation, crowds too

    def of(self, image_id: str, size: Size, without: set[str]) -> Iterator[Reference]:
        """The objects of an image, each drawn when it is its turn, so that only one takes memory.

        Crowds are not objects. What cannot be drawn is left out: `refseg data check` is there to find it.

        Args:
            image_id: The image.
            size: (H, W) of the image.
            without: Annotations that are left out.

        Raises:
            ValueError: The file can no longer be read.
        """
        for raw in self._all().get(image_id, ()):
            if raw.ref_id in without:
                continue
            try:
                mask = rasterise(raw, size)
            except ValueError:
                continue
            yield Reference(raw.ref_id, mask, raw.category)

    def check(self, image_id: str, ann_ids: Iterable[str]) -> None:
        """Makes sure that annotations which somebody names are there and of that image.

        Raises:
            ValueError: One is not, or the file can no longer be read.
        """
        self._all()
        for ann_id in ann_ids:
            if (image_id, ann_id) not in self._ids:
                raise ValueError(f"{self._path}: has no annotation {ann_id} of image {image_id}, which the expressions "
                                 "beside it name; their own file is accepted there, or none")  # fmt: skip

    def _all(self) -> Mapping[str, tuple[RawReference, ...]]:
        if self._found is None:
            self._found = self._read()
        return self._found

    def _read(self) -> dict[str, tuple[RawReference, ...]]:
        from refseg.data.formats.coco import read_instances  # it builds on the index, which asks here

        wanted, found = set(self._image_ids), dict[str, tuple[RawReference, ...]]()
        for annotation in read_instances(self._path).annotations.values():
            if annotation.image_id not in wanted:
                continue
            self._ids.add((annotation.image_id, annotation.ann_id))
            if annotation.crowd:
                continue
            try:
                region = annotation.region(f"{self._path}: annotation {annotation.ann_id}")
            except ValueError:
                continue
            raw = RawReference(annotation.ann_id, annotation.category, (region,))
            found[annotation.image_id] = (*found.get(annotation.image_id, ()), raw)
        return found
