"""Rectangles, as outlines that COCO writes and as masks, for images of 12 x 16 pixels."""

from __future__ import annotations

import numpy as np

SIZE = (12, 16)


def box(x, y, width, height):
    """The outline of a rectangle as COCO writes it."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def filled(x, y, width, height, size=SIZE):
    """Its (H, W) bool mask."""
    mask = np.zeros(size, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask
