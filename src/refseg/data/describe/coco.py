"""COCO's instances file as images with their things, crowds included.

Unlike `refseg.data.coco`, which looks up annotations that expressions point to, this reads the file by image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refseg.data.describe.scene import Scene, Thing
from refseg.data.describe.words import clean
from refseg.data.fields import as_id, as_list, as_name, as_record, needed, parse_json, read_text
from refseg.data.regions import RawReference, Size, check_size, parse_segmentation, rasterise


@dataclass(frozen=True)
class Photo:
    """An image of the file, with its annotations as they stand there.

    Attributes:
        image_id: Its identifier.
        file_name: Path below the folder of images.
        size: (H, W).
        annotations: Those of this image: identifier, category, segmentation, and whether it is a crowd.
    """

    image_id: str
    file_name: str
    size: Size
    annotations: list[tuple[str, str, Any, bool]] = field(default_factory=list)


class Instances:
    """A COCO instances file: `images`, `annotations` with segmentations, and `categories`.

    Args:
        path: The JSON file.

    Raises:
        ValueError: It is missing or malformed; names the file and what in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = as_record(parse_json(read_text(path), str(path)), str(path))
        categories = dict(self._category(*item) for item in self._records(content, "categories"))
        self.photos: dict[str, Photo] = {}
        for where, record in self._records(content, "images"):
            image_id = as_id(needed(record, "id", where), f"{where}: id")
            if image_id in self.photos:
                raise ValueError(f"{where}: id {image_id} is there twice; every id once is accepted")
            name = as_name(needed(record, "file_name", where), f"{where}: file_name")
            size = check_size(needed(record, "height", where), needed(record, "width", where), where)
            self.photos[image_id] = Photo(image_id, name, size)
        for where, record in self._records(content, "annotations"):
            self._annotation(where, record, categories)

    def _records(self, content: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        where = f"{self.path}: {name}"
        for number, value in enumerate(as_list(needed(content, name, str(self.path)), where)):
            yield f"{where}[{number}]", as_record(value, f"{where}[{number}]")

    def _category(self, where: str, record: Mapping[str, Any]) -> tuple[str, str]:
        name = as_name(needed(record, "name", where), f"{where}: name")
        return as_id(needed(record, "id", where), f"{where}: id"), clean(name)

    def _annotation(self, where: str, record: Mapping[str, Any], categories: Mapping[str, str]) -> None:
        key = as_id(needed(record, "id", where), f"{where}: id")
        image = as_id(needed(record, "image_id", where), f"{where}: image_id")
        category = as_id(needed(record, "category_id", where), f"{where}: category_id")
        for name, value, known in (("image_id", image, self.photos), ("category_id", category, categories)):
            if value not in known:
                raise ValueError(f"{where}: {name} {value} is not in the file; one that is there is accepted")
        crowd = bool(record.get("iscrowd"))
        self.photos[image].annotations.append((key, categories[category], needed(record, "segmentation", where), crowd))

    def scene(self, photo: Photo) -> Scene:
        """The things of an image; annotations whose mask is empty are left out.

        Raises:
            ValueError: A segmentation cannot be read or is not of the image's size.
        """
        found = []
        for key, category, segmentation, crowd in photo.annotations:
            mask = self._mask(key, segmentation, photo.size)
            if mask.any():
                found.append(Thing(key, category, mask, crowd))
        return Scene(tuple(found))

    def _mask(self, key: str, segmentation: Any, size: Size) -> np.ndarray:
        where = f"{self.path}: annotation {key}"
        regions = parse_segmentation(segmentation, where)
        try:
            return rasterise(RawReference(key, None, regions), size)
        except ValueError as error:
            raise ValueError(f"{where}: {error}; a mask of the image's own size is accepted") from error
