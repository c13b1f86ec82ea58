"""Typed look-ups in what a file holds, so that a malformed field is named and never met later as a strange crash."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np


class _Short(reprlib.Repr):
    """Python's own, which sorts a dict or a set before it shows the first few entries, without that."""

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        pairs = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in islice(x.items(), self.maxdict)]
        return "{" + ", ".join(pairs + ["..."] * (len(x) > len(pairs))) + "}" if level > 0 or not x else "{...}"

    def repr_set(self, x: set[Any], level: int) -> str:
        found = [self.repr1(value, level - 1) for value in islice(x, self.maxset)]
        return "{" + ", ".join(found + ["..."] * (len(x) > len(found))) + "}" if x else "set()"


_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return _WORD.findall(text.lower())


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3
_LARGEST, _DEEPEST = 2**31, 100  # bytes of a text file, and levels of JSON
_ESCAPE, _STRING = re.compile(rb"\\.", re.DOTALL), re.compile(rb'"[^"]*"?')
_NO_BRACKET = bytes(set(range(256)) - set(b'[]{}"'))
_LONGEST_ID, _LONGEST_NAME = 1000, 5000  # characters; no path is longer, and a file can repeat them in every row


def shown(value: Any) -> str:
    """A value in a message: short, however large or deeply nested it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a very long {type(value).__name__}"
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def printable(text: str) -> str:
    """The text with what nobody sees, and no file of text may hold, as codes; spaces of all kinds as one space."""
    seen = (c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)
    return " ".join("".join(seen).split())


def printable_json(value: Any) -> Any:
    """What a file of JSON holds with every text of it printable: it may go to a terminal, or into another file."""
    if isinstance(value, str):
        return value if value.isprintable() else printable(value)
    if isinstance(value, list):
        return [printable_json(part) for part in value]
    if isinstance(value, dict):
        return {printable_json(name): printable_json(part) for name, part in value.items()}
    return value


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: It cannot be read, or is not UTF-8.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise ValueError(f"{path}: {size} bytes; a text of at most {_LARGEST} bytes is accepted")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 ({error}); UTF-8 is accepted") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); a readable file is accepted") from error


def parse_json(text: str, where: str) -> Any:
    """Parses JSON, with a byte-order mark or without.

    Raises:
        ValueError: It is none, holds numbers that JSON has not (NaN, Infinity), or is nested more than 100 times, which
            only damage is; the message starts with `where`.
    """
    try:
        if _depth(text := text.removeprefix("\ufeff")) > _DEEPEST:
            raise ValueError("nested too deeply")
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where}: not JSON ({reason}); JSON is accepted") from error


def _depth(text: str) -> int:
    """How deep the brackets of a text are nested, those in strings left aside."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return 0
    raw = text.encode("ascii", "replace")
    if b"\\" in raw:  # which in JSON only strings have
        raw = _ESCAPE.sub(b"", raw)
    brackets = np.frombuffer(_STRING.sub(b"", raw.translate(None, _NO_BRACKET)), np.uint8)
    return int(np.cumsum(np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)).max(initial=0))


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def as_record(value: Any, where: str) -> Mapping[str, Any]:
    """A mapping of names to values.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {shown(value)}; an object with named fields is accepted")
    return value


def as_list(value: Any, where: str) -> list[Any] | tuple[Any, ...]:
    """A list.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: {shown(value)}; a list is accepted")
    return value


def as_text(value: Any, where: str) -> str:
    """A string that can be written as UTF-8; an empty one passes.

    Raises:
        ValueError: It is something else, or holds half a character (a lone surrogate), which no tokenizer reads.
    """
    if not isinstance(value, str):
        raise ValueError(f"{where}: {shown(value)}; a string is accepted")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{where}: {shown(value)} is not valid Unicode; a string is accepted") from error
    return value


def as_name(value: Any, where: str) -> str:
    """A string that is not empty and can be (part of) a path.

    Raises:
        ValueError: It is something else, or very long.
    """
    if isinstance(value, str) and len(value) > _LONGEST_NAME:
        raise ValueError(f"{where}: {shown(value)}; a name of at most {_LONGEST_NAME} characters is accepted")
    text = as_text(value, where)
    if not text or "\0" in text:
        raise ValueError(f"{where}: {shown(text)}; a name that is not empty is accepted")
    return text


def as_id(value: Any, where: str) -> str:
    """An identifier, a whole number or a string, as a string.

    Raises:
        ValueError: It is something else, empty, or very long.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return str(value)
    if isinstance(value, str) and value:
        if len(value) > _LONGEST_ID:
            raise ValueError(f"{where}: {shown(value)}; a string of at most {_LONGEST_ID} characters is accepted")
        return as_text(value, where)
    raise ValueError(f"{where}: {shown(value)}; a whole number or a string that is not empty is accepted")


def needed(record: Mapping[str, Any], name: str, where: str) -> Any:
    """The value of a field that must be there.

    Raises:
        ValueError: It is not.
    """
    if name not in record:
        raise ValueError(f"{where}: {name} is missing; it has {', '.join(shown(key) for key in islice(record, 12))}")
    return record[name]


def as_float(value: Any) -> float | None:
    """A number of JSON as a float; None for what is none, and for whole numbers that are too large for one."""
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None


def as_count(value: Any, where: str) -> int:
    """A whole number from 1, also as text, which is what CSV has.

    Raises:
        ValueError: It is none.
    """
    try:
        count = int(value) if isinstance(value, str) or type(value) is int else 0
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"{where} {shown(value)}: a whole number from 1 is accepted")
    return count


class Problems(list[str]):
    """Messages of malformed rows, which are left out.

    Attributes:
        passed: Messages of rows that are as they should be and hold nothing that is used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []


class leave_out:  # noqa: N801 - it is used as a word: `with leave_out(problems):`
    """What is wrong with a row ends the row, and is noted, where somebody collects problems; else it stops.

    Args:
        problems: Takes the messages; None lets the ValueError through.
    """

    __slots__ = ("_problems",)

    def __init__(self, problems: list[str] | None) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Whether the error was noted."""
        if self._problems is None or not isinstance(error, ValueError):
            return False
        self._problems.append(str(error))
        return True


def json_rows(
    path: Path, problems: list[str] | None = None, repeated: str | None = None
) -> Iterable[tuple[int, str, Any]]:
    """Number, place for messages and value of each row of a `.jsonl` or `.json` file.

    Args:
        path: The file.
        problems: Takes the messages of lines that are not JSON, which are then left out instead of stopping.
        repeated: Name of a field whose lists of numbers are often those of the line before. They are then the same
            object, parsed once.

    Raises:
        ValueError: The file cannot be read, or a row is not JSON.
    """
    text = read_text(path)
    if path.suffix.lower() == ".json":
        rows = as_list(parse_json(text, str(path)), str(path))
        return [(number, f"{path}: row {number}", value) for number, value in enumerate(rows, 1)]
    lines = enumerate(text.split("\n"), 1)  # a line ends in a newline alone: JSON strings may hold other separators
    return _parsed(str(path), lines, problems, parse_json if repeated is None else _Repeated(repeated))


def _parsed(
    path: str, lines: Iterable[tuple[int, str]], problems: list[str] | None, parse: Callable[[str, str], Any]
) -> Iterable[tuple[int, str, Any]]:
    for number, line in lines:
        where = f"{path}: line {number}"
        if line.strip():
            with leave_out(problems):
                yield number, where, parse(line, where)


class _Repeated:
    """Parses lines; the lists of numbers of a field are not parsed again where they are written as in the line before.

    Reading the numbers of an outline takes most of the time of a line.
    """

    _STANDS_FOR_IT = "\0the same"  # which no list of numbers is

    def __init__(self, name: str) -> None:
        self._name, self._quoted = name, f'"{name}"'
        self._begin = re.compile(rf'"{name}"\s*:\s*(?=\[)')
        self._numbers = re.compile(r"\[[\d\s.,eE+\-\[\]]*\]")
        self._text: str | None = None
        self._value: Any = None

    def __call__(self, line: str, where: str) -> Any:
        found = self._begin.search(line)
        if found is None:
            return parse_json(line, where)
        begin = found.end()
        if self._text is not None and line.startswith(self._text, begin):
            rest = line[begin + len(self._text) :]
            value = parse_json(f"{line[:begin]}{json.dumps(self._STANDS_FOR_IT)}{rest}", where)
            if isinstance(value, dict) and value.get(self._name) == self._STANDS_FOR_IT:  # it is the line's own field
                value[self._name] = self._value
                return value
        value = parse_json(line, where)
        numbers = self._numbers.match(line, begin)
        if numbers is not None and isinstance(value, dict) and self._name in value:
            only = line.count(self._quoted) == 1 and "\\" not in line  # else the numbers may be another field's
            self._text, self._value = numbers[0] if only else None, value[self._name]
        return value
