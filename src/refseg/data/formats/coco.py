"""COCO's instance annotations, and any such file with expressions beside it.

A folder in this format holds

    instances.json      `images` (id, file_name, height, width), `annotations` (id, image_id, category_id, segmentation,
                        iscrowd) and `categories` (id, name), as COCO has them
    expressions.jsonl   one JSON object a line: `expression`, and `ann_id`: the annotation it means, a list of several,
                        or null (then with `image_id`) where it means nothing in the image. Optional are `split`,
                        `ref_id`, `sent_id` and `kind`. `expressions.json` holds the same objects in one list
    images/             the images (or they lie beside the two files); `file_name` may begin with images/, too

Rows about the same annotations of an image are about one reference, unless they give different `ref_id`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from refseg.data.formats.entries import Entry
from refseg.data.formats.grouping import Grouping
from refseg.data.formats.photos import PhotoFinder
from refseg.data.formats.regions import RawReference, Region, Size, check_size, parse_segmentation
from refseg.fields import (
    as_id,
    as_list,
    as_name,
    as_record,
    json_rows,
    leave_out,
    needed,
    parse_json,
    read_text,
    shown,
)

EXPRESSIONS = ("expressions.jsonl", "expressions.json")


class Annotation(NamedTuple):
    """One annotated object.

    Attributes:
        ann_id: Its identifier.
        image_id: Its image.
        category: Name of its category, if it has one.
        kept: Its `segmentation`, parsed or as the text that `_content` made of it; see `segmentation`.
        crowd: Whether it is a region with an unknown number of objects.
        box: Its `bbox`, and
        area: its `area`, as in the file; None where it has none.
    """

    ann_id: str
    image_id: str
    category: str | None
    kept: Any
    crowd: bool
    box: Any = None
    area: Any = None

    def segmentation(self, where: str) -> Any:
        """As in the file; None where it has none.

        Raises:
            ValueError: Its numbers are none; the message starts with `where`.
        """
        if isinstance(self.kept, str) and self.kept.startswith(_AS_TEXT):
            return parse_json(self.kept.removeprefix(_AS_TEXT), f"{where}: segmentation")
        return self.kept

    def region(self, where: str) -> Region:
        """Where it is.

        Raises:
            ValueError: The segmentation is malformed; the message starts with `where`.
        """
        return parse_segmentation(self.segmentation(where), where, self.box, self.area)


_AS_TEXT = "\x7f"  # stands before numbers that are not parsed yet; no file of masks has a text that begins so
# In JSON a quoted name before a colon is a field's, whatever the strings hold: their quotes are escaped. Numbers on
# several lines are left, since no string of JSON may hold a line's end.
_OUTLINES = re.compile(r'("segmentation"\s*+:\s*+)(\[[\d .,eE+\-\[\]]*\])')


def _content(path: Path) -> Any:
    """What the file holds, where every segmentation that is lists of numbers has become a text.

    Numbers of Python take most of the time and four times the memory, and most annotations of a large file are of
    objects that nobody asks about.

    Raises:
        ValueError: It cannot be read, or is not JSON.
    """
    try:
        return parse_json(_OUTLINES.sub(rf'\1"{_AS_TEXT}\2"', read_text(path)), str(path))
    except ValueError:
        return parse_json(read_text(path), str(path))  # which knows the place of what is wrong


@dataclass(frozen=True, eq=False)
class Instances:
    """An instances file.

    Attributes:
        path: The file.
        images: Name and, if the file has it, (H, W) of each image, by its id.
        annotations: All of them, by id.
        counts: How many objects of a category an image has, by (image id, category).
    """

    path: Path
    images: Mapping[str, tuple[str, Size | None]]
    annotations: Mapping[str, Annotation]
    counts: Mapping[tuple[str, str | None], int]
    _regions: dict[str, Region] = field(default_factory=dict, repr=False)

    def _region_of(self, ann_id: str) -> Region:
        """Where an annotation is; read once, however many references mean it.

        Raises:
            ValueError: The segmentation is malformed; names the file and the annotation.
        """
        if ann_id not in self._regions:
            where = f"{self.path}: annotation {ann_id}"
            self._regions[ann_id] = self.annotations[ann_id].region(where)
        return self._regions[ann_id]

    def reference(self, ref_id: str, ann_ids: Sequence[str], image_id: str | None, where: str) -> RawReference:
        """The reference that means these annotations, none or several among them.

        Raises:
            ValueError: An annotation is unknown, of another image, or malformed; the message starts with `where`.
        """
        meant = []
        for ann_id in ann_ids:
            if ann_id not in self.annotations:
                raise ValueError(f"{where}: annotation {ann_id} is not in {self.path}; one that is there is accepted")
            annotation = self.annotations[ann_id]
            if image_id is not None and annotation.image_id != image_id:
                raise ValueError(
                    f"{where}: annotation {ann_id} is of image {annotation.image_id}, not of {image_id}; "
                    "annotations of the same image are accepted"
                )
            meant.append(annotation)
        regions = tuple(map(self._region_of, ann_ids))
        categories = {annotation.category for annotation in meant}
        category = categories.pop() if len(categories) == 1 else None
        extra: dict[str, Any] = {"ann_ids": tuple(ann_ids)}
        if category is not None:
            extra["same_category"] = self.counts[meant[0].image_id, category]
        return RawReference(ref_id, category, regions, extra)


def read_instances(path: Path, problems: list[str] | None = None) -> Instances:
    """Reads an instances file.

    Args:
        path: The file.
        problems: Takes the messages of malformed images, annotations and categories, which are then left out instead
            of stopping.

    Raises:
        ValueError: It is missing or malformed; names the file and the image or annotation.
    """
    content = as_record(_content(path), str(path))
    categories: dict[str, str] = {}
    for where, value in _rows(content.get("categories", []), path, "categories", "category"):
        with leave_out(problems):
            record = as_record(value, where)
            category_id = as_id(needed(record, "id", where), f"{where}: id")
            category = as_name(needed(record, "name", where), f"{where}: name")
            if (before := categories.setdefault(category_id, category)) != category:
                raise ValueError(
                    f"{path}: category {category_id}: there twice, as {shown(before)} and as {shown(category)}; every "
                    "id with one name is accepted"
                )
    images: dict[str, tuple[str, Size | None]] = {}
    for where, value in _rows(needed(content, "images", str(path)), path, "images", "image"):
        with leave_out(problems):
            image_id, name, size = _image(value, where, path)
            if image_id in images:
                raise ValueError(f"{path}: image {image_id}: there twice; every id once is accepted")
            images[image_id] = (name, size)
    annotations: dict[str, Annotation] = {}
    counts: Counter[tuple[str, str | None]] = Counter()
    for where, value in _rows(needed(content, "annotations", str(path)), path, "annotations", "annotation"):
        with leave_out(problems):
            annotation = _annotation(value, where, path, categories)
            if annotation.ann_id in annotations:
                raise ValueError(f"{path}: annotation {annotation.ann_id}: there twice; every id once is accepted")
            if annotation.image_id not in images:
                raise ValueError(
                    f"{path}: annotation {annotation.ann_id}: image {annotation.image_id} is not among the images; "
                    "one that is there is accepted"
                )
            annotations[annotation.ann_id] = annotation
            counts[annotation.image_id, annotation.category] += 1
    return Instances(path, images, annotations, counts)


def _rows(values: Any, path: Path, name: str, one: str) -> Iterator[tuple[str, Any]]:
    """Place for messages and value of each row of one of the file's lists."""
    for number, value in enumerate(as_list(values, f"{path}: {name}")):
        yield f"{path}: {one} number {number}", value


def _image(value: Any, where: str, path: Path) -> tuple[str, str, Size | None]:
    record = as_record(value, where)
    image_id = as_id(needed(record, "id", where), f"{where}: id")
    where = f"{path}: image {image_id}"
    name = as_name(needed(record, "file_name", where), f"{where}: file_name")
    height, width = record.get("height"), record.get("width")
    return image_id, name, None if height is None and width is None else check_size(height, width, where)


def _annotation(value: Any, where: str, path: Path, categories: Mapping[str, str]) -> Annotation:
    record = as_record(value, where)
    ann_id = as_id(needed(record, "id", where), f"{where}: id")
    where = f"{path}: annotation {ann_id}"
    category = None
    if record.get("category_id") is not None:
        category_id = as_id(record["category_id"], f"{where}: category_id")
        if category_id not in categories:
            raise ValueError(f"{where}: category {category_id} is not among the categories; one of them is accepted")
        category = categories[category_id]
    image_id = as_id(needed(record, "image_id", where), f"{where}: image_id")
    return Annotation(
        ann_id, image_id, category, record.get("segmentation"), bool(record.get("iscrowd")), record.get("bbox"),
        record.get("area"),
    )  # fmt: skip


def read_coco(
    instances: Path, expressions: Path, images: Path | None = None, problems: list[str] | None = None
) -> dict[str, tuple[Entry, ...]]:
    """Reads an instances file with expressions; see the top of this module.

    Args:
        instances: The instances file.
        expressions: The expressions, `.jsonl` or `.json`.
        images: Folder of the images; by default `images` beside the instances file if it is there, else that place.
        problems: Takes the messages of malformed rows of both files, which are then left out instead of stopping.

    Returns:
        The images of each split; a file without splits is one split named "all".

    Raises:
        ValueError: A file is missing or malformed; names file and line.
    """
    known = read_instances(instances, problems)
    beside = instances.parent / "images"
    here = [beside, instances.parent] if beside.is_dir() else [instances.parent]
    photos = PhotoFinder(here if images is None else [images])
    grouping = Grouping(str(expressions))
    made: dict[tuple[str, str, str], RawReference] = {}
    for number, where, value in json_rows(expressions, problems):
        with leave_out(problems):
            _add_expression(grouping, value, number, where, known, photos, made)
    return grouping.splits()


def _add_expression(
    grouping: Grouping,
    value: Any,
    number: int,
    where: str,
    known: Instances,
    photos: PhotoFinder,
    made: dict[tuple[str, str, str], RawReference],
) -> None:
    record = as_record(value, where)
    given = needed(record, "ann_id", where)
    several = given if isinstance(given, list) else [] if given is None else [given]
    ann_ids = tuple(dict.fromkeys(as_id(ann_id, f"{where}: ann_id") for ann_id in several))
    image_id = None if record.get("image_id") is None else as_id(record["image_id"], f"{where}: image_id")
    if image_id is None:
        if not ann_ids or ann_ids[0] not in known.annotations:
            raise ValueError(
                f"{where}: ann_id {shown(given)} without image_id; an annotation of {known.path}, or null with "
                "the image_id, is accepted"
            )
        image_id = known.annotations[ann_ids[0]].image_id
    if image_id not in known.images:
        raise ValueError(f"{where}: image {image_id} is not in {known.path}; one that is there is accepted")
    name, size = known.images[image_id]
    row = grouping.row(record, number, where)
    # Annotations become a reference once, however many sentences mean them.
    ref_id = row.ref_id if row.ref_id is not None else f"{image_id}:{'+'.join(sorted(ann_ids)) or 'nothing'}"
    key = (image_id, ref_id, "+".join(ann_ids))
    if key not in made:
        made[key] = known.reference(ref_id, ann_ids, image_id, where)
    grouping.add(row, image_id, photos.find(name), size, made[key], sorted(ann_ids), where, photos.folders)
