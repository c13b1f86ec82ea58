"""Images that are in two splits, under one name or as copies.

A published photo goes by the number in its name, which COCO keeps from one release to the next
(`COCO_train2014_000000581857.jpg` and `000000581857.jpg`), any other by where its file is. Equal files are equal images
whatever they are called. A list of images that somebody trained on holds bare names, or paths that may come from
another machine: they are compared from their end, as far as both sides have them.
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
from refseg.data.formats.fields import read_text
from refseg.data.formats.grouping import ALL

_COCO = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})")


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
    def trained(self) -> bool:
        """See `is_trained`."""
        return is_trained(self.split)

    def on_list(self, listed: TrainList) -> list[str]:
        """Paths of its images that a list names."""
        return sorted(path for path in set(self.names.values()) if listed.names(path, self.folder))


@dataclass(frozen=True)
class TrainList:
    """Images that something is trained on.

    Attributes:
        numbers: Those that go by COCO's number.
        paths: The parts of the paths of all others.
        ends: Those, and every last part of them: of a/b/c also b/c and c.
    """

    numbers: frozenset[str]
    paths: frozenset[tuple[str, ...]]
    ends: frozenset[tuple[str, ...]]

    def names(self, path: str, folder: Path | None) -> bool:
        """Whether it names an image: by COCO's number, else by as much of the path as both have, below `folder`."""
        number = _COCO.fullmatch(Path(path).stem)
        if number:
            return number[1] in self.numbers
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


def image_names(entries: Sequence[Entry], contents: bool) -> dict[str, str]:
    """Everything that the images of a split may be recognised by.

    Args:
        entries: The images.
        contents: Read the files as well, to recognise copies.
    """
    names = {}
    for entry in entries:
        path = str(entry.file)
        names[_name(entry.file)] = path
        if contents and entry.file.is_file():
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
            numbers.add(number[1])
        elif parts:
            paths.add(parts)
    if not numbers and not paths:
        raise ValueError(f"{path}: names no image; a file with an image's name or path in every line is accepted")
    ends = frozenset(parts[first:] for parts in paths for first in range(len(parts)))
    return TrainList(frozenset(numbers), frozenset(paths), ends)


def _name(file: Path) -> str:
    number = _COCO.fullmatch(file.stem)
    return f"coco {number[1]}" if number else str(file.resolve())


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path, without those that only lead to where it starts."""
    plain = posixpath.normpath(path.replace("\\", "/")) if path else ""
    return tuple(part for part in plain.split("/") if part not in ("", ".", ".."))


def _below(path: str, folder: Path) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return path
