"""Reading a user's image, whatever it is, as (H, W, 3) uint8 in RGB and upright."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

MIN_SIDE, MAX_ASPECT = 8, 100
ACCEPTED = "a JPEG, PNG, WebP, BMP, GIF or TIFF file is accepted"


def read_image(image: str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray) -> np.ndarray:
    """Reads an image.

    EXIF rotation is applied, transparency laid over white, greyscale, palette, CMYK and 16-bit images converted.

    Args:
        image: A path, the bytes of a file, a file opened for reading bytes, a PIL image, or an array (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4) of uint8.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: The file is missing, not an image, truncated, too large to be safe, or of a size that cannot be
            segmented (a side below 8 pixels, or one side over 100 times the other).
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if isinstance(image, bytes | bytearray | memoryview):
        image = io.BytesIO(image)
    if isinstance(image, os.PathLike):
        image = Path(os.fspath(image))
    if not isinstance(image, str | Path | Image.Image) and not hasattr(image, "read"):
        given = "None" if image is None else f"of type {type(image).__name__}"
        raise ValueError(f"image {given}: a path, bytes, an open file, a PIL image or an array "
                         "is accepted")  # fmt: skip
    name = str(image) if isinstance(image, str | Path) else "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            result = _pixels(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise ValueError(f"{name}: too many pixels; at most {limit} are accepted") from error
    except FileNotFoundError as error:
        raise ValueError(f"{name}: no such file; {ACCEPTED}") from error
    except IsADirectoryError as error:
        raise ValueError(f"{name}: a folder; {ACCEPTED}") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{name}: no image; {ACCEPTED}") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{name}: damaged, truncated or unreadable image ({reason}); {ACCEPTED}") from error
    h, w = result.shape[:2]
    if min(h, w) < MIN_SIDE or max(h, w) > MAX_ASPECT * min(h, w):
        raise ValueError(
            f"{name}: {w}x{h} pixels; sides of at least {MIN_SIDE} pixels and at most {MAX_ASPECT}:1 are accepted"
        )
    return result


def _pixels(image: str | Path | BinaryIO | Image.Image) -> np.ndarray:
    if isinstance(image, Image.Image):
        return _to_rgb(image)
    with Image.open(Path(image) if isinstance(image, str) else image) as picture:
        return _to_rgb(picture)


def _from_array(array: np.ndarray) -> Image.Image:
    what = f"array of shape {array.shape} and type {array.dtype}"
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ValueError(f"{what}: uint8 of shape (H, W), (H, W, 3) in RGB or (H, W, 4) is accepted")
    if array.size == 0:
        raise ValueError(f"{what}: empty; (H, W, 3) uint8 in RGB is accepted")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright, dtype=np.float64) / 257).round().astype(np.uint8))
    elif upright.mode in ("I", "F"):  # no range is defined: floats up to 1, 8-bit or 16-bit numbers
        values = np.asarray(upright, dtype=np.float64)
        top = float(values.max(initial=0))
        scale = 255 if upright.mode == "F" and top <= 1 else 1 if top <= 255 else 1 / 257
        upright = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"))
