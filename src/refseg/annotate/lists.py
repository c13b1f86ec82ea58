"""Lists: an object of JSON on every line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from refseg.annotate.rows import Row, row_of_line
from refseg.annotate.sources import Chunk, Source, Span

_LONGEST = 2**24  # bytes of a line


class Lists(Source):
    """Lines with `image` and `expression` or `expressions`; an `id` is kept. Chunks are known by their first byte."""

    kind = "list"

    def add_identity(self, shard: int, digest: Any) -> None:
        """All of the list: its images are looked at when they are answered, its words never again."""
        with self.path(shard).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())

    def spans(self, shard: int, size: int) -> Iterator[Span]:
        """As `Source.spans`; empty lines are passed over."""
        first = count = 0
        start = (0, 0)
        with self.path(shard).open("rb") as file:
            for line, (at, text) in enumerate(_lines(file)):
                if not text.strip():
                    continue
                if count == 0:
                    start = (at, line)
                count += 1
                if count == size:
                    yield Span(first, count, start)
                    first, count = first + count, 0
        if count:
            yield Span(first, count, start)

    def read(self, chunk: Chunk) -> Iterator[Row]:
        """As `Source.read`."""
        folder = self.folder_of_images(chunk.shard)
        at, before = chunk.at
        with self.path(chunk.shard).open("rb") as file:
            file.seek(at)
            for line, (_, content) in enumerate(_lines(file), start=before + 1):
                if not content.strip():
                    continue
                try:
                    yield row_of_line(_text(content, line), folder, line, self.asked)
                except ValueError as error:
                    yield Row(Path(), (), f"line {line}", str(error), id=str(line))


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with the place of their first byte; of one that is too long the beginning."""
    at = file.tell()
    while text := file.readline(_LONGEST):
        yield at, text
        more = text
        while len(more) == _LONGEST and not more.endswith(b"\n"):
            more = file.readline(_LONGEST)
        at = file.tell()


def _text(content: bytes, line: int) -> str:
    if len(content) >= _LONGEST:
        raise ValueError(f"line {line}: longer than {_LONGEST} bytes; an object with image and expression is accepted")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"line {line}: not text in UTF-8 ({error}); UTF-8 is accepted") from error
