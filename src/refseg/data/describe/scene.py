"""The objects of one image and what can be measured of them.

Lengths are fractions of the image's width or height, areas fractions of the image, unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refseg.masks import largest_piece

_POINTS = 700  # of an outline; more do not change a distance that has to differ by a factor
_BORDER = 0.012
_REACH = 0.015  # of the image's height: how far below an object its support is looked for


@dataclass(frozen=True, eq=False)
class Thing:
    """One annotated object, or a crowd: a region with an unknown number of objects.

    Attributes:
        key: Identifier of the annotation.
        category: Name of its category.
        mask: (H, W) bool, not empty.
        crowd: Whether it is a crowd.
    """

    key: str
    category: str
    mask: np.ndarray
    crowd: bool = False

    @cached_property
    def area(self) -> float:
        """Share of the image."""
        return float(self.mask.mean())

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        height, width = self.mask.shape
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return (
            float(columns[0] / width),
            float(rows[0] / height),
            float((columns[-1] + 1) / width),
            float((rows[-1] + 1) / height),
        )

    @cached_property
    def x(self) -> tuple[float, float]:
        """Least and greatest of what may be called its horizontal middle: its box's and its pixels'."""
        columns = self.mask.sum(axis=0)
        pixels = float((columns * (np.arange(columns.size) + 0.5)).sum() / columns.sum() / columns.size)
        middle = (self.box[0] + self.box[2]) / 2
        return min(middle, pixels), max(middle, pixels)

    @cached_property
    def y(self) -> tuple[float, float]:
        """Likewise its vertical middle."""
        rows = self.mask.sum(axis=1)
        pixels = float((rows * (np.arange(rows.size) + 0.5)).sum() / rows.sum() / rows.size)
        middle = (self.box[1] + self.box[3]) / 2
        return min(middle, pixels), max(middle, pixels)

    @property
    def width(self) -> float:
        """Of its box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Of its box."""
        return self.box[3] - self.box[1]

    @cached_property
    def cut(self) -> bool:
        """Whether it comes up to the image's border (outlines stop short of it), so that a part may not be seen."""
        left, top, right, bottom = self.box
        return min(left, top, 1 - right, 1 - bottom) < _BORDER

    @cached_property
    def outline(self) -> np.ndarray:
        """(N, 2) points on its border as (x, y) in pixels, N at most `_POINTS`."""
        inside = np.pad(self.mask, 1)
        inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        y, x = np.nonzero(self.mask & ~inner)
        points = np.stack([x, y], 1).astype(np.float64)
        if len(points) <= _POINTS:
            return points
        # Drawn, because every n-th in the order of rows may be all on one side.
        return points[np.random.default_rng(0).choice(len(points), _POINTS, replace=False)]

    @cached_property
    def whole(self) -> float:
        """Share of its pixels that are in its largest connected piece."""
        return int(largest_piece(self.mask).sum()) / int(self.mask.sum())


@dataclass(frozen=True, eq=False)
class Scene:
    """All annotated objects of one image, crowds included."""

    things: tuple[Thing, ...]

    def gap(self, one: Thing, two: Thing) -> float:
        """Distance between the outlines of two things, in diagonals of the image; 0 where they touch."""
        height, width = one.mask.shape
        if (one.mask & two.mask).any():
            return 0.0
        between = one.outline[:, None] - two.outline[None]  # (N, M, 2)
        nearest = float(np.sqrt((between**2).sum(-1)).min())
        return max(0.0, nearest - 1) / float(np.hypot(height, width))

    def resting(self, one: Thing, two: Thing) -> float:
        """Share of the columns of one thing whose lowest pixel has the other thing right below it."""
        height = one.mask.shape[0]
        columns = np.flatnonzero(one.mask.any(axis=0))
        lowest = height - 1 - one.mask[::-1, columns].argmax(axis=0)
        reach = max(2, round(_REACH * height))
        below = np.minimum(lowest[None] + np.arange(1, reach + 1)[:, None], height - 1)  # (reach, columns)
        return float(two.mask[below, columns[None]].any(axis=0).mean())

    def covered(self, thing: Thing) -> float:
        """Share of a thing's box that belongs to other things and not to itself: a hint that they hide it."""
        height, width = thing.mask.shape
        left, top, right, bottom = thing.box
        window = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
        others = np.zeros_like(thing.mask[window])
        for other in self.things:
            if other is not thing and other.box[0] < right and other.box[2] > left:
                others |= other.mask[window]
        return float((others & ~thing.mask[window]).mean())
