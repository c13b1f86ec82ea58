"""Drawn scenes for whoever has no image at hand."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image

from refseg.data.shapes import RefShapes

SCENES = {"scene-1": 3, "scene-2": 11, "scene-3": 27, "scene-4": 48, "scene-5": 64, "scene-6": 102}
EXPRESSIONS = 3  # of each
SCALE = 4  # times the size of the benchmark


@cache
def example_expressions(name: str) -> tuple[str, ...]:
    """What can be asked about a scene."""
    return tuple(expression.text for expression in RefShapes().expressions(SCENES[name])[:EXPRESSIONS])


@cache
def example_picture(name: str) -> bytes:
    """A scene as PNG."""
    content, scenes, number = io.BytesIO(), RefShapes(), SCENES[name]
    width, height = scenes.scene(number).size
    Image.fromarray(scenes.draw(number, SCALE * width, SCALE * height).image).save(content, format="PNG")
    return content.getvalue()
