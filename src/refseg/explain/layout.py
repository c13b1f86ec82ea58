"""Places an explanation on a page: blocks one below the other, or side by side where they fit.

Units are 1/72 inch; a page is as wide as two columns of a paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refseg.explain.answer_block import answer_block
from refseg.explain.panel_blocks import panel_block
from refseg.explain.shapes import Block, Page, Shape, moved
from refseg.explain.tiles import Frame

if TYPE_CHECKING:
    from refseg.explain.explanation import Explanation

WIDTH, MARGIN, GAP = 516.0, 12.0, 14.0


def page_of(explanation: Explanation) -> Page:
    """The figure of an explanation: the answer, what every word changes, and a block for every panel."""
    room = WIDTH - 2 * MARGIN
    frame = Frame(explanation)
    blocks = [answer_block(explanation, frame, room)]
    blocks += [panel_block(panel, frame, room) for panel in explanation.panels]
    shapes: list[Shape] = []
    top = MARGIN
    for row in _rows(blocks, room):
        left, head = MARGIN, max(block.head for block in row)
        for block in row:  # what is below the titles begins at one height
            shapes += moved(block.shapes, left, top + head - block.head)
            left += block.width + GAP
        top += head + max(block.height - block.head for block in row) + GAP
    return Page(WIDTH, top - GAP + MARGIN, tuple(shapes))


def _rows(blocks: list[Block], room: float) -> list[list[Block]]:
    """Neighbours that fit beside each other, in their order."""
    rows: list[list[Block]] = [[]]
    for block in blocks:
        taken = sum(other.width + GAP for other in rows[-1])
        if rows[-1] and taken + block.width > room:
            rows.append([])
        rows[-1].append(block)
    return rows
