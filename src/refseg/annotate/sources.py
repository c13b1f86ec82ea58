"""Where rows come from, in chunks that are the same whenever the same input is read.

A pass over the index of the input (lines, names, headers) finds the chunks; who answers one reads its rows from there.
Neither holds more of the input than a chunk.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from refseg.annotate.rows import Row
from refseg.files import first_line

ACCEPTED = "a list in JSON lines, a folder of images, .tar archives or .parquet files are accepted"
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
