"""Any samples to disk, in the plain JSONL format or in the layout of the RefCOCO family.

Images are PNG and masks run-length codes, so that nothing changes: what is read back is equal bit for bit. References
that no expression is about are left out.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image

from refseg.data.formats.rle import encode_rle
from refseg.fields import split_words
from refseg.files import sweep, writing
from refseg.types import Dataset, Sample

NAME_ACCEPTED = "letters, digits and +, - or _ are accepted"


def is_name(text: str) -> bool:
    """Whether a data set in the layout of the RefCOCO family, or who made its splits, can be called so."""
    return bool(text) and all(c.isalnum() or c in "+-_" for c in text)


def export_jsonl(
    samples: Dataset | Sequence[Dataset], folder: Path, limit: int | None = None, overwrite: bool = False
) -> Path:
    """Writes `data.jsonl` and `images/` into a new or empty folder.

    Args:
        samples: One split, or several of one data set.
        folder: Where to write. Everything is written beside it and renamed when it is complete.
        limit: At most this many images of each split; endless splits need it.
        overwrite: Write into a folder that holds something, and replace files of the same names.

    Returns:
        The path of `data.jsonl`.

    Raises:
        ValueError: The folder holds something, a split is endless and there is no limit, or two splits have the same
            name.
        OSError: It cannot be written; nothing is left.
    """
    splits = _checked(samples, limit)

    def write(beside: Path) -> None:
        files: dict[str, str] = {}
        with (beside / "data.jsonl").open("w", encoding="utf-8", newline="\n") as out:
            for split, sample in _each(splits, limit):
                file = _write_image(sample, beside, files)
                for number in _in_order_of_references(sample):
                    expression = sample.expressions[number]
                    reference = sample.references[expression.reference]
                    row = {
                        "image": f"images/{file}",
                        "expression": expression.text,
                        "mask": _region(sample, expression.reference),
                        "split": split,
                        "image_id": sample.image_id,
                        "ref_id": reference.ref_id,
                        "sent_id": expression.sent_id,
                        "category": reference.category,
                        "kind": expression.kind,
                        "position": number,
                        "same_category": reference.same_category,
                    }
                    out.write(json.dumps({k: v for k, v in row.items() if v is not None or k == "mask"}) + "\n")

    _write_folder(folder, write, overwrite)
    return folder / "data.jsonl"


def export_refer(
    samples: Dataset | Sequence[Dataset],
    folder: Path,
    name: str,
    by: str = "refseg",
    limit: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes `NAME/refs(BY).p`, `NAME/instances.json` and `NAME/images/` into a folder.

    Sentences carry two fields more than the published files, `kind` and `position` among the image's sentences, and
    references one, `same_category`; other readers of this layout pass over them. The masks are run-length codes, as in
    RefCLEF. A reference without a mask and a category has the annotation [-1], as in gRefCOCO.

    Args:
        samples: One split, or several of one data set.
        folder: The data root.
        name: Name of the new folder in it.
        by: Who made the splits.
        limit: At most this many images of each split; endless splits need it.
        overwrite: Write into a folder that holds something, and replace files of the same names.

    Returns:
        The path of the file of references.

    Raises:
        ValueError: The new folder holds something, a name is no file name, a split is endless and there is no limit,
            or two splits have the same name.
        OSError: It cannot be written; nothing is left.
    """
    for what, given in (("name", name), ("by", by)):
        if not is_name(given):
            raise ValueError(f"{what} {given!r}: {NAME_ACCEPTED}")
    splits = _checked(samples, limit)

    def write(beside: Path) -> None:
        files: dict[str, str] = {}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        refs: list[dict[str, Any]] = []
        categories: dict[str, int] = {}
        for split, sample in _each(splits, limit):
            is_new = sample.image_id not in files
            file = _write_image(sample, beside, files)
            height, width = sample.image.shape[:2]
            if is_new:
                images.append({"id": sample.image_id, "file_name": file, "height": height, "width": width})
            for number, reference in enumerate(sample.references):
                sentences = [
                    {"sent_id": e.sent_id, "raw": e.text, "sent": e.text, "tokens": split_words(e.text), "kind": e.kind,
                     "position": position}
                    for position, e in enumerate(sample.expressions)
                    if e.reference == number
                ]  # fmt: skip
                if not sentences:
                    continue  # nothing asks about it
                ann_id: int | list[int] = [-1]  # as gRefCOCO says that nothing is referred to
                if reference.category is not None or reference.mask.any():
                    ann_id = len(annotations) + 1
                    annotation = {
                        "id": ann_id,
                        "image_id": sample.image_id,
                        "segmentation": [encode_rle(reference.mask)],  # a list of codes, as RefCLEF has it
                        "area": int(reference.mask.sum()),
                        "iscrowd": 0,
                    }
                    if reference.category is not None:
                        annotation["category_id"] = categories.setdefault(reference.category, len(categories) + 1)
                    annotations.append(annotation)
                refs.append(
                    {
                        "ref_id": reference.ref_id,
                        "ann_id": ann_id,
                        "image_id": sample.image_id,
                        "category_id": categories.get(reference.category or "", -1),
                        "split": split,
                        "file_name": file,
                        "sent_ids": [sentence["sent_id"] for sentence in sentences],
                        "sentences": sentences,
                        "same_category": reference.same_category,
                    }
                )
        listed = [{"id": number, "name": category} for category, number in categories.items()]
        instances = {"images": images, "annotations": annotations, "categories": listed}
        (beside / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
        (beside / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol=2))  # what Python 2's readers know

    _write_folder(folder / name, write, overwrite)
    return folder / name / f"refs({by}).p"


def _checked(samples: Dataset | Sequence[Dataset], limit: int | None) -> list[Dataset]:
    splits = cast(list[Dataset], list(samples) if isinstance(samples, list | tuple) else [samples])
    names = [split.split for split in splits]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"splits {', '.join(names) or 'none'}: at least one, each once, is accepted")
    for split in splits:
        if split.endless and limit is None:
            raise ValueError(f"split {split.split!r}: endless; a limit of images is needed")
    return splits


def _each(splits: Sequence[Dataset], limit: int | None) -> Iterator[tuple[str, Sample]]:
    for split in splits:
        for index in range(len(split) if limit is None else min(limit, len(split))):
            yield split.split, split[index]


def _write_image(sample: Sample, folder: Path, files: dict[str, str]) -> str:
    """Writes an image that was not yet written, and gives its file's name: a number, as an id may be no file name."""
    if sample.image_id not in files:
        files[sample.image_id] = name = f"{len(files):06d}.png"
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(sample.image).save(folder / "images" / name)
    return files[sample.image_id]


def _region(sample: Sample, number: int) -> dict[str, Any] | None:
    reference = sample.references[number]
    return encode_rle(reference.mask) if reference.category is not None or reference.mask.any() else None


def _in_order_of_references(sample: Sample) -> list[int]:
    """Numbers of the expressions such that references first occur in their own order, which the readers keep."""
    return sorted(range(len(sample.expressions)), key=lambda number: sample.expressions[number].reference)


def _write_folder(folder: Path, write: Callable[[Path], None], overwrite: bool) -> None:
    """Lets `write` fill a folder beside its place and renames it, so that it is never half written.

    Where it is to be written into a folder that holds something, its files are renamed one by one.
    """
    with writing(folder):
        _fill(folder, write, overwrite)


def _fill(folder: Path, write: Callable[[Path], None], overwrite: bool) -> None:
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (overwrite and folder.is_dir()):
        raise ValueError(f"{folder}: holds something already; a new or empty folder is accepted, or --overwrite")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    sweep(folder.parent, folder.name)
    try:
        beside.mkdir(parents=True)
        write(beside)
        if taken:
            for file in sorted(path for path in beside.rglob("*") if path.is_file()):
                target = folder / file.relative_to(beside)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
            return
        if folder.exists():
            folder.rmdir()  # it is empty
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
