"""COCO's instance annotations, and any such file with expressions beside it.

A folder in this format holds

    instances.json      `images` (id, file_name, height, width), `annotations` (id, image_id, category_id, segmentation)
                        and `categories` (id, name), as COCO has them
    expressions.jsonl   one JSON object a line: `expression`, and `ann_id`: the annotation it means, a list of several,
                        or null (then with `image_id`) where it means nothing in the image. Optional are `split`,
                        `ref_id`, `sent_id` and `kind`. `expressions.json` holds the same objects in one list
    images/             the images (or they lie beside the two files)

Rows about the same annotations of an image are about one reference, unless they give different `ref_id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refseg.data.fields import as_id, as_list, as_name, as_record, json_rows, needed, parse_json, read_text, shown
from refseg.data.grouping import Grouping
from refseg.data.index import Entry, RawReference, Size
from refseg.data.regions import check_size, parse_segmentation

EXPRESSIONS = ("expressions.jsonl", "expressions.json")


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotated object.

    Attributes:
        ann_id: Its identifier.
        image_id: Its image.
        category: Name of its category, if it has one.
        segmentation: As in the file; parsed when a reference needs it.
    """

    ann_id: str
    image_id: str
    category: str | None
    segmentation: Any


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
        regions = tuple(
            region
            for annotation in meant
            for region in parse_segmentation(annotation.segmentation, f"{self.path}: annotation {annotation.ann_id}")
        )
        categories = {annotation.category for annotation in meant}
        category = categories.pop() if len(categories) == 1 else None
        extra: dict[str, Any] = {"ann_ids": tuple(ann_ids)}
        if category is not None:
            extra["same_category"] = self.counts[meant[0].image_id, category]
        return RawReference(ref_id, category, regions, extra)


def read_instances(path: Path) -> Instances:
    """Reads an instances file.

    Raises:
        ValueError: It is missing or malformed; names the file and the image or annotation.
    """
    content = as_record(parse_json(read_text(path), str(path)), str(path))
    categories: dict[str, str] = {}
    for number, value in enumerate(as_list(content.get("categories", []), f"{path}: categories")):
        where = f"{path}: category number {number}"
        record = as_record(value, where)
        categories[as_id(needed(record, "id", where), f"{where}: id")] = as_name(
            needed(record, "name", where), f"{where}: name"
        )
    images: dict[str, tuple[str, Size | None]] = {}
    for number, value in enumerate(as_list(needed(content, "images", str(path)), f"{path}: images")):
        record = as_record(value, f"{path}: image number {number}")
        image_id = as_id(needed(record, "id", f"{path}: image number {number}"), f"{path}: image number {number}: id")
        where = f"{path}: image {image_id}"
        if image_id in images:
            raise ValueError(f"{where}: there twice; every id once is accepted")
        name = as_name(needed(record, "file_name", where), f"{where}: file_name")
        height, width = record.get("height"), record.get("width")
        size = None if height is None and width is None else check_size(height, width, where)
        images[image_id] = (name, size)
    annotations: dict[str, Annotation] = {}
    counts: Counter[tuple[str, str | None]] = Counter()
    for number, value in enumerate(as_list(needed(content, "annotations", str(path)), f"{path}: annotations")):
        annotation = _annotation(value, f"{path}: annotation number {number}", str(path), categories)
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


def _annotation(value: Any, where: str, file: str, categories: Mapping[str, str]) -> Annotation:
    record = as_record(value, where)
    ann_id = as_id(needed(record, "id", where), f"{where}: id")
    where = f"{file}: annotation {ann_id}"
    category = None
    if record.get("category_id") is not None:
        category_id = as_id(record["category_id"], f"{where}: category_id")
        if category_id not in categories:
            raise ValueError(f"{where}: category {category_id} is not among the categories; one of them is accepted")
        category = categories[category_id]
    image_id = as_id(needed(record, "image_id", where), f"{where}: image_id")
    return Annotation(ann_id, image_id, category, record.get("segmentation"))


def read_coco(instances: Path, expressions: Path, images: Path | None = None) -> dict[str, tuple[Entry, ...]]:
    """Reads an instances file with expressions; see the top of this module.

    Args:
        instances: The instances file.
        expressions: The expressions, `.jsonl` or `.json`.
        images: Folder of the images; by default `images` beside the instances file if it is there, else that place.

    Returns:
        The images of each split; a file without splits is one split named "all".

    Raises:
        ValueError: A file is missing or malformed; names file and line.
    """
    known = read_instances(instances)
    if images is None:
        beside = instances.parent / "images"
        images = beside if beside.is_dir() else instances.parent
    grouping = Grouping(str(expressions))
    made: dict[tuple[str, str, str], RawReference] = {}
    for number, where, value in json_rows(expressions):
        record = as_record(value, where)
        given = needed(record, "ann_id", where)
        several = given if isinstance(given, list) else [] if given is None else [given]
        ann_ids = tuple(dict.fromkeys(as_id(ann_id, f"{where}: ann_id") for ann_id in several))
        image_id = None if record.get("image_id") is None else as_id(record["image_id"], f"{where}: image_id")
        if image_id is None:
            if not ann_ids or ann_ids[0] not in known.annotations:
                raise ValueError(
                    f"{where}: ann_id {shown(given)} without image_id; an annotation of {instances}, or null with "
                    "the image_id, is accepted"
                )
            image_id = known.annotations[ann_ids[0]].image_id
        if image_id not in known.images:
            raise ValueError(f"{where}: image {image_id} is not in {instances}; one that is there is accepted")
        name, size = known.images[image_id]
        row = grouping.row(record, number, where)
        # Annotations become a reference once: an outline takes far longer to read than a sentence.
        ref_id = row.ref_id if row.ref_id is not None else f"{image_id}:{'+'.join(sorted(ann_ids)) or 'nothing'}"
        key = (image_id, ref_id, "+".join(ann_ids))
        if key not in made:
            made[key] = known.reference(ref_id, ann_ids, image_id, where)
        grouping.add(row, image_id, images / name, size, made[key], sorted(ann_ids), where)
    return grouping.splits()
