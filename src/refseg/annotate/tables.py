"""Parquet: a column of images, as paths or bytes or as data sets of the Hugging Face hub have them, and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refseg.annotate.rows import Row, expressions_of, id_of
from refseg.annotate.sources import Chunk, Source, Span
from refseg.fields import shown
from refseg.files import first_line

_IMAGES, _TEXTS = ("image", "path", "bytes"), ("expression", "expressions")
_COLUMNS = (
    "a column image, path or bytes (a path, bytes, or an object with bytes and path), and expression or expressions, "
    "are accepted"
)
_AT_ONCE = 8  # rows that are taken out of a file together; they may hold images


class Tables(Source):
    """Rows of Parquet files; a chunk is a range of rows of one file."""

    kind = "parquet"

    def spans(self, shard: int, size: int) -> Iterator[Span]:
        """As `Source.spans`."""
        parquet = library()
        try:
            with parquet.ParquetFile(self.path(shard)) as file:
                self._columns(file.schema_arrow)
                rows = file.metadata.num_rows
        except (ValueError, OSError) as error:
            yield Span(0, 1, None, f"{self.shards[shard]}: {first_line(error)}")
            return
        for first in range(0, rows, size):
            yield Span(first, min(size, rows - first))

    def read(self, chunk: Chunk) -> Iterator[Row]:
        """As `Source.read`; only the groups of rows are read in which the chunk lies."""
        folder = self.folder_of_images(chunk.shard)
        with library().ParquetFile(self.path(chunk.shard)) as file:
            groups: list[int] = []
            skipped = before = 0
            for group in range(file.metadata.num_row_groups):
                end = before + file.metadata.row_group(group).num_rows
                if end > chunk.first and before < chunk.first + chunk.count:
                    skipped = skipped if groups else chunk.first - before
                    groups.append(group)
                before = end
            number = chunk.first - skipped
            wanted = {"row_groups": groups, "columns": self._columns(file.schema_arrow), "use_threads": False}
            for batch in file.iter_batches(batch_size=_AT_ONCE, **wanted):
                start = max(0, chunk.first - number)
                number += start
                for record in batch.slice(start).to_pylist():
                    number += 1
                    yield row_of_record(record, folder, number, self.asked)

    def _columns(self, schema: Any) -> list[str]:
        """The columns that are read.

        Raises:
            ValueError: What is needed is not there, or is of another type.
        """
        names = [name for name in schema.names if name in (*_IMAGES, *_TEXTS, "id")]
        images = [name for name in names if name in _IMAGES]
        if not images or not (self.asked or any(name in _TEXTS for name in names)):
            raise ValueError(f"has the columns {', '.join(map(str, schema.names[:20]))}; {_COLUMNS}")
        for name in images:
            kind = str(schema.field(name).type)
            if not kind.startswith(("string", "large_string", "binary", "large_binary", "struct<", "dictionary<")):
                raise ValueError(f"column {name} of type {kind[:60]}; {_COLUMNS}")
        return names if not self.asked else [name for name in names if name not in _TEXTS]


def row_of_record(record: Mapping[str, Any], folder: Path, number: int, asked: tuple[str, ...] = ()) -> Row:
    """A record of a table as a row; what is wrong with it is its problem.

    Args:
        record: Its columns.
        folder: What the image's path is relative to.
        number: Number of the row in its file, from 1.
        asked: Expressions that are asked instead of the record's own.
    """
    where, own = f"row {number}", id_of(record, str(number))
    image, name = _image(record, folder)
    if image is None:
        return Row(Path(), (), where, f"{where}: without an image; {_COLUMNS}", name=name, id=own)
    texts = {key: record[key] for key in _TEXTS if record.get(key) is not None}
    try:
        return Row(image, asked or expressions_of(texts, where), where, name=name, id=own)
    except ValueError as error:
        return Row(Path(), (), where, str(error), name=name, id=own)


def _image(record: Mapping[str, Any], folder: Path) -> tuple[Path | bytes | None, str]:
    """The image of a record, bytes before a path, and its name."""
    found: dict[str, Any] = {}
    for key in _IMAGES:
        value = record.get(key)
        given = value if isinstance(value, dict) else {"bytes" if isinstance(value, bytes) else "path": value}
        for part in ("bytes", "path"):
            if given.get(part) is not None and part not in found:
                found[part] = given[part]
    path = found.get("path") if isinstance(found.get("path"), str) else None
    name = "" if path is None else path
    if isinstance(found.get("bytes"), bytes):
        return found["bytes"], name
    return (folder / path if path and "\0" not in path else None), name if path else shown(found) if found else ""


def library() -> Any:
    """The library that reads and writes Parquet.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"Parquet: needs the library pyarrow ({error}); `pip install 'refseg[parquet]'` brings "
                         "it") from error  # fmt: skip
    return pyarrow.parquet
