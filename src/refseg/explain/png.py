"""A page as a PNG."""

from __future__ import annotations

from PIL import Image, ImageDraw

from refseg.explain.shapes import Box, Page, Text, drawable, font

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
