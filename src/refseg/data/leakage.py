"""Images that are in two splits, under one name or as copies.

A published photo goes by the number in its name, which COCO keeps from one release to the next
(`COCO_train2014_000000581857.jpg` and `000000581857.jpg`), any other by where its file is. Equal files are equal images
whatever they are called.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refseg.data.fields import read_text
from refseg.data.grouping import ALL
from refseg.data.index import Entry

_COCO = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})")


@dataclass(frozen=True)
class Images:
    """The images of a split.

    Attributes:
        data: Name of the data set.
        split: Name of the split.
        names: For all that an image may be recognised by, its path.
    """

    data: str
    split: str
    names: Mapping[str, str]

    @property
    def trained(self) -> bool:
        """Whether models are trained on it; a file without splits counts as such, any other split is scored."""
        return self.split.startswith("train") or self.split == ALL

    def on_list(self, listed: Collection[str]) -> list[str]:
        """Paths of its images that a list names."""
        wanted = set(listed)
        return sorted({path for path in self.names.values() if _listed_as(path) & wanted})


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


def read_list(path: Path) -> frozenset[str]:
    """The images that a text file names, one in a line: file names or paths, as they are compared.

    Raises:
        ValueError: It cannot be read, or is empty.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    found = frozenset(_stem(line) for line in lines if line)
    if not found:
        raise ValueError(f"{path}: names no image; a file with an image's name in every line is accepted")
    return found


def _name(file: Path) -> str:
    number = _COCO.fullmatch(file.stem)
    return f"coco {number[1]}" if number else str(file.resolve())


def _stem(path: str) -> str:
    """How a list's images are compared: by COCO's number, else by the file's name, as lists rarely hold whole paths."""
    name = Path(path.replace("\\", "/")).name
    number = _COCO.fullmatch(Path(name).stem)
    return number[1] if number else name


def _listed_as(path: str) -> set[str]:
    return {_stem(path), Path(path).stem}
