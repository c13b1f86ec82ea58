"""Answers on disk: JSON lines or Parquet, in parts that are there whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refseg.annotate.tables import library
from refseg.files import write_beside

FORMATS = ("jsonl", "parquet")
COLUMNS = ("source", "id", "image", "expression", "score", "box", "area", "rle", "width", "height", "model", "warning",
           "error")  # fmt: skip
_AT_ONCE = 1024  # rows that are read of a part together


def check_format(format: str) -> None:
    """Refuses a format that is none, and Parquet where it cannot be written.

    Raises:
        ValueError: It is such a one.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: {' or '.join(FORMATS)} is accepted")
    if format == "parquet":
        library()


def part_of(folder: Path, number: int, format: str) -> Path:
    """The file of a chunk."""
    return folder / f"part-{number:06d}.{format}"


def parts_in(folder: Path, format: str) -> set[int]:
    """Numbers of the chunks that are written."""
    found = (re.fullmatch(rf"part-(\d{{6,}})\.{format}", file.name) for file in folder.iterdir())
    return {int(match[1]) for match in found if match is not None}


def write_rows(rows: list[dict[str, Any]], file: Path, format: str) -> None:
    """Writes a file beside its place and renames it.

    Raises:
        OSError: It cannot be written.
    """
    if format == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_beside(file, lambda beside: beside.write_text(text, encoding="utf-8"))
        return
    import pyarrow

    table = pyarrow.Table.from_pylist(rows, schema=schema())
    write_beside(file, lambda beside: library().write_table(table, beside, compression="zstd"))


def read_rows(file: Path, format: str) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    Raises:
        ValueError: It is none of this format.
    """
    if format == "jsonl":
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
        return
    with library().ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=_AT_ONCE, use_threads=False):
            yield from batch.to_pylist()


def has_errors(file: Path, format: str) -> bool:
    """Whether a part has a row with an error; one that cannot be read has."""
    try:
        return any(row["error"] is not None for row in read_rows(file, format))
    except (ValueError, OSError, KeyError, TypeError):
        return True


def merge(folder: Path, parts: int, format: str, target: Path) -> None:
    """Makes one file of all parts, in their order.

    Raises:
        OSError: It cannot be written, or a part is missing.
    """
    files = [part_of(folder, number, format) for number in range(parts)]

    def lines(beside: Path) -> None:
        with beside.open("wb") as whole:
            for file in files:
                whole.write(file.read_bytes())

    def tables(beside: Path) -> None:
        parquet = library()
        with parquet.ParquetWriter(beside, schema(), compression="zstd") as whole:
            for file in files:
                whole.write_table(parquet.read_table(file, schema=schema(), partitioning=None))

    write_beside(target, lines if format == "jsonl" else tables)


def schema() -> Any:
    """The columns of Parquet with their types."""
    import pyarrow as pa

    rle = pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.string())])
    types = {"score": pa.float64(), "box": pa.list_(pa.int64()), "area": pa.int64(), "rle": rle, "width": pa.int64(),
             "height": pa.int64()}  # fmt: skip
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
