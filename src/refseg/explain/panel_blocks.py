"""Panels as blocks of a page: a title with a bar of its colours, names of rows and columns, tiles or cells."""

from __future__ import annotations

import math

import numpy as np

from refseg.explain.colours import STEPS, coloured
from refseg.explain.panels import Maps, Panel, Table, range_of
from refseg.explain.shapes import QUIET, Block, Box, Picture, Shape, Text, fitted, width_of, wrapped
from refseg.explain.tiles import Frame
from refseg.fields import printable

TITLE, SMALL = 7.5, 6.5  # sizes of fonts
LINE = 9.5
LABEL, LEAST = 34.0, 118.0  # widths that names of rows and a block take at least
WIDEST, HIGHEST, NARROWEST, SPACE = 74.0, 90.0, 36.0, 3.0  # of a tile, and between two
BAR, GAP = 50.0, 14.0  # height of the bar of colours; between two blocks
CELL, WIDE_CELL, NARROW_CELL = 9.0, 16.0, 7.0  # height of a table's cells, and widths


def panel_block(panel: Panel, frame: Frame, room: float) -> Block:
    """The block of one panel, at most `room` wide."""
    return _maps(panel, frame, room) if isinstance(panel, Maps) else _table(panel, room)


def _maps(panel: Maps, frame: Frame, room: float) -> Block:
    columns, signed = len(panel.columns), panel.kind in ("signed", "cosine")
    limits = [range_of(list(row), panel.kind) for row in panel.maps]
    if not panel.by_row:
        limits = [range_of([each for row in panel.maps for each in row], panel.kind)] * len(panel.maps)
    names = [printable(name) for name in panel.rows]
    second = [f"{row[0].shape[0]} \u00d7 {row[0].shape[1]}" if panel.kind == "share" else "" for row in panel.maps]
    if panel.by_row:
        second = [f"max {_short(limit[1])}" for limit in limits]
    label = max(LABEL, *(width_of(text, SMALL) + 5 for text in (*names, *second))) if any(names) else 0.0
    bar = _bar_width(limits[0], panel.by_row)
    most = max(1, int((room - label - bar + SPACE) // (NARROWEST + SPACE)))
    bands = math.ceil(columns / most)
    per_band = math.ceil(columns / bands)
    tile_width, tile_height = frame.fitting(min(WIDEST, (room - label - bar + SPACE) / per_band - SPACE), HIGHEST)
    step = max(tile_width, NARROWEST if columns > 1 else LEAST - bar) + SPACE
    height = max(tile_height, 2 * LINE if label else 0.0)  # room for the names of a row beside flat tiles
    width = label + per_band * step - SPACE + bar
    inset = max(0.0, (step - SPACE if columns > 1 else NARROWEST) - tile_width) / 2
    shapes, head = _titled(panel.title, width)
    top, first = head, 0.0
    for band in range(bands):
        numbers = range(band * per_band, min(columns, (band + 1) * per_band))
        top += LINE - 1
        first = first or top
        for place, number in enumerate(numbers):
            text = fitted(printable(panel.columns[number]), SMALL, step)
            shapes.append(Text(label + place * step + inset + tile_width / 2, top - 2.5, text, SMALL, "middle"))
        for row, maps in enumerate(panel.maps):
            if label:
                middle = top + height / 2
                shapes.append(Text(0, middle - 0.5 if second[row] else middle + 2, names[row], SMALL))
                shapes.append(Text(0, middle + 7, second[row], SMALL, colour=QUIET))
            for place, number in enumerate(numbers):
                x, y = label + place * step + inset, top + (height - tile_height) / 2
                shapes.append(
                    frame.map(x, y, tile_width, tile_height, maps[number], limits[row], signed, panel.kind == "share")
                )
            top += height + SPACE
    top -= SPACE
    high = max(2.3 * SMALL, min(BAR, top - first))
    left = label + (per_band - 1) * step + inset + tile_width
    shapes += _bar(left, first, high, limits[0], signed, panel.by_row)
    return Block(width, max(top, first + high), tuple(shapes), head)


def _table(panel: Table, room: float) -> Block:
    rows, columns = panel.values.shape
    names = [fitted(printable(name), SMALL, 60) for name in panel.rows]
    label = max(LABEL, *(width_of(name, SMALL) + 5 for name in names))
    limits = range_of([panel.values], "share")
    bar = _bar_width(limits, False)
    half = (room - GAP) / 2
    space = half if columns <= (half - label - bar) / NARROW_CELL else room
    cell = min(WIDE_CELL, (space - label - bar) / columns)
    shapes, head = _titled(panel.title, space)
    top = head + LINE - 1
    every = max(1, math.ceil(max(width_of(name, SMALL - 1) for name in panel.columns) * 1.1 / cell))
    for number, name in enumerate(panel.columns):
        if number % every == 0:
            shapes.append(Text(label + (number + 0.5) * cell, top - 2.5, name, SMALL - 1, "middle", QUIET))
    for row, name in enumerate(names):
        shapes.append(Text(0, top + (row + 0.5) * CELL + 2.2, name, SMALL))
    pixels = coloured(panel.values, *limits, signed=False)
    shapes.append(Picture(label, top, columns * cell, rows * CELL, pixels.repeat(24, 0).repeat(24, 1)))
    shapes += [Box(label + n * cell - 0.2, top, 0.4, rows * CELL, "#ffffff") for n in range(1, columns)]
    shapes += [Box(label, top + n * CELL - 0.2, columns * cell, 0.4, "#ffffff") for n in range(1, rows)]
    high = max(2 * SMALL, min(BAR, rows * CELL))
    shapes += _bar(label + columns * cell, top, high, limits, False, False)
    return Block(space, top + max(high, rows * CELL), tuple(shapes), head)


def _titled(title: str, width: float) -> tuple[list[Shape], float]:
    """The title of a block, and the height that it takes."""
    lines = wrapped(title, TITLE, width, 4)
    return [Text(0, 6.5 + LINE * i, line, TITLE) for i, line in enumerate(lines)], LINE * len(lines)


def _bar_width(limits: tuple[float, float], by_row: bool) -> float:
    return 12 + max(width_of(text, SMALL) for text in _ends(limits, by_row))


def _bar(x: float, y: float, height: float, limits: tuple[float, float], signed: bool, by_row: bool) -> list[Shape]:
    """The colours from the lowest number, at the bottom, to the highest, right of x."""
    low, high = _ends(limits, by_row)
    pixels = coloured(np.linspace(1, 0, STEPS)[:, None], 0, 1, signed).repeat(8, 1)
    return [
        Picture(x + 5, y, 5, height, pixels),
        Text(x + 12, y + 4.8, high, SMALL, colour=QUIET),
        Text(x + 12, y + height, low, SMALL, colour=QUIET),
    ]


def _ends(limits: tuple[float, float], by_row: bool) -> tuple[str, str]:
    return ("\u2212max", "max") if by_row else (_short(limits[0]), _short(limits[1]))


def _short(value: float) -> str:
    text = f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("-", "\u2212", 1) if value < 0 else text
