"""Reading a user's image, whatever it is, as (H, W, 3) uint8 in RGB and upright."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from refseg.data.formats.pictures import ACCEPTED, Refused, opened
from refseg.data.formats.ranges import to_bytes, white_of

MIN_SIDE, MAX_ASPECT = 8, 100
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_ROWS = 256  # converted at a time, so that a large picture is there once and not several times

Size = tuple[int, int]


def read_image(
    image: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray, upright: bool = True
) -> np.ndarray:
    """Reads an image.

    EXIF rotation is applied, transparency laid over white; greyscale, palette, CMYK, 16-bit and float images are
    converted, with a warning where their range had to be guessed (`refseg.data.formats.ranges`).

    Args:
        image: A path, the bytes of a file, a file opened for reading bytes, a PIL image, or an array (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4) of uint8.
        upright: Turn it as its EXIF orientation says; else the pixels are as they are stored.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: The file is missing, not an image, truncated, too large to be safe, or of a size that cannot be
            segmented (a side below 8 pixels, or one side over 100 times the other).
    """
    if isinstance(image, bytearray | memoryview):
        image = bytes(image)
    if isinstance(image, os.PathLike):
        image = Path(os.fspath(image))
    name = str(image) if isinstance(image, str | Path) else "image"
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if isinstance(image, Image.Image):
        try:
            result = _to_rgb(ImageOps.exif_transpose(image) if upright else image, name)
        except (Refused, Warning):
            raise
        except Exception as error:  # it may be the picture of a damaged file, not yet read
            raise ValueError(f"{name}: damaged, truncated or unreadable image ({error}); {ACCEPTED}") from error
    elif isinstance(image, str | Path | bytes) or hasattr(image, "read"):
        with opened(image, name) as picture:
            if upright:
                ImageOps.exif_transpose(picture, in_place=True)
            result = _to_rgb(picture, name)
    else:
        given = "None" if image is None else f"of type {type(image).__name__}"
        raise ValueError(f"image {given}: a path, bytes, an open file, a PIL image or an array is accepted")
    h, w = result.shape[:2]
    if min(h, w) < MIN_SIDE or max(h, w) > MAX_ASPECT * min(h, w):
        raise ValueError(
            f"{name}: {w}x{h} pixels; sides of at least {MIN_SIDE} pixels and at most {MAX_ASPECT}:1 are accepted"
        )
    return result


LYING = 5  # from this EXIF orientation on, a photo is shown with its sides exchanged


def stored_size(file: Path) -> tuple[Size, int]:
    """(H, W) of an image's stored pixels and its EXIF orientation (1 is upright), from its header alone.

    Raises:
        ValueError: It is missing or no image.
    """
    with opened(file, str(file)) as picture:
        return (picture.height, picture.width), orientation_of(picture)


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1, upright, where it has none."""
    if picture.format == "PNG" and not {"exif", "Raw profile type exif"} & set(picture.info):
        return 1  # asking would read all pixels
    value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _from_array(array: np.ndarray) -> Image.Image:
    what = f"array of shape {array.shape} and type {array.dtype}"
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ValueError(f"{what}: uint8 of shape (H, W), (H, W, 3) in RGB or (H, W, 4) is accepted")
    if array.size == 0:
        raise ValueError(f"{what}: empty; (H, W, 3) uint8 in RGB is accepted")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _to_rgb(picture: Image.Image, name: str) -> np.ndarray:
    picture.load()
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _grey(np.asarray(picture), name)
    result = np.empty((picture.height, picture.width, 3), np.uint8)
    for rows in _strips(picture.height):
        strip = picture.crop((0, rows.start, picture.width, rows.stop))
        if strip.mode in _TRANSPARENT or "transparency" in picture.info:
            rgba = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        result[rows] = np.asarray(strip.convert("RGB"))
    return result


def _grey(values: np.ndarray, name: str) -> np.ndarray:
    try:
        white, warning = white_of(values)
    except ValueError as error:
        accepted = "an image of 8 bits, or with 0 for black and 1, 255 or 65535 for white, is accepted"
        raise Refused(f"{name}: {error}; {accepted}") from error
    if warning:
        warnings.warn(f"{name}: {warning}", stacklevel=4)
    result = np.empty((*values.shape, 3), np.uint8)
    for rows in _strips(len(values)):
        result[rows] = to_bytes(values[rows], white)[..., None]
    return result


def _strips(height: int) -> Iterator[slice]:
    for first in range(0, height, _ROWS):
        yield slice(first, min(height, first + _ROWS))
