"""Where rows come from, in chunks that are the same whenever the same input is read.

A pass over the index of the input (lines, names, headers) finds the chunks; who answers one reads its rows from there.
Neither holds more of the input than a chunk.
"""

from __future__ import annotations

import glob
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, product
from pathlib import Path
from typing import Any, ClassVar

from refseg.annotate.rows import Row, names_of_images
from refseg.files import first_line

ACCEPTED = "a list in JSON lines, a folder of images, .tar archives or .parquet files are accepted"
_BRACES = re.compile(r"\{(\d+\.\.\d+|[^{}]*,[^{}]*)\}")
_MOST_FILES = 10**5
_ENDS = 2**16  # bytes at both ends of a large file, by which it is known again
_TRIED = 20  # chunks that cannot be read, before an input is refused


@dataclass(frozen=True)
class Chunk:
    """Rows that are answered and written together.

    Attributes:
        number: Its place among all chunks of the input, from 0.
        shard: Number of the file or folder it stands in.
        first: Number of its first row there, from 0.
        count: How many rows it has.
        at: Where they begin, as the kind of source needs it.
        problem: Why the file cannot be read from here on; such a chunk is one row with that error.
    """

    number: int
    shard: int
    first: int
    count: int
    at: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Span:
    """The same before its file and its number are known."""

    first: int
    count: int
    at: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Source(ABC):
    """An input of several files of one kind.

    Attributes:
        shards: The files or folders as they were given, in order.
        images: Folder of the images of a list or table; that of the file by default.
        asked: Expressions that are asked of every image instead of its own.
    """

    shards: tuple[str, ...]
    images: str | None = None
    asked: tuple[str, ...] = ()
    root: str = field(default_factory=lambda: str(Path.cwd()))  # workers may stand elsewhere

    kind: ClassVar[str]

    def path(self, shard: int) -> Path:
        """Where a file or folder is, from the root of the file system on."""
        return Path(self.root) / self.shards[shard]

    def folder_of_images(self, shard: int) -> Path:
        """What the paths of images are relative to."""
        return self.path(shard).parent if self.images is None else Path(self.root) / self.images

    @abstractmethod
    def spans(self, shard: int, size: int) -> Iterator[Span]:
        """The chunks of a file; one that cannot be read further ends with a chunk that says why."""

    @abstractmethod
    def read(self, chunk: Chunk) -> Iterator[Row]:
        """The rows of a chunk; may end with an error."""

    def identity(self) -> str:
        """A hash by which the same input is known again, wherever it lies."""
        digest = hashlib.sha256()
        for shard in range(len(self.shards)):
            self.add_identity(shard, digest)
        return digest.hexdigest()

    def add_identity(self, shard: int, digest: Any) -> None:
        """Adds name, size and both ends of a file."""
        path = self.path(shard)
        try:
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode("utf-8", "surrogateescape"))
            with path.open("rb") as file:
                digest.update(file.read(_ENDS))
                file.seek(max(file.tell(), size - _ENDS))
                digest.update(file.read(_ENDS))
        except OSError as error:
            raise ValueError(f"{self.shards[shard]}: cannot be read ({error.strerror}); {ACCEPTED}") from error

    def chunks(self, size: int, limit: int | None = None) -> Iterator[Chunk]:
        """All chunks, in order.

        Args:
            size: Rows of a chunk; the last of a file may have fewer.
            limit: End after so many rows.
        """
        number = rows = 0
        for shard in range(len(self.shards)):
            for span in self.spans(shard, size):
                if limit is not None and rows >= limit:
                    return
                count = span.count if limit is None else min(span.count, limit - rows)
                yield Chunk(number, shard, span.first, count, span.at, span.problem)
                number, rows = number + 1, rows + count

    def rows(self, chunk: Chunk) -> Iterator[Row]:
        """The rows of a chunk, as many as it says; what cannot be read is a row that says why."""
        given, why = 0, chunk.problem or f"{self.shards[chunk.shard]}: has fewer rows than before"
        try:
            for row in islice(() if chunk.problem else self.read(chunk), chunk.count):
                given += 1
                yield row
        except (ValueError, OSError) as error:
            why = f"{self.shards[chunk.shard]}: cannot be read ({first_line(error)})"
        for number in range(chunk.first + given, chunk.first + chunk.count):
            yield Row(Path(), (), f"row {number + 1}", why, id=str(number + 1))

    def check(self, size: int) -> None:
        """Looks whether there is anything to answer at the beginning.

        Raises:
            ValueError: There are no rows, or none of the first ones can be used; says what is wrong with the first.
        """
        problem = ""
        for chunk in islice(self.chunks(size), _TRIED):
            for row in self.rows(chunk):
                if not row.problem:
                    return
                problem = problem or row.problem
            if not chunk.problem:
                break
        name = self.shards[0]
        if not problem:
            raise ValueError(f"{name}: empty; {ACCEPTED}")
        raise ValueError(problem if name in problem else f"{name} {problem}")


def open_source(given: str, images: Path | None = None, asked: tuple[str, ...] = ()) -> Source:
    """Finds out what an input is.

    Args:
        given: A file or folder, or several files by a pattern: `shards/{000..009}.tar`, `"data/*.parquet"`.
        images: Folder of the images of a list or table.
        asked: Expressions that are asked of every image instead of its own.

    Raises:
        ValueError: There is no such file, or it is of no kind that is read.
    """
    from refseg.annotate.folders import Folder
    from refseg.annotate.lists import Lists
    from refseg.annotate.tables import Tables
    from refseg.annotate.tars import Tars

    names = files_of(given)
    kind: type[Source]
    if any(Path(name).is_dir() for name in names):
        if len(names) > 1:
            raise ValueError(f"{given}: several folders; one folder is accepted, or several files")
        names, kind = _of_folder(names[0], Folder, {".parquet": Tables, ".tar": Tars})
    else:
        endings = {Path(name).suffix.lower() for name in names}
        if len(endings) > 1:
            raise ValueError(f"{given}: files of several kinds ({', '.join(sorted(endings))}); files of one kind are "
                             "accepted")  # fmt: skip
        ending = endings.pop()
        if names_of_images(["a" + ending]) or ending in (".gz", ".tgz", ".zip", ".xz", ".bz2", ".zst"):
            raise ValueError(f"{given}: {'an image' if names_of_images(['a' + ending]) else 'compressed'}; {ACCEPTED}")
        kind = {".parquet": Tables, ".tar": Tars}.get(ending, Lists)
    if images is not None and kind in (Folder, Tars):
        raise ValueError(f"--images {images}: with a list or Parquet it is accepted")
    if images is not None and not images.is_dir():
        raise ValueError(f"{images}: no such folder; the folder of the images is accepted")
    return kind(tuple(names), None if images is None else str(images), asked)


def _of_folder(name: str, folder: type[Source], others: dict[str, type[Source]]) -> tuple[list[str], type[Source]]:
    """A folder of images is one; one that has none, but archives or tables, is these."""
    inside = [file.name for file in Path(name).iterdir()]
    if not names_of_images(inside):
        for ending, kind in others.items():
            found = sorted(file for file in inside if file.lower().endswith(ending) and not file.startswith("."))
            if found:
                return [str(Path(name) / file) for file in found], kind
    return [name], folder


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
