"""A job: what of an input is not answered yet is answered and written, and nothing is written twice.

The answers to a chunk are one part of the output. A part is written beside its place and renamed, so that it is whole,
whoever is killed. `_manifest.json` says what the parts are made of, and refuses those of another job.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refseg.annotate.answering import answered, check_threshold
from refseg.annotate.rows import Row
from refseg.annotate.sinks import check_format, has_errors, merge, part_of, parts_in, write_rows
from refseg.annotate.sources import Chunk, Source
from refseg.fields import parse_json, read_text, shown
from refseg.files import FolderLock, prepare_folder, write_text_beside

if TYPE_CHECKING:
    from refseg.answers import About, Answerer

MANIFEST = "_manifest.json"  # readers of a folder of Parquet pass over names that begin so
ROWS = 64  # of a chunk
_TOLD = {"input": "input", "asked": "expressions", "threshold": "threshold", "rows": "rows of a part",
         "limit": "limit", "format": "format", "model": "model"}  # fmt: skip


@dataclass(frozen=True)
class Output:
    """Where answers go.

    Attributes:
        folder: Folder of the parts and of `_manifest.json`.
        format: `jsonl` or `parquet`.
        file: The file that is made of all parts at the end; None where the parts are the output.
    """

    folder: Path
    format: str
    file: Path | None = None


def output_of(given: str, format: str | None = None) -> Output:
    """A name that ends in .jsonl or .parquet is one file, made of parts in a folder beside it; any other is a folder.

    Raises:
        ValueError: The format is none, contradicts the name, or cannot be written here.
    """
    if not given or "\0" in given:
        raise ValueError(f"output {given!r}: a folder, or a file that ends in .jsonl or .parquet, is accepted")
    path = Path(given)
    ending = path.suffix.lower().removeprefix(".")
    one = ending in ("jsonl", "parquet") and not path.is_dir()
    if one and format not in (None, ending):
        raise ValueError(f"output {given}: its name says {ending}, and --format {format}; one of both is accepted")
    chosen = ending if one else "jsonl" if format is None else format
    check_format(chosen)
    if not one and path.is_file():
        raise ValueError(f"output {given}: is a file; a folder, or a file that ends in .jsonl or .parquet, is accepted")
    return Output(path.with_name(path.name + ".parts") if one else path, chosen, path if one else None)


class Executor(Protocol):
    """Who answers chunks: this process, or Ray's workers."""

    @property
    def about(self) -> About:
        """What is said of the model."""

    def answered(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
        """The answers to chunks, in any order."""


class InProcess:
    """Answers in this process, one chunk after another.

    Args:
        predictor: Who answers.
        source: Where the rows come from.
        threshold: Probability above which a pixel is in the mask.
    """

    def __init__(self, predictor: Answerer, source: Source, threshold: float = 0.5) -> None:
        self.predictor, self.source, self.threshold = predictor, source, threshold

    @property
    def about(self) -> About:
        """What is said of the model."""
        return self.predictor.about

    def answered(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
        """As `Executor.answered`, in order."""
        for chunk in chunks:
            yield chunk, answers_to(self.predictor, self.source, chunk, self.threshold)


def answers_to(
    predictor: Answerer, source: Source, chunk: Chunk, threshold: float, only: int | None = None
) -> list[dict[str, Any]]:
    """Answers a chunk, or `only` one of its rows."""
    rows: Iterable[Row] = source.rows(chunk)
    if only is not None:
        rows = (row for number, row in enumerate(rows) if number == only)
    return list(answered(predictor, rows, source.shards[chunk.shard], threshold))


@dataclass(frozen=True)
class Written:
    """A part that was written.

    Attributes:
        inputs: How many rows of the input it answers.
        rows: How many rows it has, one for every expression.
        errors: How many of them have an error.
        first: The first of these errors, with what it is about; empty if there is none.
    """

    inputs: int
    rows: int
    errors: int
    first: str


class Job:
    """What is to be done, and where it goes; it holds its folder while it is open.

    Args:
        source: Where the rows come from.
        output: Where the answers go.
        threshold: Probability above which a pixel is in the mask.
        rows: Rows of the input in a part.
        limit: At most so many rows of the input.

    Raises:
        ValueError: The folder cannot be written, another process writes into it, or it holds something else.
    """

    def __init__(
        self, source: Source, output: Output, threshold: float = 0.5, rows: int = ROWS, limit: int | None = None
    ) -> None:
        self.source, self.output = source, output
        self.threshold, self.rows, self.limit = threshold, rows, limit
        self.before = 0  # parts that were there
        self.manifest: dict[str, Any] = {
            "refseg": "annotate", "input": source.identity(), "asked": list(source.asked), "threshold": threshold,
            "rows": rows, "limit": limit, "format": output.format,
        }  # fmt: skip
        self._compare()
        prepare_folder(output.folder)
        self._lock = FolderLock(output.folder)

    def __enter__(self) -> Job:
        self._lock.acquire()
        try:
            self._compare()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def run(self, executor: Executor, retry: bool = False) -> Iterator[Written]:
        """Answers what is missing.

        Args:
            executor: Who answers.
            retry: Whether parts with an error are made again.

        Yields:
            What was written, part by part.

        Raises:
            ValueError: The output is of another model.
            OSError: A part cannot be written.
        """
        about = executor.about
        check_threshold(about, self.threshold)
        self.manifest["model"] = {"name": about.name, "identity": about.identity or about.sha256}
        self._compare()
        before = self._found()
        file = self.output.file
        if before.get("done") and file is not None and file.is_file():
            if not (retry and has_errors(file, self.output.format)):
                return
        self._note(**{key: before[key] for key in ("merging",) if key in before})
        there = parts_in(self.output.folder, self.output.format)
        self.before = len(there)
        counted = Counter[str]()
        for chunk, rows in executor.answered(self._missing(there, retry, counted)):
            part = part_of(self.output.folder, chunk.number, self.output.format)
            write_rows(rows, part, self.output.format)
            errors = [row for row in rows if row["error"] is not None]
            first = "" if not errors else _named(errors[0])
            yield Written(chunk.count, len(rows), len(errors), first)
        self._finish(counted["parts"])

    def _missing(self, there: set[int], retry: bool, counted: Counter[str]) -> Iterator[Chunk]:
        name = partial(part_of, self.output.folder, format=self.output.format)
        for chunk in self.source.chunks(self.rows, self.limit):
            counted["parts"] += 1
            if chunk.number not in there or (retry and has_errors(name(chunk.number), self.output.format)):
                yield chunk

    def _finish(self, parts: int) -> None:
        """Says that everything is there; makes one file of the parts, if it was asked for, and takes them away."""
        file, folder = self.output.file, self.output.folder
        if file is not None:
            self._note(merging=True, parts=parts)  # from now on a file of this name is this job's
            merge(folder, parts, self.output.format, file)
        self._note(done=True, parts=parts, **({"merging": True} if file is not None else {}))
        if file is not None:
            for number in range(parts):
                part_of(folder, number, self.output.format).unlink(missing_ok=True)

    def _note(self, **more: Any) -> None:
        write_text_beside(self.output.folder / MANIFEST, json.dumps(self.manifest | more, indent=1) + "\n")

    def _found(self) -> dict[str, Any]:
        """The manifest that is there; empty if there is none.

        Raises:
            ValueError: It is of something else.
        """
        path = self.output.folder / MANIFEST
        if not path.is_file():
            return {}
        found = parse_json(read_text(path), str(path))
        if not isinstance(found, dict) or found.get("refseg") != "annotate":
            raise ValueError(f"{path}: {shown(found)}; is not of this command and was kept; another OUTPUT is accepted")
        return found

    def _compare(self) -> None:
        """Refuses an output that holds something else.

        Raises:
            ValueError: It does.
        """
        folder, file, found = self.output.folder, self.output.file, self._found()
        if file is not None and file.exists() and not found.get("merging"):
            raise ValueError(f"{file}: is there, and not of this command; it was kept, and another OUTPUT is accepted")
        if not found:
            stranger = next((part for part in sorted(folder.glob("part-*"))), None)
            if stranger is not None:
                raise ValueError(
                    f"{stranger}: is there without {MANIFEST}; it was kept, and another OUTPUT is accepted"
                )
            return
        for key, told in _TOLD.items():
            old, new = (_plain(each.get(key)) for each in (found, self.manifest))
            if key in found and key in self.manifest and old != new:
                said = "" if key == "input" else f" ({_shown(found[key])}, and now {_shown(self.manifest[key])})"
                raise ValueError(f"{folder}: was made with another {told}{said}; the same is accepted, or another "
                                 "OUTPUT")  # fmt: skip


def _plain(value: Any) -> Any:
    """What is compared: of a model its identity, since one may have several names."""
    return value.get("identity") if isinstance(value, dict) else value


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value.get('name')} {str(value.get('identity'))[:12]}"
    return "none" if value is None else shown(value)


def _named(row: dict[str, Any]) -> str:
    """An error with what it is about, where it does not say so itself."""
    name = row["image"] or f"{row['source']} {row['id']}"
    return row["error"] if name in row["error"] else f"{name}: {row['error']}"
