"""Data sets by name or by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from refseg.data.formats.collection import no_collection
from refseg.data.formats.entries import Entry
from refseg.data.index import IndexedSamples
from refseg.data.reading import AS_IT_IS, Reading
from refseg.data.shapes import SETS, SPLITS, RefShapes
from refseg.fields import Problems
from refseg.types import Dataset

ROOT = "REFSEG_DATA"  # the environment variable that names the folder of the published data sets


def open_data(name: str, split: str, reading: Reading = AS_IT_IS) -> Dataset:
    """The samples of a data set's split; no image is opened before it is asked for.

    What cannot be read is found when it is read; `refseg.data.verify` looks before.

    Args:
        name: `refshapes`, `refshapes+` or `refshapesg`; a published set (`refcoco`, `refcoco+`, `refcocog-umd`,
            `refcocog-google`, `refclef-unc`, `refclef-berkeley`, `grefcoco`) below the folder that the environment
            variable REFSEG_DATA names; or a path: a file `refs(BY).p` or `grefs(BY).json` with its `instances.json`, a
            `.jsonl` or `.csv` file, `expressions.jsonl` with COCO's `instances.json`, or a folder that holds one of
            them.
        split: Name of the split, taken exactly.
        reading: How files are read that leave a choice. With `skip_bad`, malformed rows are left out.

    Raises:
        ValueError: The name or the split is unknown, or a file is missing or malformed.
    """
    if name in SETS:
        _no_photos(name, reading)
        return RefShapes(name, split)
    splits = open_splits(name, reading)
    if split not in splits:
        hint = "; a file whose rows have no split is one split" if list(splits) == ["all"] else ""
        raise ValueError(f"{name}: there is no split {split!r}; accepted are {', '.join(splits)}{hint}")
    return splits[split]


def open_splits(name: str, reading: Reading = AS_IT_IS) -> dict[str, Dataset]:
    """All splits of a data set; its file is read once.

    Raises:
        ValueError: See `open_data`.
    """
    if name in SETS:
        _no_photos(name, reading)
        return {split: RefShapes(name, split) for split in SPLITS}
    source, title = find_data(name)
    problems = Problems() if reading.skip_bad else None
    return {
        split: IndexedSamples(title, split, entries, source, reading, problems or ())
        for split, entries in read_splits(source, reading.images, problems).items()
    }


def splits_of(name: str) -> list[str]:
    """The names of a data set's splits.

    Raises:
        ValueError: See `open_data`.
    """
    return list(SPLITS) if name in SETS else list(read_splits(find_data(name)[0]))


def find_data(name: str) -> tuple[Path, str]:
    """The file of a data set given by name or path, and the data set's name.

    Raises:
        ValueError: There is none, or a folder holds several.
    """
    from refseg.data.formats.refer import NAMED, data_name, find_named, split_by

    root = os.environ.get(ROOT)
    if name in NAMED and (root or not Path(name).exists()):  # without a root, a folder of that name is meant
        if not root:
            raise ValueError(
                f"data {name!r}: the environment variable {ROOT} is not set; the folder that holds {NAMED[name][0]} is "
                "accepted there, or a path here"
            )
        return find_named(name, Path(root)), name
    path = Path(name)
    if path.is_dir():
        path = _only_file(path)
    elif not path.is_file():
        raise ValueError(
            f"data {name!r}: unknown; accepted are {', '.join((*SETS, *NAMED))}, or the path of a folder, "
            "a refs(BY).p, .jsonl or .csv file"
        )
    if split_by(path) is not None:
        return path, data_name(path)
    if path.suffix.lower() not in (".jsonl", ".csv") and not _is_coco(path):
        raise ValueError(
            f"{path}: of no known format; refs(BY).p, grefs(BY).json, .jsonl, .csv, or expressions.json beside "
            "instances.json is accepted"
        )
    folder = path.absolute().parent.name
    return path, folder if path.stem in ("data", "expressions") else path.stem


def _only_file(folder: Path) -> Path:
    """The one file of a folder that makes it a data set; of none, the message names the folders below that have one."""
    found = _data_files(folder)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{folder}: holds {', '.join(file.name for file in found)}; the path of one of them is accepted"
        )
    below = sorted(child.name for child in folder.iterdir() if child.is_dir() and _data_files(child))
    hint = f"; there is one in {', '.join(below)} below it" if below else ""
    raise ValueError(
        f"{folder}: no data set{hint}; a folder with refs(BY).p, grefs(BY).json, data.jsonl or data.csv, or with "
        "expressions.jsonl and instances.json is accepted"
    )


def _data_files(folder: Path) -> list[Path]:
    """Files of a folder that each make it a data set."""
    from refseg.data.formats.coco import EXPRESSIONS
    from refseg.data.formats.jsonl import NAMES
    from refseg.data.formats.refer import split_by

    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror}); a readable folder is accepted") from error
    found = [file for file in files if split_by(file) is not None or file.name in NAMES]
    return found + [file for file in files if file.name in EXPRESSIONS and _is_coco(file)]


def _is_coco(path: Path) -> bool:
    from refseg.data.formats.coco import EXPRESSIONS

    return path.name in EXPRESSIONS and path.with_name("instances.json").is_file()


def read_splits(
    source: Path, images: Path | None = None, problems: list[str] | None = None
) -> Mapping[str, tuple[Entry, ...]]:
    """The entries of each split of a file that `find_data` found.

    Args:
        source: The file.
        images: Folder of the images, where they are not in the usual place.
        problems: Takes the messages of malformed rows, which are then left out.

    Raises:
        ValueError: It is malformed.
    """
    from refseg.data.formats.coco import read_coco
    from refseg.data.formats.jsonl import read_jsonl
    from refseg.data.formats.refer import read_refer, split_by

    if images is not None and not images.is_dir():
        raise ValueError(f"{images}: no such folder; the folder of the images is accepted")
    with no_collection():
        if split_by(source) is not None:
            return read_refer(source, images, problems)
        if _is_coco(source):
            return read_coco(source.with_name("instances.json"), source, images, problems)
        return read_jsonl(source, problems, images)


def _no_photos(name: str, reading: Reading) -> None:
    """Refuses a folder of images, and choices among their pixels, for a set that draws its own.

    Raises:
        ValueError: There is one.
    """
    told = {"--images": reading.images, "--mask-values": reading.mask_values}
    if reading.orientation != AS_IT_IS.orientation:
        told["--orientation"] = reading.orientation
    for option, value in told.items():
        if value is not None:
            raise ValueError(f"{option} {value} with {name}: it draws its own images; with a data set of photos it is "
                             "accepted")  # fmt: skip
