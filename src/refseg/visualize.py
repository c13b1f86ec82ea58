"""Predictions as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HIGHLIGHT = np.array([150, 255, 0], dtype=np.float32)  # lime: rare in photos, and no colour of RefShapes
DIMMED = 0.72  # of the brightness of what is not in the mask
ROWS = 256  # painted at a time: as floats a picture takes four times its memory
TINT = 0.2  # share of the colour inside the mask


def overlay(image: np.ndarray, mask: np.ndarray, colour: np.ndarray = HIGHLIGHT) -> Image.Image:
    """The image with the mask outlined and tinted, and everything else in its own colours, slightly dimmed.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        colour: (3,) of the tint, 0 to 255.

    Returns:
        A picture of the image's own size.
    """
    edge = outline(mask, max(1, round(min(mask.shape) / 160)))
    picture = np.empty_like(image)
    for first in range(0, len(image), ROWS):
        rows = slice(first, first + ROWS)
        some, inside = image[rows].astype(np.float32), mask[rows]
        some[~inside] *= DIMMED
        some[inside] = (1 - TINT) * some[inside] + TINT * colour
        some[edge[rows]] = colour
        picture[rows] = some.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(picture)


def outline(mask: np.ndarray, thickness: int) -> np.ndarray:
    """(H, W) bool pixels around the mask, up to `thickness` away from it."""
    grown = mask.copy()
    for _ in range(thickness):
        step = grown.copy()
        step[1:] |= grown[:-1]
        step[:-1] |= grown[1:]
        step[:, 1:] |= grown[:, :-1]
        step[:, :-1] |= grown[:, 1:]
        grown = step
    return grown & ~mask


def captioned(picture: Image.Image, text: str, size: int = 14) -> Image.Image:
    """The picture with a line of text below; a text that is too wide is broken into lines."""
    font = ImageFont.load_default(size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > picture.width - 8:
            lines.append(word)
        else:
            lines[-1] = longer
    height = round(1.4 * size)
    sheet = Image.new("RGB", (picture.width, picture.height + height * len(lines) + 6), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((4, picture.height + 3 + i * height), line, fill="black", font=font)
    return sheet


def contact_sheet(pictures: Sequence[Image.Image], columns: int, gap: int = 8) -> Image.Image:
    """Pictures side by side in rows, each row as high as its highest picture."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    cell = max(picture.width for picture in pictures) + gap
    heights = [max(picture.height for picture in row) + gap for row in rows]
    sheet = Image.new("RGB", (cell * columns + gap, sum(heights) + gap), "white")
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for i, picture in enumerate(row):
            sheet.paste(picture, (gap + i * cell, top))
        top += height
    return sheet
