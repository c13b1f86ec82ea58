"""What a page is made of: texts, boxes and pictures at places in units of 1/72 inch, from the top left corner."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import ImageFont

Anchor = Literal["start", "middle", "end"]
SIGNS = {"\u2212": "-", "\u2013": "-", "\u2014": "-", "\u00d7": "x"}  # what may stand for a sign that a font lacks
INK, QUIET, FAINT = "#1b1b1b", "#5c5c5c", "#d9d9d9"


@dataclass(frozen=True)
class Text:
    """One line of text.

    Attributes:
        x: Where it starts, has its middle, or ends.
        y: Its baseline.
        text: What it says.
        size: Of the font.
        anchor: Which part of it is at x.
        colour: As #rrggbb.
    """

    x: float
    y: float
    text: str
    size: float
    anchor: Anchor = "start"
    colour: str = INK


@dataclass(frozen=True)
class Box:
    """A filled rectangle; `x` and `y` are its top left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (h, w, 3) uint8 stretched over a rectangle; `x` and `y` are its top left corner."""

    x: float
    y: float
    width: float
    height: float
    pixels: np.ndarray


Shape = Text | Box | Picture


@dataclass(frozen=True)
class Page:
    """Shapes on white paper, the later ones above the earlier."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Block:
    """Shapes that stay together, with the room that they take from (0, 0); its title takes the height `head`."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    head: float = 0.0


def moved(shapes: Sequence[Shape], x: float, y: float) -> list[Shape]:
    """The same shapes at another place."""
    return [replace(shape, x=shape.x + x, y=shape.y + y) for shape in shapes]


@lru_cache(maxsize=64)
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which is there wherever Pillow is."""
    return ImageFont.load_default(size)


def width_of(text: str, size: float) -> float:
    """Room for a text: its width and a little more, since other sizes and fonts of its kind differ by a few percent."""
    return 1.03 * font(3 * size).getlength(drawable(text)) / 3


def drawable(text: str) -> str:
    """The text in characters that Pillow's font has, whose others would all be the same box.

    A letter loses its accent, and a sign that nothing stands for becomes its code, as in Python. A font that has it
    draws the text itself: in an SVG.
    """
    return "".join(c if c.isascii() else _drawable(c) for c in text)


@lru_cache(maxsize=4096)
def _drawable(character: str) -> str:
    for other in (character, SIGNS.get(character, ""), unicodedata.normalize("NFKD", character)):
        shown = "".join(c for c in other if not unicodedata.combining(c))
        if shown and all(_has_shape(c) for c in shown):
            return shown
    return "" if unicodedata.combining(character) else character.encode("unicode_escape").decode()


@lru_cache(maxsize=4096)
def _has_shape(character: str) -> bool:
    known = font(40)
    return bytes(known.getmask(character)) != bytes(known.getmask("\U0010ffff"))


def fitted(text: str, size: float, room: float) -> str:
    """The text, or as much of its start as there is room for, with three dots."""
    if width_of(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle].rstrip() + "...", size) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "..." if low else ""


def wrapped(text: str, size: float, room: float, most: int) -> list[str]:
    """The text in at most so many lines; what is too long for them ends in three dots."""
    lines = [""]
    words = text.split(" ")
    for i, word in enumerate(words):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if not lines[-1] or width_of(longer, size) <= room:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = " ".join((lines[-1], *words[i:]))
            break
    return [fitted(line, size, room) for line in lines]


def signed(value: float, digits: int, plus: bool = False) -> str:
    """A number with a real minus sign, and none in front of zero; a plus sign on request."""
    text = f"{value:{'+' if plus else ''}.{digits}f}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "\u2212")
