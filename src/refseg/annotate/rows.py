"""A row of work: an image, what is asked about it, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refseg.data.expressions import check_expression
from refseg.fields import parse_json, shown

OWN = re.compile(r".+\.\d+\.(mask|overlay)\.png")  # what `refseg segment` writes
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # what is taken of a folder
FORM = 'either "expression" or a list "expressions"'


@dataclass(frozen=True)
class Row:
    """One image with its expressions.

    Attributes:
        image: Path of the image, or the bytes of its file; read when it is answered.
        expressions: What is asked; nothing in a row that asks for nothing that can be answered.
        place: Where the row stands, for messages: a line of a list, a file of a folder, a key of an archive.
        problem: What is wrong with the row, with its place; empty if nothing is.
        name: What its source calls the image.
        id: What its source calls the row; not always the only one of that name.
    """

    image: Path | bytes
    expressions: tuple[str, ...]
    place: str
    problem: str = ""
    name: str = ""
    id: str = ""


def row_of_line(text: str, folder: Path, line: int, asked: tuple[str, ...] = ()) -> Row:
    """Reads a line of a list: JSON with `image` and `expression` or `expressions`.

    Args:
        text: The line.
        folder: What the image's path is relative to.
        line: Its number.
        asked: Expressions that are asked instead of the line's own.

    Raises:
        ValueError: It has another form; the message begins with `line N`.
    """
    where = f"line {line}"
    record = parse_json(text, where)
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {shown(record)}; an object with image and expression is accepted")
    if not isinstance(record.get("image"), str) or not (asked or _has_form(record)):
        raise ValueError(f'{where}: needs "image" and {FORM}')
    texts = asked or expressions_of(record, where)
    name = record["image"]
    if "\0" in name or any("\ud800" <= sign <= "\udfff" for sign in name):
        raise ValueError(f"{where}: image {shown(name)}; the name of a file is accepted")
    return Row(folder / name, texts, where, name=name, id=id_of(record, str(line)))


def expressions_of(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """What a record asks: its `expression`, or all of its `expressions`.

    Raises:
        ValueError: It has neither or both, or one says nothing; the message begins with `where`.
    """
    if not _has_form(record):
        raise ValueError(f"{where}: needs {FORM}")
    texts = record.get("expressions", [record.get("expression")])
    for text in texts:
        try:
            check_expression(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return tuple(texts)


def expressions_of_file(content: bytes, is_json: bool, where: str) -> tuple[str, ...]:
    """What a file beside an image asks: an object of JSON, or a text with an expression on every line.

    Raises:
        ValueError: It says nothing of that form; the message begins with `where`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not text in UTF-8 ({error}); UTF-8 is accepted") from error
    if not is_json:
        return expressions_of({"expressions": [line.strip() for line in text.split("\n") if line.strip()]}, where)
    record = parse_json(text, where)
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {shown(record)}; an object with {FORM} is accepted")
    return expressions_of(record, where)


def id_of(record: Mapping[str, Any], otherwise: str) -> str:
    """The `id` of a record if it is a text or a whole number."""
    value = record.get("id")
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else otherwise


def names_of_images(names: list[str]) -> list[str]:
    """Those names of files that are of images, and not masks and overlays of `refseg segment`, in order."""
    return sorted(name for name in names if Path(name).suffix.lower() in IMAGES and not OWN.fullmatch(name))


def _has_form(record: Mapping[str, Any]) -> bool:
    texts = record.get("expressions", [record.get("expression")])
    return not ("expression" in record and "expressions" in record) and isinstance(texts, list) and bool(texts)
