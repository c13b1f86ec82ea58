"""A page as SVG: pictures as embedded PNG, text as text."""

from __future__ import annotations

import base64
import io
from xml.sax.saxutils import escape

from PIL import Image

from refseg.explain.shapes import Box, Page, Shape, Text

FONT = "Helvetica, Arial, sans-serif"


def to_svg(page: Page, title: str) -> str:
    """One SVG document, which loads nothing from elsewhere.

    Args:
        page: What is drawn.
        title: What it is called for those who do not see it.
    """
    width, height = _number(page.width), _number(page.height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
        f'viewBox="0 0 {width} {height}" font-family="{FONT}">'
    )
    white = Box(0, 0, page.width, page.height, "#ffffff")
    lines = [head, f"<title>{escape(title)}</title>", *(_drawn(shape) for shape in (white, *page.shapes)), "</svg>"]
    return "\n".join(lines) + "\n"


def _drawn(shape: Shape) -> str:
    place = f'x="{_number(shape.x)}" y="{_number(shape.y)}"'
    if isinstance(shape, Text):
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        size = _number(shape.size)
        return f'<text {place} font-size="{size}" fill="{shape.colour}"{anchor}>{escape(shape.text)}</text>'
    place += f' width="{_number(shape.width)}" height="{_number(shape.height)}"'
    if isinstance(shape, Box):
        return f'<rect {place} fill="{shape.colour}"/>'
    content = io.BytesIO()
    Image.fromarray(shape.pixels).save(content, format="PNG")
    code = base64.b64encode(content.getvalue()).decode("ascii")
    return f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{code}"/>'


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
