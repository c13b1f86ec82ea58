"""Which file of an output folder was made from what, so that nobody's file is replaced and nothing stale is taken.

`segments.jsonl` has a line for every answer, with the hashes of its files, and one before its files are written. A file
is this command's own if the last line about it is about the same image content, expression and model, and the file is
still what was written. Any other file keeps its name, and the answer takes the next free number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refseg.files import hash_of, writing

FILE = "segments.jsonl"
MADE = ("model", "content", "threshold", "precision", "files", "begun")  # what a line says beside the answer itself


@dataclass(frozen=True)
class Key:
    """What an answer is to.

    Attributes:
        stem: The image's name without its ending, which the files begin with.
        content: SHA-256 of the image file.
        expression: What was asked.
    """

    stem: str
    content: str
    expression: str


@dataclass(frozen=True)
class _Line:
    """The last line about a mask: whose it is, the answer, and its files' hashes; None before they are written."""

    key: Key
    model: str
    threshold: float
    answer: dict[str, Any]
    hashes: Sequence[str] | None


class Ledger:
    """The files of a folder while answers are written into it.

    Args:
        out: The folder.
        model: Identity of the model that answers, its precision among it.
        precision: In which it answers, for whoever reads the file.
        threshold: Probability above which a pixel is in a mask.
        overlays: Whether pictures are written beside the masks.
        overwrite: Whether other files are replaced.
    """

    def __init__(
        self, out: Path, model: str, precision: str, threshold: float, overlays: bool, overwrite: bool = False
    ) -> None:
        self.out, self.model, self.precision = out, model, precision
        self.threshold, self.overlays = threshold, overlays
        self.overwrite = overwrite
        self._lines = _read(out / FILE)  # by the name of the mask
        self._taken: set[str] = set()  # names of masks of this run, as a file system that ignores case sees them
        if self._lines or (out / FILE).is_file():
            _end_line(out / FILE)

    def known(self, key: Key) -> dict[str, Any] | None:
        """The answer of an earlier run, if its files are still what it wrote and fit what is asked for now."""
        for name, line in self._lines.items():
            fits = line.key == key and line.model == self.model and line.threshold == self.threshold
            fits = fits and (line.answer["overlay"] is not None) == self.overlays
            if fits and name.casefold() not in self._taken and self._is_ours(line, whole=True):
                self._taken.add(name.casefold())
                return line.answer
        return None

    def place(self, key: Key) -> tuple[int, Path | None]:
        """The number of an answer's files, and another's file that has the number it would have had; None if none has.

        Numbers begin with 1 for every name of an image.
        """
        for number in self._numbers_of(key):
            if self._take(key.stem, number):
                return number, None
        number, other = 0, None
        while True:
            number += 1
            mask, overlay = files_of(self.out, key.stem, number)
            if mask.name.casefold() in self._taken:
                continue
            there = None if self.overwrite else next((file for file in (mask, overlay) if _exists(file)), None)
            if there is None:
                self._take(key.stem, number)
                return number, other
            other = other or there

    def begin(self, key: Key, number: int) -> None:
        """Notes whose files are about to be written, for whoever finds them half done."""
        mask, overlay = files_of(self.out, key.stem, number)
        answer = {"image": key.stem, "expression": key.expression, "mask": str(mask), "overlay": str(overlay)}
        self._write({**self._made(key), "begun": True, **answer})

    def note(self, key: Key, answer: dict[str, Any]) -> None:
        """Notes an answer whose files are written."""
        self._write({**self._made(key), "files": [hash_of(file) for file in _written(answer)], **answer})

    def _made(self, key: Key) -> dict[str, Any]:
        made = {"model": self.model, "precision": self.precision}
        return {**made, "content": key.content, "threshold": self.threshold}

    def _write(self, entry: dict[str, Any]) -> None:
        with writing(self.out / FILE), (self.out / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _take(self, stem: str, number: int) -> bool:
        name = files_of(self.out, stem, number)[0].name.casefold()
        free = name not in self._taken
        self._taken.add(name)
        return free

    def _numbers_of(self, key: Key) -> list[int]:
        """Numbers under which the same answer was written, whose files nobody has touched."""
        own = (
            name
            for name, line in self._lines.items()
            if line.key == key and line.model == self.model and self._is_ours(line)
        )
        return sorted(int(name.rsplit(".", 3)[1]) for name in own)

    def _is_ours(self, line: _Line, whole: bool = False) -> bool:
        """Whether the files of a line are as it says, half written, or gone; if `whole`, all there and as it says."""
        if line.hashes is None:
            return not whole
        files = [self.out / file.name for file in _written(line.answer)]
        return len(files) == len(line.hashes) and all(
            hash_of(file) == stated if file.is_file() else not whole and not _exists(file)
            for file, stated in zip(files, line.hashes, strict=True)
        )


def files_of(out: Path, stem: str, number: int) -> tuple[Path, Path]:
    """The mask and the overlay of an answer."""
    return out / f"{stem}.{number}.mask.png", out / f"{stem}.{number}.overlay.png"


def _written(answer: dict[str, Any]) -> list[Path]:
    return [Path(answer[name]) for name in ("mask", "overlay") if answer[name] is not None]


def _exists(file: Path) -> bool:
    return file.exists() or file.is_symlink()


def _read(log: Path) -> dict[str, _Line]:
    """The last line about every mask, by its name; lines of other forms are left aside."""
    found: dict[str, _Line] = {}
    if not log.is_file():
        return found
    for text in log.read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            entry = json.loads(text)
            made = {name: entry.pop(name, None) for name in MADE}
            name = Path(entry["mask"]).name
            stem, number, _, _ = name.rsplit(".", 3)
            key = Key(stem, str(made["content"]), str(entry["expression"]))
            hashes = None if made["begun"] else list(made["files"])
            int(number), entry["overlay"]
            found[name] = _Line(key, str(made["model"]), float(made["threshold"]), entry, hashes)
    return found


def _end_line(log: Path) -> None:
    """Ends a line in the middle of which an earlier run was stopped."""
    if not log.read_bytes().endswith(b"\n"):
        with writing(log), log.open("a", encoding="utf-8") as file:
            file.write("\n")
