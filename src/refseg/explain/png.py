"""A page as a PNG."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw

from refseg.explain.shapes import Box, Page, Text, font

ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def to_picture(page: Page, scale: float) -> Image.Image:
    """The page in pixels.

    Args:
        page: What is drawn.
        scale: Pixels per unit; 3 gives 216 dots per inch.
    """
    sheet = Image.new("RGB", (round(page.width * scale), round(page.height * scale)), "white")
    draw = ImageDraw.Draw(sheet)
    for shape in page.shapes:
        if isinstance(shape, Text):
            place = (shape.x * scale, shape.y * scale)
            draw.text(place, drawable(shape.text), shape.colour, font(shape.size * scale), ANCHORS[shape.anchor])
            continue
        left, top = round(shape.x * scale), round(shape.y * scale)
        right, bottom = round((shape.x + shape.width) * scale), round((shape.y + shape.height) * scale)
        size = (max(1, right - left), max(1, bottom - top))
        if isinstance(shape, Box):
            draw.rectangle((left, top, left + size[0] - 1, top + size[1] - 1), shape.colour)
        else:
            picture = Image.fromarray(shape.pixels)
            sheet.paste(
                picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC), (left, top)
            )
    return sheet


def drawable(text: str) -> str:
    """The text with characters that Pillow's font has no shape for as codes: they would all be the same box."""
    return "".join(c if c.isascii() or _has_shape(c) else c.encode("unicode_escape").decode() for c in text)


@lru_cache(maxsize=4096)
def _has_shape(character: str) -> bool:
    known = font(40)
    return bytes(known.getmask(character)) != bytes(known.getmask("\U0010ffff"))
