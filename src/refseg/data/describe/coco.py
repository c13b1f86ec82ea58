"""A COCO instances file by image: photos with all that is annotated in them, crowds included."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from refseg.data.describe.scene import Scene, Thing
from refseg.data.describe.words import clean
from refseg.data.formats.coco import Annotation, read_instances
from refseg.data.formats.regions import BadMask, RawReference, Size, rasterise


@dataclass(frozen=True)
class Photo:
    """An image of the file, with its annotations as they stand there.

    Attributes:
        image_id: Its identifier.
        file_name: Path below the folder of images.
        size: (H, W).
        annotations: Those of this image, each with a category and a segmentation.
    """

    image_id: str
    file_name: str
    size: Size
    annotations: list[Annotation] = field(default_factory=list)


class Photos:
    """The photos of a COCO instances file, of which every one has its size and every annotation says what it is.

    Args:
        path: The JSON file.

    Raises:
        ValueError: It is missing or malformed, or lacks what a description needs; names the file and what in it.
    """

    def __init__(self, path: Path) -> None:
        known = read_instances(path)
        self.path = path
        self.photos: dict[str, Photo] = {}
        for image_id, (name, size) in known.images.items():
            if size is None:
                raise ValueError(f"{path}: image {image_id}: no height and width; the size of the image is needed")
            self.photos[image_id] = Photo(image_id, name, size)
        for annotation in known.annotations.values():
            for what, given in (("category_id", annotation.category), ("segmentation", annotation.kept)):
                if given is None:
                    raise ValueError(
                        f"{path}: annotation {annotation.ann_id}: no {what}; what and where it is are needed"
                    )
            self.photos[annotation.image_id].annotations.append(annotation)

    def scene(self, photo: Photo) -> Scene:
        """The things of an image; annotations whose mask is empty are left out.

        Raises:
            ValueError: A segmentation cannot be read or is not of the image's size.
        """
        found = []
        for annotation in photo.annotations:
            where = f"{self.path}: annotation {annotation.ann_id}"
            region = annotation.region(where)
            try:
                mask = rasterise(RawReference(annotation.ann_id, None, (region,)), photo.size)
            except BadMask as error:
                if error.finding == "empty masks":
                    continue
                raise ValueError(f"{where}: {error}; a mask of the image's own size is accepted") from error
            found.append(Thing(annotation.ann_id, clean(annotation.category or ""), mask, annotation.crowd))
        return Scene(tuple(found))
