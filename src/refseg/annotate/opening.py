"""What an input is: a list, a folder, archives or tables."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from itertools import chain, islice, product
from pathlib import Path

from refseg.annotate.folders import Folder
from refseg.annotate.lists import Lists
from refseg.annotate.rows import names_of_images
from refseg.annotate.sources import ACCEPTED, Source
from refseg.annotate.tables import Tables
from refseg.annotate.tars import Tars
from refseg.files import first_line

_Kind = type[Folder] | type[Lists] | type[Tables] | type[Tars]
_OF_FILES: dict[str, type[Tables] | type[Tars]] = {".parquet": Tables, ".tar": Tars}
_BRACES = re.compile(r"\{(\d+\.\.\d+|[^{}]*,[^{}]*)\}")
_MOST_FILES = 10**5


def open_source(given: str, images: Path | None = None, asked: tuple[str, ...] = ()) -> Source:
    """Finds out what an input is.

    Args:
        given: A file or folder, or several files by a pattern: `shards/{000..009}.tar`, `"data/*.parquet"`.
        images: Folder of the images of a list or table.
        asked: Expressions that are asked of every image instead of its own.

    Raises:
        ValueError: There is no such file, or it is of no kind that is read.
    """
    names = files_of(given)
    kind: _Kind
    if any(Path(name).is_dir() for name in names):
        if len(names) > 1:
            raise ValueError(f"{given}: several folders; one folder is accepted, or several files")
        names, kind = _of_folder(names[0])
    else:
        endings = {Path(name).suffix.lower() for name in names}
        if len(endings) > 1:
            raise ValueError(f"{given}: files of several kinds ({', '.join(sorted(endings))}); files of one kind are "
                             "accepted")  # fmt: skip
        ending = endings.pop()
        if names_of_images(["a" + ending]) or ending in (".gz", ".tgz", ".zip", ".xz", ".bz2", ".zst"):
            raise ValueError(f"{given}: {'an image' if names_of_images(['a' + ending]) else 'compressed'}; {ACCEPTED}")
        kind = _OF_FILES.get(ending, Lists)
    if images is not None and kind in (Folder, Tars):
        raise ValueError(f"--images {images}: with a list or Parquet it is accepted")
    if images is not None and not images.is_dir():
        raise ValueError(f"{images}: no such folder; the folder of the images is accepted")
    return kind(tuple(names), None if images is None else str(images), asked)


def _of_folder(name: str) -> tuple[list[str], _Kind]:
    """A folder of images is one; one that has none, but archives or tables, is these."""
    inside = [file.name for file in Path(name).iterdir()]
    if not names_of_images(inside):
        for ending, kind in _OF_FILES.items():
            found = sorted(file for file in inside if file.lower().endswith(ending) and not file.startswith("."))
            if found:
                return [str(Path(name) / file) for file in found], kind
    return [name], Folder


def files_of(given: str) -> list[str]:
    """What a name or a pattern names, in the order of braces and then by name.

    Raises:
        ValueError: Nothing has that name.
    """
    if not given:
        raise ValueError(f"input '': {ACCEPTED}")
    try:
        if Path(given).exists():
            return [given]
    except (OSError, ValueError) as error:
        raise ValueError(f"{given[:200]!r}: no name of a file ({first_line(error)}); {ACCEPTED}") from error
    found = []
    for name in islice(_expanded(given), _MOST_FILES + 1):
        here = sorted(glob.glob(name)) if glob.has_magic(name) else [name] if Path(name).exists() else []
        if not here:
            raise ValueError(f"{name}: no such file or folder; {ACCEPTED}")
        found += here
    if len(found) > _MOST_FILES:
        raise ValueError(f"{given}: more than {_MOST_FILES} files; at most so many are accepted")
    return list(dict.fromkeys(found))


def _expanded(pattern: str) -> Iterator[str]:
    """`a{1..3}{x,y}` is a1x, a1y, a2x and so on; numbers keep their leading zeros."""
    texts, choices, end = [], [], 0
    for found in _BRACES.finditer(pattern):
        texts.append(pattern[end : found.start()])
        choices.append(_choices(found[1]))
        end = found.end()
    if sum(1 for _ in islice(product(*choices), _MOST_FILES + 2)) > _MOST_FILES:
        raise ValueError(f"{pattern}: more than {_MOST_FILES} files; at most so many are accepted")
    for chosen in product(*choices):
        yield "".join(chain.from_iterable(zip(texts, chosen, strict=True))) + pattern[end:]


def _choices(inside: str) -> list[str]:
    if "," in inside:
        return inside.split(",")
    first, last = inside.split("..")
    numbers = range(int(first), min(int(last), int(first) + _MOST_FILES + 1) + 1)
    return [f"{number:0{len(first)}d}" for number in numbers]
