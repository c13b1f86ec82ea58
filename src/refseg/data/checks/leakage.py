"""Images that are in two splits, under one name or as copies.

A photo of COCO goes by its number, which COCO keeps from one release to the next (`COCO_train2014_000000581857.jpg` and
`train2017/000000581857.jpg`), where its name, its folder or its data set says that it is one; twelve digits alone are
anybody's. Any other photo goes by where its file is. Equal files are equal images whatever they are called. A list of
images that somebody trained on holds bare names, or paths that may come from another machine: they are compared from
their end, as far as both sides have them.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refseg.data.formats.entries import Entry
from refseg.data.formats.grouping import ALL
from refseg.fields import read_text
from refseg.files import is_file

_COCO = re.compile(r"(COCO_[a-z]+\d{4}_)?(\d{12})")
_FOLDER = re.compile(r"(?:train|val|test|unlabeled)(?:2014|2015|2017)")
PUBLISHED = ("refcoco", "refcoco+", "refcocog-umd", "refcocog-google", "grefcoco")  # sets of COCO's photos


def coco_number(path: str, published: bool = False) -> str | None:
    """The number of a photo of COCO; None for what nothing shows to be one.

    Args:
        path: Where it is.
        published: Whether its data set is one of `PUBLISHED`.
    """
    *folders, name = _parts(path) or ("",)
    found = _COCO.fullmatch(Path(name).stem)
    if found is None:
        return None
    is_coco = published or found[1] is not None or (folders and _FOLDER.fullmatch(folders[-1]) is not None)
    return found[2] if is_coco else None


def is_trained(split: str) -> bool:
    """Whether models are trained on a split; a file without splits counts as such, any other split is scored."""
    return split.startswith("train") or split == ALL


@dataclass(frozen=True)
class Images:
    """The images of a split.

    Attributes:
        data: Name of the data set.
        split: Name of the split.
        names: For all that an image may be recognised by, its path.
        folder: What paths in lists are relative to; None for the root of all files.
    """

    data: str
    split: str
    names: Mapping[str, str]
    folder: Path | None = None

    @property
    def published(self) -> bool:
        """Whether its photos are COCO's."""
        return self.data in PUBLISHED

    @property
    def trained(self) -> bool:
        """See `is_trained`."""
        return is_trained(self.split)

    def on_list(self, listed: TrainList) -> list[str]:
        """Paths of its images that a list names."""
        return sorted(path for path in set(self.names.values()) if listed.names(path, self.folder, self.published))


@dataclass(frozen=True)
class TrainList:
    """Images that something is trained on.

    Attributes:
        numbers: COCO's numbers of those whose names may be its.
        paths: The parts of the paths of all.
        ends: Those, and every last part of them: of a/b/c also b/c and c.
    """

    numbers: frozenset[str]
    paths: frozenset[tuple[str, ...]]
    ends: frozenset[tuple[str, ...]]

    def names(self, path: str, folder: Path | None, published: bool = False) -> bool:
        """Whether it names an image: by COCO's number, else by as much of the path as both have, below `folder`."""
        number = coco_number(path, published)
        if number:
            return number in self.numbers
        parts = _parts(path if folder is None else _below(path, folder))
        plain = (*parts[:-1], Path(parts[-1]).stem)  # lists may leave the ending out
        return any(
            name in self.ends or any(name[first:] in self.paths for first in range(len(name)))
            for name in (parts, plain)
        )


@dataclass(frozen=True)
class Leak:
    """Images that two splits share.

    Attributes:
        kind: What that is called.
        one: The first split; the one that is trained on, if any is.
        two: The other one.
        shared: Paths of the images in the second one.
    """

    kind: str
    one: Images
    two: Images
    shared: Sequence[str]


def image_names(entries: Sequence[Entry], contents: bool, published: bool = False) -> dict[str, str]:
    """Everything that the images of a split may be recognised by.

    Args:
        entries: The images.
        contents: Read the files as well, to recognise copies.
        published: Whether the data set is one of `PUBLISHED`.
    """
    names = {}
    for entry in entries:
        path = str(entry.file)
        number = coco_number(path, published)
        names[f"coco {number}" if number else str(entry.file.resolve())] = path
        if contents and is_file(entry.file):
            with entry.file.open("rb") as file:
                names[hashlib.file_digest(file, "sha256").hexdigest()] = path
    return names


def find_leaks(splits: Sequence[Images]) -> Iterator[Leak]:
    """All pairs of splits that share images, unless both are trained on, or they are scored in different sets."""
    for number, first in enumerate(splits):
        for second in splits[number + 1 :]:
            if first.trained and second.trained:
                continue
            one, two = (second, first) if second.trained else (first, second)
            if one.data == two.data:
                kind = "images shared by train and test" if one.trained else "images shared by scored splits"
            elif one.trained:
                kind = "images shared with another set"
            else:
                continue
            shared = sorted({two.names[name] for name in one.names.keys() & two.names.keys()})
            if shared:
                yield Leak(kind, one, two, shared)


def read_list(path: Path) -> TrainList:
    """The images that a text file names, one in a line: file names or paths, with COCO's names in any of their forms.

    Raises:
        ValueError: It cannot be read, or is empty.
    """
    numbers: set[str] = set()
    paths: set[tuple[str, ...]] = set()
    for line in read_text(path).splitlines():
        parts = _parts(line.strip())
        if parts and (number := _COCO.fullmatch(Path(parts[-1]).stem)):
            numbers.add(number[2])
        if parts:
            paths.add(parts)
    if not numbers and not paths:
        raise ValueError(f"{path}: names no image; a file with an image's name or path in every line is accepted")
    ends = frozenset(parts[first:] for parts in paths for first in range(len(parts)))
    return TrainList(frozenset(numbers), frozenset(paths), ends)


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path, without those that only lead to where it starts."""
    plain = posixpath.normpath(path.replace("\\", "/")) if path else ""
    return tuple(part for part in plain.split("/") if part not in ("", ".", ".."))


def _below(path: str, folder: Path) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return path
