"""The layout of the RefCOCO family: `refs(BY).p` beside `instances.json`.

    ROOT/refcoco, refcoco+    refs(unc).p, refs(google).p        ROOT/images/mscoco/images/train2014
    ROOT/refcocog             refs(umd).p, refs(google).p        the same photos
    ROOT/refclef              refs(unc).p, refs(berkeley).p      ROOT/images/saiapr_tc-12
    ROOT/grefcoco             grefs(unc).json                    COCO's photos again

A file of references is a list of `ref_id`, `ann_id`, `image_id`, `split` and `sentences` (`raw`, `sent`, `sent_id`). In
gRefCOCO `ann_id` is a list, where [-1] means that nothing is referred to. A photo's name is `file_name` in
`instances.json`; the one in a reference ends in the annotation's number and is no file. The text of a sentence is
`raw`, what a person wrote, as in LAVT and its heirs. A split is taken by its exact name: `test` never means testA and
testB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refseg.data.formats.coco import Instances, read_instances
from refseg.data.formats.entries import Entry
from refseg.data.formats.grouping import Grouping, Row, as_position
from refseg.data.formats.photos import PhotoFinder
from refseg.data.formats.safe_pickle import load_pickle
from refseg.fields import (
    Problems,
    as_count,
    as_id,
    as_list,
    as_name,
    as_record,
    as_text,
    leave_out,
    needed,
    parse_json,
    read_text,
    shown,
)

REFS = re.compile(r"g?refs\((?P<by>[\w+-]+)\)\.(?:p|json)")
PHOTOS = (
    "images/mscoco/images/train2014",
    "images/mscoco/train2014",
    "images/train2014",
    "images/saiapr_tc-12",
    "images",
    "train2014",
    "saiapr_tc-12",
)
NAMED = {
    "refcoco": ("refcoco", "refs(unc)"),
    "refcoco+": ("refcoco+", "refs(unc)"),
    "refcocog-umd": ("refcocog", "refs(umd)"),
    "refcocog-google": ("refcocog", "refs(google)"),
    "refclef-unc": ("refclef", "refs(unc)"),
    "refclef-berkeley": ("refclef", "refs(berkeley)"),
    "grefcoco": ("grefcoco", "grefs(unc)"),
}

Counts = tuple[int | None, int | None, int | None]
# References, sentences and images of the published files; None where no number could be confirmed. References and
# images: the catalog of TensorFlow Datasets (ref_coco), which counted them, and the refer API's notebook. Sentences of
# RefCOCO and RefCOCO+: AlignFormer's, which add up to the authors' totals. RefCOCOg has 95,010 in either division
# (github.com/luogen1996/MCN, issue 7): umd 4,896 and 9,602 in val and test, the rest in train; google 85,474 and 9,536.
# RefCLEF (unc): sentences and the images of train from the table of data sizes in Ai2's Molmo, of which the numbers for
# the other sets are those above (17,978 also in github.com/mc-lan/Text4Seg, issue 16); images of val from the card of
# huggingface.co/datasets/jxu124/refclef-benchmark. Of gRefCOCO no counts by split were found.
EXPECTED: Mapping[tuple[str, str], Mapping[str, Counts]] = {
    ("refcoco", "unc"): {
        "train": (42404, 120624, 16994),
        "val": (3811, 10834, 1500),
        "testA": (1975, 5657, 750),
        "testB": (1810, 5095, 750),
    },
    ("refcoco", "google"): {
        "train": (40000, None, 19213),
        "val": (5000, None, 4559),
        "test": (5000, None, 4527),
    },
    ("refcoco+", "unc"): {
        "train": (42278, 120191, 16992),
        "val": (3805, 10758, 1500),
        "testA": (1975, 5726, 750),
        "testB": (1798, 4889, 750),
    },
    ("refcocog", "umd"): {
        "train": (42226, 80512, 21899),
        "val": (2573, 4896, 1300),
        "test": (5023, 9602, 2600),
    },
    ("refcocog", "google"): {
        "train": (44822, 85474, 24698),
        "val": (5000, 9536, 4650),
    },
    ("refclef", "unc"): {
        "train": (None, None, 17978),
        "val": (None, 12029, 2000),
        "testA": (None, 3449, None),
        "testB": (None, 3221, None),
        "testC": (None, 2664, None),
        "testAB": (None, 116, None),
        "testBC": (None, 86, None),
    },
}
# Sentences that papers print for ReferIt. They counted the game's own data, of which the published file lacks two
# images of train and one of test (the refer API's README), so that its own counts may be a little lower.
PRINTED: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("refclef", "berkeley"): {"train": 54127, "val": 5842, "test": 60103},
}

# A pickle can use one list in any number of places. As many references, sentences and annotations as this, each counted
# as often as it is used, are ten times those of the largest published file, and more than one that writes all of them
# out can hold (`refseg.data.formats.safe_pickle.MAX_STEPS`).
MOST_USES = 2_000_000
MOST_TEXT = 2**28  # characters of all sentences, counted so


def split_by(path: Path) -> str | None:
    """Who made the splits of a file of references (`unc`, `umd`, ...), or None if its name is of no such file."""
    found = REFS.fullmatch(path.name)
    return found["by"] if found else None


def data_name(path: Path) -> str:
    """The name of a file's data set: one of `NAMED`, else made of its folder and who split it."""
    stem, folder = path.name.rsplit(".", 1)[0], path.absolute().parent.name
    for name, place in NAMED.items():
        if place == (folder, stem):
            return name
    return f"{folder}-{split_by(path)}"


def photo_folders(path: Path) -> list[Path]:
    """Where the photos of a file of references may be, in the order in which they are looked for."""
    here = path.absolute().parent
    return [here.parent / place for place in PHOTOS] + [here / place for place in PHOTOS]


def read_refer(
    path: Path, images: Path | None = None, problems: list[str] | None = None
) -> dict[str, tuple[Entry, ...]]:
    """Reads a file of references, `.p` or `.json`, with the `instances.json` beside it; no image is opened.

    Args:
        path: The file of references.
        images: Folder of the photos; by default the places that the documentation of the data sets names.
        problems: Takes the messages of malformed references and sentences, and of malformed rows of `instances.json`,
            which are then left out instead of stopping.

    Returns:
        The images of each split. A photo that is found nowhere has the first place it could be in.

    Raises:
        ValueError: A file is missing, wants to execute something, or is malformed; names the file and the reference.
    """
    known = read_instances(path.with_name("instances.json"), problems)
    if path.suffix == ".p":
        records = as_list(load_pickle(path), str(path))
        _check_uses(records, path)
    else:
        records = as_list(parse_json(read_text(path), str(path)), str(path))
    photos = PhotoFinder([images] if images is not None else photo_folders(path))
    grouping = Grouping(str(path))
    names = _Unique()
    for number, value in enumerate(records):
        with leave_out(problems):
            record = as_record(value, f"{path}: reference number {number}")
            _add_reference(grouping, record, path, number, known, photos, names, problems)
    return grouping.splits()


def _check_uses(records: Sequence[Any], path: Path) -> None:
    """Refuses a pickle that is much larger than its file, because its references share lists.

    Raises:
        ValueError: It is.
    """
    uses = text = 0
    lengths: dict[int, int] = {}  # characters of each list of sentences, which is looked at once
    for record in records:
        uses += 1
        for name in ("ann_id", "sentences"):
            value = record.get(name) if isinstance(record, dict) else None
            if isinstance(value, list | tuple):
                uses += len(value)
                if name == "sentences":
                    if id(value) not in lengths:
                        lengths[id(value)] = sum(map(_length, value))
                    text += lengths[id(value)]
        if uses > MOST_USES or text > MOST_TEXT:
            raise ValueError(
                f"{path}: its references use the same lists again and again; at most {MOST_USES} references, sentences "
                f"and annotations with {MOST_TEXT} characters, counted as often as they are used, are accepted"
            )


def _length(sentence: Any) -> int:
    """Characters of what is read of a sentence."""
    texts = [sentence.get(name) for name in ("raw", "sent")] if isinstance(sentence, dict) else []
    return max((len(text) for text in texts if isinstance(text, str)), default=0)


def _add_reference(
    grouping: Grouping,
    record: Mapping[str, Any],
    path: Path,
    number: int,
    known: Instances,
    photos: PhotoFinder,
    names: _Unique,
    problems: list[str] | None,
) -> None:
    where = f"{path}: reference number {number}"
    ref_id = as_id(needed(record, "ref_id", where), f"{where}: ref_id")
    where = f"{path}: reference {ref_id}"
    split = as_name(needed(record, "split", where), f"{where}: split")
    image_id = as_id(needed(record, "image_id", where), f"{where}: image_id")
    if image_id not in known.images:
        raise ValueError(f"{where}: image {image_id} is not in {known.path}; one that is there is accepted")
    name, size = known.images[image_id]
    raw = known.reference(ref_id, _annotations(record, where), image_id, where)
    if "same_category" in record:  # written by `refseg data export`, which does not have all annotations to count
        told = record["same_category"]
        known_count = None if told is None else as_count(told, f"{where}: same_category")
        raw = replace(raw, extra={**raw.extra, "same_category": known_count})
    sentences = as_list(needed(record, "sentences", where), f"{where}: sentences")
    if not sentences:  # the published gRefCOCO has such
        if isinstance(problems, Problems):
            problems.passed.append(where)
        return
    raw = replace(raw, ref_id=names.of(split, "reference", ref_id))
    for place, value in enumerate(sentences):
        at = f"{where}: sentence number {place}"
        with leave_out(problems):
            row = _sentence(value, split, raw.ref_id, names, at)
            grouping.add(row, image_id, photos.find(name), size, raw, number, at, photos.folders)


def _sentence(value: Any, split: str, ref_id: str, names: _Unique, at: str) -> Row:
    sentence = as_record(value, at)
    text = sentence.get("raw")
    text = as_text(needed(sentence, "sent", at) if text is None else text, f"{at}: raw or sent")
    sent_id = as_id(needed(sentence, "sent_id", at), f"{at}: sent_id")
    kind = None if sentence.get("kind") is None else as_name(sentence["kind"], f"{at}: kind")
    position = as_position(sentence.get("position"), f"{at}: position")
    words = _counted(sentence.get("tokens"))
    return Row(split, ref_id, names.of(split, "sentence", sent_id), text, kind, position, words)


def _annotations(record: Mapping[str, Any], where: str) -> Sequence[str]:
    """The annotations that are meant; -1 stands for none."""
    given = needed(record, "ann_id", where)
    several = given if isinstance(given, list | tuple) else [given]
    if not several:
        raise ValueError(f"{where}: ann_id is empty; annotations, or [-1] for none, are accepted")
    found = dict.fromkeys(as_id(ann_id, f"{where}: ann_id") for ann_id in several)
    if "-1" not in found:
        return tuple(found)
    if len(found) > 1:
        raise ValueError(f"{where}: ann_id {shown(given)}; annotations, or [-1] for none, are accepted")
    return ()


def _counted(tokens: Any) -> int | None:
    """How many words the data set counts in a sentence, by its list of words."""
    return len(tokens) if isinstance(tokens, list | tuple) and tokens else None


class _Unique:
    """Keeps identifiers apart that a file uses twice in a split, as predictions are joined by them: 12, then 12~2."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], int] = {}

    def of(self, split: str, what: str, name: str) -> str:
        count = self._seen[split, what, name] = self._seen.get((split, what, name), 0) + 1
        return name if count == 1 else f"{name}~{count}"


def find_named(name: str, root: Path) -> Path:
    """The file of references of a data set by its name, below a data root.

    Args:
        name: One of `NAMED`.
        root: The folder that holds `refcoco`, `refclef` and so on.

    Raises:
        ValueError: It is not there; says where it should be.
    """
    folder, stem = NAMED[name]
    places = [root / folder / f"{stem}.{ending}" for ending in ("p", "json")]
    for place in places:
        if place.is_file():
            return place
    wanted = places[1] if name == "grefcoco" else places[0]
    raise ValueError(f"data {name!r}: {wanted} is missing; that file with instances.json beside it is accepted")
