"""From a COCO file and its images to rows of the Data JSONL format."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refseg.data.describe.coco import Photo, Photos
from refseg.data.describe.generate import LEAST, describe
from refseg.data.formats.images import LYING, stored_size
from refseg.data.formats.rle import encode_rle
from refseg.data.reading import Orientation
from refseg.data.shapes.stream import Stream

NOTICE = (
    "Every expression fits one annotated object clearly and no other annotated one even perhaps; objects that are not "
    "annotated are unknown to it, and data sets label some of many small things only."
)


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        seed: Chooses among what could be said.
        per_object: At most this many expressions of one object.
        limit: At most this many images of the file are looked at; None for all.
        val_percent: Share of the images in the split `val`; the others are in `train`.
        orientation: Which pixels of a photo with an EXIF orientation were annotated: as it is "shown", or as "stored",
            whose rows are then right for who reads them so. With "fitting" a photo is left out if both may be.
    """

    seed: int = 0
    per_object: int = 3
    limit: int | None = None
    val_percent: int = 10
    orientation: Orientation = "fitting"


class Describer:
    """Writes rows for the objects of a COCO file, and counts.

    Args:
        photos: The file.
        images: Folder with its images.
        out: Folder that the rows will stand in; paths of images are relative to it where they lie in or beside it.
        options: What is asked for.

    Raises:
        ValueError: `images` is no folder.
    """

    def __init__(self, photos: Photos, images: Path, out: Path, options: Options) -> None:
        if not images.is_dir():
            raise ValueError(f"{images}: no such folder; the folder that holds the images of the file is accepted")
        self._photos, self._images, self._out, self._options = photos, images, out, options
        self._counts = {
            name: Counter[str]() for name in ("kinds", "categories", "splits", "left_out", "images_left_out")
        }
        self._images_used = self._objects = self._missing = 0
        self._example = ""
        self._used: list[Photo] = []

    def __len__(self) -> int:
        """Number of images that are looked at."""
        count = len(self._photos.photos)
        return count if self._options.limit is None else min(count, self._options.limit)

    def rows(self, progress: Callable[[int], object] = lambda count: None) -> Iterator[dict[str, Any]]:
        """The rows, image by image. The summary is complete when they have been read.

        Args:
            progress: Is told that another image is done.

        Raises:
            ValueError: A segmentation cannot be read, no image of the file is there, or nothing can be described.
        """
        for number, photo in enumerate(self._photos.photos.values()):
            if number >= len(self):
                break
            yield from self._of(photo)
            progress(1)
        if self._images_used:
            return
        if self._missing:
            raise ValueError(
                f"{self._images}: holds none of the images that {self._photos.path} names, for example "
                f"{self._example!r}; the folder that their file_name is relative to is accepted"
            )
        reasons = ", ".join(name for counter in ("left_out", "images_left_out") for name in self._counts[counter])
        raise ValueError(
            f"{self._photos.path}: no object can be described ({reasons or 'no image'}); objects of at least "
            f"{LEAST:.1%} of their image, with something that tells them from others, are accepted"
        )

    def summary(self) -> dict[str, Any]:
        """Counts of what was written and of what was left out, and the options."""
        counts = {name: dict(counter.most_common()) for name, counter in self._counts.items()}
        return {
            "images": self._images_used,
            "objects": self._objects,
            "expressions": sum(self._counts["kinds"].values()),
            **counts,
            "options": asdict(self._options),
            "notice": NOTICE,
        }

    def instances(self) -> dict[str, Any]:
        """All annotations of the images that were described, in COCO's format: what else could have been meant."""
        of = [(photo, annotation) for photo in self._used for annotation in photo.annotations]
        numbers = {name: place for place, name in enumerate(sorted({a.category or "" for _, a in of}), start=1)}
        return {
            "images": [
                {"id": photo.image_id, "file_name": photo.file_name, "height": photo.size[0], "width": photo.size[1]}
                for photo in self._used
            ],
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
            "annotations": [
                {
                    "id": annotation.ann_id,
                    "image_id": photo.image_id,
                    "category_id": numbers[annotation.category or ""],
                    "segmentation": annotation.segmentation(f"annotation {annotation.ann_id}"),
                    "iscrowd": int(annotation.crowd),
                }
                for photo, annotation in of
            ],
        }

    def _of(self, photo: Photo) -> Iterator[dict[str, Any]]:
        if not photo.annotations:
            self._counts["images_left_out"]["no annotation"] += 1
            return
        path = self._images / photo.file_name
        problem = _problem(path, photo.size, self._options.orientation)
        if problem:
            self._counts["images_left_out"][problem] += 1
            if problem == "missing":
                self._missing += 1
                self._example = photo.file_name
            return
        scene = self._photos.scene(photo)
        stream = Stream("describe 1", self._options.seed, photo.image_id)
        found, left_out = describe(scene, self._options.per_object, stream)
        self._counts["left_out"] += left_out
        if not found:
            self._counts["images_left_out"]["nothing to describe"] += 1
            return
        self._images_used += 1
        self._used.append(photo)
        self._objects += len({item.thing for item in found})
        split = split_of(path, self._options.val_percent)
        for number, item in enumerate(found):
            thing = scene.things[item.thing]
            for name, value in (("kinds", item.kind), ("categories", thing.category), ("splits", split)):
                self._counts[name][value] += 1
            yield {
                "image": self._written(path),
                "expression": item.text,
                "mask": encode_rle(thing.mask),
                "split": split,
                "image_id": photo.image_id,
                "ref_id": thing.key,
                "sent_id": f"{photo.image_id}-{number}",
                "category": thing.category,
                "ann_id": thing.key,
                "kind": item.kind,
            }

    def _written(self, path: Path) -> str:
        full, out = path.resolve(), self._out.resolve()
        return Path(os.path.relpath(full, out)).as_posix() if full.is_relative_to(out.parent) else full.as_posix()


def split_of(path: Path, val_percent: int) -> str:
    """`val` or `train`, by what is in the file and not by its name: copies of an image are in one split."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return "val" if int.from_bytes(digest[:8], "big") % 100 < val_percent else "train"


def _problem(path: Path, size: tuple[int, int], orientation: Orientation) -> str | None:
    """Why an image cannot be used, or None. Reads its header only."""
    if not path.is_file():
        return "missing"
    try:
        (height, width), turned = stored_size(path)
    except ValueError:
        return "unreadable"
    stored, shown = (height, width), (width, height) if turned >= LYING else (height, width)
    if turned != 1 and orientation == "fitting" and size == stored:
        return "turned by EXIF and perhaps annotated as stored (--orientation stored or shown)"
    return None if size == (stored if orientation == "stored" else shown) else "of another size than annotated"
