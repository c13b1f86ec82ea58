"""Filling outlines that run far beyond their image, or many times across it.

COCO's library enlarges an outline five times, walks along it step by step, and notes where it passes from the middle of
one column of pixels to the next; it keeps every step of the way, also of those that lie outside. Here the same points
are computed one by one for the columns that the image has, so that time and memory follow the image's width and the
number of corners. The pixels are the same, down to the rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_SCALE = 5  # of COCO's library
_AT_ONCE = 2**16  # crossings that are computed together
_MOST = 2e7  # crossings of one outline: more take minutes


def fill_outline(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels within an outline, exactly as COCO's library has them.

    Args:
        points: (K, 2) corners x, y in pixels.
        size: (H, W) of the image.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: It crosses the columns of the image many million times.
    """
    height, width = size
    corners = np.trunc(_SCALE * points + 0.5)  # (K, 2): whole numbers, and C rounds towards zero
    edges = _Edges(corners, np.roll(corners, -1, axis=0), width)
    if edges.crossings.sum() > _MOST:
        raise ValueError("polygon with an outline that crosses the image many million times: it cannot be drawn")
    # A pixel is inside when an odd number of crossings lies at or before it, column by column.
    odd = np.zeros(height * width + 1, dtype=np.uint8)
    for columns, y in edges.crossed():
        middles = np.clip((y + 0.5) / _SCALE - 0.5, 0, height)
        np.bitwise_xor.at(odd, (columns * height + np.ceil(middles)).astype(np.int64), 1)
    inside = np.bitwise_xor.accumulate(odd[:-1]).astype(bool)
    return np.ascontiguousarray(inside.reshape(width, height).T)


class _Edges:
    """The edges of an enlarged outline, each turned so that it runs forwards along its longer side.

    Args:
        start: (K, 2) whole numbers as floats.
        end: (K, 2).
        width: Of the image, not enlarged.
    """

    def __init__(self, start: np.ndarray, end: np.ndarray, width: int) -> None:
        dx, dy = np.abs(end - start).T  # (K,) each
        self.flat = dx >= dy
        turned = np.where(self.flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])[:, None]
        first, last = np.where(turned, end, start), np.where(turned, start, end)
        (self.x, self.y), (ahead, down) = first.T, (last - first).T
        self.slope = np.where(self.flat, down, ahead) / np.maximum(np.where(self.flat, dx, dy), 1)
        # Column i is passed between 5 i + 2 and 5 i + 3.
        left, right = np.minimum(first[:, 0], last[:, 0]), np.maximum(first[:, 0], last[:, 0])
        self.column = np.maximum(np.ceil((left - 2) / _SCALE), 0)
        until = np.minimum(np.floor((right - 3) / _SCALE), width - 1)
        self.crossings = np.maximum(until - self.column + 1, 0).astype(np.int64)  # (K,)

    def crossed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Columns that edges pass, and the upper y of the two steps between which they do; a few at a time."""
        ends = np.cumsum(self.crossings)
        for begin in range(0, int(ends[-1]), _AT_ONCE):
            numbers = np.arange(begin, min(begin + _AT_ONCE, int(ends[-1])))  # (N,) of all crossings
            edge = np.searchsorted(ends, numbers, side="right")
            columns = self.column[edge] + numbers - (ends[edge] - self.crossings[edge])
            at = _SCALE * columns + 2
            yield columns, np.where(self.flat[edge], self._along_rows(edge, at), self._along_columns(edge, at))

    def _along_rows(self, edge: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Where edges that go one column a step are, at `at` or one further: the upper of the two."""
        y, slope, steps = self.y[edge], self.slope[edge], at - self.x[edge]
        return np.minimum(np.trunc(y + slope * steps + 0.5), np.trunc(y + slope * (steps + 1) + 0.5))

    def _along_columns(self, edge: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Where edges that go one row a step are, at the last step before they are on the other side of `at`."""
        x, slope = self.x[edge], self.slope[edge]
        rising = slope > 0
        with np.errstate(divide="ignore", invalid="ignore"):  # of edges straight down and of those along rows
            guess = np.nan_to_num(np.ceil((at + 0.5 - x) / slope), nan=0, posinf=0, neginf=0)

        def passed(steps: np.ndarray) -> np.ndarray:
            reached = np.trunc(x + slope * steps + 0.5)
            return np.where(rising, reached > at, reached <= at)

        # Division rounds: the first step beyond may be next to what it says.
        beyond = np.select([passed(guess - 1), passed(guess)], [guess - 1, guess], guess + 1)
        return self.y[edge] + beyond - 1
