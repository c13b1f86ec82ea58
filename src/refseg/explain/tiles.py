"""Small pictures of maps in the shape of the image, with the outline of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from refseg.explain.colours import coloured
from refseg.explain.shapes import Picture
from refseg.visualize import outline, overlay

if TYPE_CHECKING:
    from refseg.explain.explanation import Explanation

DENSITY = 3  # pixels of an embedded picture per unit
THINNEST = 4.0  # sides of a picture, in units, however long the image is


class Frame:
    """The image of an explanation, at any size that is drawn.

    Args:
        explanation: Whose image and answer are drawn.
    """

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self.mask = explanation.prediction.mask

    def fitting(self, width: float, height: float) -> tuple[float, float]:
        """(width, height) of the largest picture of the image's shape within the given ones."""
        rows, columns = self.mask.shape
        scale = min(width / columns, height / rows)
        return max(THINNEST, columns * scale), max(THINNEST, rows * scale)

    def answer(self, x: float, y: float, width: float, height: float) -> Picture:
        """The image with the mask tinted and outlined."""
        size = _pixels(width, height)
        pixels = self.explanation.prediction.image
        assert pixels is not None
        shown = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=3))
        return Picture(x, y, width, height, np.asarray(overlay(shown, self._mask_at(size))))

    def map(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        values: np.ndarray,
        limits: tuple[float, float],
        signed: bool,
        cells: bool,
    ) -> Picture:
        """A map (h, w) of the network input in colours; `cells` shows it as it is, without values in between."""
        size = _pixels(width, height)
        how: Literal["nearest", "bilinear"] = "nearest" if cells else "bilinear"
        pixels = coloured(self.explanation.on_image(values, (size[1], size[0]), how), *limits, signed)
        mask = self._mask_at(size)
        line = max(1, DENSITY // 2)
        pixels[outline(mask, line)] = 255
        pixels[outline(~mask, line)] = 0  # a dark and a light line, so that one of them shows on every colour
        return Picture(x, y, width, height, pixels)

    def _mask_at(self, size: tuple[int, int]) -> np.ndarray:
        """The mask at (width, height) pixels; what covers half of a pixel, and something of every mask that has any."""
        shares = Image.fromarray(self.mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        values = np.asarray(shares)
        found = values > 127
        return found if found.any() or not values.any() else values == values.max()


def _pixels(width: float, height: float) -> tuple[int, int]:
    return max(1, round(width * DENSITY)), max(1, round(height * DENSITY))
