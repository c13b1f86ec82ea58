"""The top of a figure: the image with its mask, what was asked, and a bar for what every word changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from refseg.explain.panels import NAMES
from refseg.explain.shapes import (
    FAINT,
    QUIET,
    Block,
    Box,
    Shape,
    Text,
    fitted,
    moved,
    signed,
    width_of,
    wrapped,
)
from refseg.explain.tiles import Frame
from refseg.fields import printable

if TYPE_CHECKING:
    from refseg.explain.explanation import Explanation
    from refseg.explain.words import Word

LARGE, NORMAL, SMALL = 11.0, 7.5, 6.5
HEAD, ROW, MOST = 31.0, 11.0, 80  # heights of what stands above the words and of a word's row; words that are drawn
SPACE, LEAST = 18.0, 190.0  # between image and words, and the least width of the words
FORWARD, BACKWARD = "#2b6ca8", "#c4622d"  # blue, and orange for what goes the other way


def answer_block(explanation: Explanation, frame: Frame, room: float) -> Block:
    """Image and words side by side; many words, or those of a wide image, go below it in two columns."""
    shapes, top = _head(explanation, room)
    width, height = frame.fitting(0.36 * room, 0.36 * room)
    drawn = explanation.words[:MOST]
    count = len(drawn)
    shapes.append(frame.answer(0, top, width, height))
    if room - width - SPACE >= LEAST and ROW * (count // 2) <= height + 10:  # no lower than below the image
        words = _words(explanation, 0, count, room - width - SPACE)
        shapes += moved(words.shapes, width + SPACE, top)
        return Block(room, top + max(height, words.height), tuple(shapes))
    top += height + 10
    half, column = math.ceil(count / 2), (room - SPACE) / 2
    parts = [_words(explanation, 0, half, column)]
    if half < count:
        parts.append(_words(explanation, half, count, column))
    for i, part in enumerate(parts):
        shapes += moved(part.shapes, i * (column + SPACE), top)
    top += max(part.height for part in parts)
    if len(explanation.words) > MOST:
        rest = f"and {len(explanation.words) - MOST} more words, which are among the numbers"
        shapes.append(Text(0, top + 8, rest, SMALL, colour=QUIET))
        top += 10
    return Block(room, top, tuple(shapes))


def _head(explanation: Explanation, room: float) -> tuple[list[Shape], float]:
    """The expression and what the model says to it; the height that they take."""
    answer = explanation.prediction
    lines = wrapped(f"\u201c{printable(answer.expression)}\u201d", LARGE, room, 3)
    shapes: list[Shape] = [Text(0, 9 + 13 * i, line, LARGE) for i, line in enumerate(lines)]
    top = 13.0 * len(lines) + 9
    method = NAMES.get(explanation.method, "")
    name = fitted(printable(explanation.model), NORMAL, room / 2)
    score = "without a score" if answer.score is None else f"score {answer.score:.3f}"
    found = (
        f"{score}, {answer.area:,} of {answer.mask.size:,} pixels"
        if answer.area
        else "nothing found, the mask is empty"
    )
    about = f"{name} ({method})" if method and method.lower() != name.lower() else name
    shapes.append(Text(0, top, f"{about}: {found}", NORMAL, colour=QUIET))
    return shapes, top + 7


def _words(explanation: Explanation, first: int, last: int, width: float) -> Block:
    """Bars for the words from `first` to `last`."""
    words, numbers = explanation.words[first:last], explanation.importance
    names = [fitted(printable(word.text), NORMAL, 0.28 * width) for word in words]
    label = max(width_of(name, NORMAL) for name in ("the word", *names)) + 9
    bar = (width - label - 62) / 2  # two bars with a number of 22 behind each, and 18 between them
    second = label + bar + 40
    shapes: list[Shape] = [Text(0, 7, "Without", NORMAL), Text(0, 15.5, "the word", NORMAL)]
    for x, title, ends, what in (
        (label, "mask change", ("0", "1"), "1 \u2212 IoU of the masks"),
        (second, "probability fall", ("\u22121", "1"), "mean over the mask"),
    ):
        shapes += [
            Text(x + bar / 2, 7, title, NORMAL, "middle"),
            Text(x + bar / 2, 15.5, what, SMALL, "middle", QUIET),
            Text(x, 25, ends[0], SMALL - 0.5, "middle", QUIET),
            Text(x + bar, 25, ends[1], SMALL - 0.5, "middle", QUIET),
        ]
    shapes.append(Text(second + bar / 2, 25, "0", SMALL - 0.5, "middle", QUIET))
    bottom = HEAD - 3 + ROW * len(words)
    for x in (label, label + bar, second, second + bar / 2, second + bar):
        shapes.append(Box(x - 0.25, HEAD - 4, 0.5, bottom - HEAD + 4, FAINT))
    for row, (word, name) in enumerate(zip(words, names, strict=True)):
        top = HEAD - 3 + row * ROW
        change = float(numbers.mask_change[first + row])
        fall = float(numbers.probability_fall[first + row])
        shapes.append(Text(0, top + 7.4, name, NORMAL, colour=QUIET if word.read == "no" else "#1b1b1b"))
        if np.isnan(change):
            shapes.append(Text(label + 3, top + 7.2, _why(word), SMALL, colour=QUIET))
            continue
        shapes += _bar(label, bar, change, top)
        shapes.append(Text(label + bar + 22, top + 7.2, signed(change, 2), SMALL, "end"))
        if np.isnan(fall):
            shapes.append(Text(second + bar / 2, top + 7.2, "not defined", SMALL, "middle", QUIET))
            continue
        shapes += _bar(second + bar / 2, bar / 2, fall, top)
        shapes.append(Text(second + bar + 22, top + 7.2, signed(fall, 2, plus=True), SMALL, "end"))
    return Block(width, bottom, tuple(shapes))


def _why(word: Word) -> str:
    return "not read: cut, or no token" if word.read == "no" else "not defined: no other word"


def _bar(zero: float, full: float, value: float, top: float) -> list[Shape]:
    """A bar from `zero` to the right, or to the left where the value is negative; `full` long for 1."""
    length = abs(value) * full
    if length < 0.1:
        return []
    return [Box(zero if value > 0 else zero - length, top + 1.8, length, ROW - 4.4, FORWARD if value > 0 else BACKWARD)]
