"""The plain format for own data: one sentence a line, as JSON lines or as CSV with the same columns.

    image        path of the image
    expression   the sentence
    mask         the object it means: path of a PNG (not black is foreground), polygons [[x, y, x, y, ...], ...], a COCO
                 run-length code {"size": [H, W], "counts": ...}, or null where it means nothing in the image
    split        optional; a file without it is one split named "all"
    image_id, ref_id, sent_id, category, kind   optional
    mask_values  optional: which values of a picture of a mask are the object, as 1,2 or not 0,255 or >127; what is not
                 black by default. So one picture of labels may serve many rows
    ann_id       optional: the object's annotation in an instances.json beside the file, in COCO's format, with the same
                 image_id: then all annotated objects of the image are known
    position     optional: place of the sentence among those of its image, else the order of the lines

Paths are relative to the file. Rows of one image belong together. Rows of an image with the same `ref_id` are about one
object: the mask stands in the first, later rows repeat it or leave it out. Without `ref_id`, rows of an image with the
same mask and category are about one object. Other columns are ignored. In CSV a mask that is not a path is JSON text,
and an empty cell is a value that is left out.
"""

from __future__ import annotations

import csv
import io
import marshal
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from refseg.data.formats.entries import Entry
from refseg.data.formats.grouping import Grouping
from refseg.data.formats.mask_pictures import Foreground, parse_foreground
from refseg.data.formats.regions import RawReference, Region, Size, parse_segmentation, region_size
from refseg.fields import (
    as_count,
    as_id,
    as_name,
    as_record,
    json_rows,
    leave_out,
    needed,
    parse_json,
    read_text,
    shown,
)

NAMES = ("data.jsonl", "data.csv")
_LONGEST_CELL = 2**24  # Python's own limit is shorter than many a mask


def read_jsonl(
    path: Path, problems: list[str] | None = None, images: Path | None = None
) -> dict[str, tuple[Entry, ...]]:
    """Reads a file in the format above; `.csv` is CSV, everything else JSON lines.

    Args:
        path: The file.
        problems: Takes the messages of malformed rows, which are then left out instead of stopping.
        images: Folder that the rows' images are relative to; that of the file by default.

    Returns:
        The images of each split.

    Raises:
        ValueError: The file is missing or malformed; names file, line and field.
    """
    reader = _Reader(path, images)
    rows = csv_rows(path, problems) if path.suffix.lower() == ".csv" else json_rows(path, problems, "mask")
    for number, where, value in rows:
        with leave_out(problems):
            reader.add(number, where, value)
    return reader.grouping.splits()


class _Reader:
    """Turns rows into images with references and expressions."""

    def __init__(self, path: Path, images: Path | None = None) -> None:
        self.folder, self.grouping = path.parent, Grouping(str(path))
        self.photos = self.folder if images is None else images
        self.files: dict[str, Path] = {}  # by what the rows say
        self.images: dict[Path, tuple[str, bool]] = {}  # id of each file, and whether a row gave it
        self.unnamed: dict[tuple[str | None, str, bytes], str] = {}  # ids of references that the file gives none
        self.masks: dict[tuple[str | None, str, str], bytes] = {}  # mask and category of each reference, hashed
        self.regions: dict[bytes, tuple[Region, ...]] = {}  # of each mask and category

    def add(self, number: int, where: str, value: Any) -> None:
        """Takes in one row.

        Raises:
            ValueError: It is malformed; begins with `where`.
        """
        record = as_record(value, where)
        written = as_name(needed(record, "image", where), f"{where}: image")
        file = self.files.get(written) or self.files.setdefault(written, self.photos / written)
        image_id = _image_id(record, written, file, self.images, where)
        row = self.grouping.row(record, number, where)
        category = None if record.get("category") is None else as_name(record["category"], f"{where}: category")
        ref_id = row.ref_id
        if ref_id is not None and "mask" not in record and (row.split, image_id, ref_id) in self.masks:
            identity = self.masks[row.split, image_id, ref_id]
        else:
            mask = needed(record, "mask", where)
            identity = _hashed([mask, category, *([record["mask_values"]] if "mask_values" in record else [])])
            if ref_id is None:
                ref_id = self.unnamed.get((row.split, image_id, identity), f"{image_id}:{number}")
        regions = self.regions.get(identity)
        if regions is None or "mask" not in record:
            foreground = None
            if record.get("mask_values") is not None:
                foreground = parse_foreground(record["mask_values"], f"{where}: mask_values")
            regions = _regions(record.get("mask"), self.folder, foreground, f"{where}: mask")
            self.regions.setdefault(identity, regions)
        extra: dict[str, Any] = {}
        if record.get("same_category") is not None:
            extra["same_category"] = as_count(record["same_category"], f"{where}: same_category")
        if record.get("ann_id") is not None:
            extra["ann_ids"] = (as_id(record["ann_id"], f"{where}: ann_id"),)
        reference = RawReference(ref_id, category, regions, extra)
        self.grouping.add(row, image_id, file, _size(regions), reference, identity, where, (self.photos,))
        # Only a row that was taken in is remembered.
        self.masks.setdefault((row.split, image_id, ref_id), identity)
        if row.ref_id is None:
            self.unnamed.setdefault((row.split, image_id, identity), ref_id)


def _hashed(value: Any) -> bytes:
    """Stands for what JSON held: equal for what is written alike, spaces aside."""
    return blake2b(marshal.dumps(value, 2), digest_size=16).digest()  # 2: the last form that is the same for the same


def _image_id(
    record: Mapping[str, Any], written: str, file: Path, images: dict[Path, tuple[str, bool]], where: str
) -> str:
    """The row's image_id, else the one an earlier row gave the file, else its path."""
    if record.get("image_id") is None:
        return images.setdefault(file, (written, False))[0]
    given = as_id(record["image_id"], f"{where}: image_id")
    if (known := images.setdefault(file, (given, True)))[0] != given:
        raise ValueError(
            f"{where}: {written} has image_id {given}, and {shown(known[0])} before; the same image_id in every row of "
            "an image, or in none, is accepted"
        )
    return given


def _regions(mask: Any, folder: Path, foreground: Foreground | None, where: str) -> tuple[Region, ...]:
    if mask is None:
        return ()
    if isinstance(mask, str):
        return (Region(file=folder / as_name(mask, where), foreground=foreground),)
    if isinstance(mask, list) and mask and not isinstance(mask[0], list | dict):
        mask = [mask]  # one polygon without its outer list
    return (parse_segmentation(mask, where),)


def _size(regions: tuple[Region, ...]) -> Size | None:
    return next((size for size in map(region_size, regions) if size is not None), None)


def csv_rows(path: Path, problems: list[str] | None = None) -> Iterable[tuple[int, str, Any]]:
    """Number, place for messages and cells of each row of a CSV file, by column; empty cells are left out.

    Args:
        path: The file.
        problems: Takes the messages of rows with too many or too few cells or a mask that is no JSON, which are then
            left out instead of stopping.

    Raises:
        ValueError: The file cannot be read or is no CSV with a first row of column names.
    """
    before = csv.field_size_limit(_LONGEST_CELL)
    rows: list[tuple[int, str, Any]] = []
    names: list[str] | None = None
    line, number = 1, 0
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        for cells in reader:
            where, line = f"{path}: line {line}", reader.line_num + 1  # a quoted cell may span several lines
            if not cells:
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                if len(set(names)) != len(names) or "image" not in names:
                    raise ValueError(
                        f"{where}: columns {shown(names)}; a first row with image, expression and mask, separated by "
                        "commas, is accepted"
                    )
                continue
            number += 1
            with leave_out(problems):
                rows.append((number, where, _cells(names, cells, where)))
    except csv.Error as error:
        raise ValueError(f"{path}: line {line}: not CSV ({error}); cells separated by commas are accepted") from error
    finally:
        csv.field_size_limit(before)
    return rows


def _cells(names: Sequence[str], cells: Sequence[str], where: str) -> dict[str, Any]:
    if len(cells) != len(names):
        raise ValueError(f"{where}: {len(cells)} cells; {len(names)}, as in the first row, are accepted")
    record: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True) if cell != ""}
    mask = record.get("mask", "").strip()
    if mask[:1] in ("[", "{") or mask == "null":
        record["mask"] = parse_json(mask, f"{where}: mask")
    return record
