"""Reading a user's image, whatever it is, as (H, W, 3) uint8 in RGB and upright."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MIN_SIDE, MAX_ASPECT = 8, 100
ACCEPTED = "a JPEG, PNG, WebP, BMP, GIF or TIFF file is accepted"


def read_image(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Reads an image.

    EXIF rotation is applied, transparency laid over white, greyscale, palette, CMYK and 16-bit images converted.

    Args:
        image: A path, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: The file is missing, not an image, truncated, too large to be safe, or of a size that cannot be
            segmented (a side below 8 pixels, or one side over 100 times the other).
    """
    if isinstance(image, np.ndarray):
        name, result = "array", _to_rgb(_from_array(image))
    elif isinstance(image, Image.Image):
        name, result = "image", _to_rgb(image)
    else:
        name, result = str(image), _read_file(Path(image))
    h, w = result.shape[:2]
    if min(h, w) < MIN_SIDE or max(h, w) > MAX_ASPECT * min(h, w):
        raise ValueError(
            f"{name}: {w}x{h} pixels; sides of at least {MIN_SIDE} pixels and at most {MAX_ASPECT}:1 are accepted"
        )
    return result


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ValueError(f"array of shape {array.shape} and type {array.dtype}: (H, W, 3) uint8 in RGB is accepted")
    if array.size == 0:
        raise ValueError(f"array of shape {array.shape}: empty; (H, W, 3) uint8 in RGB is accepted")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _read_file(path: Path) -> np.ndarray:
    if not path.exists():
        raise ValueError(f"{path}: no such file; {ACCEPTED}")
    if path.is_dir():
        raise ValueError(f"{path}: a folder; {ACCEPTED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                return _to_rgb(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise ValueError(f"{path}: too many pixels; at most {limit} are accepted") from error
    except PermissionError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {ACCEPTED}") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path}: no image; {ACCEPTED}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: damaged or truncated image ({error}); {ACCEPTED}") from error


def _to_rgb(picture: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":  # 16-bit and wider: scaled to the range in use
        values = np.asarray(upright, dtype=np.float64)
        top = 65535.0 if upright.mode.startswith("I") and values.max(initial=0) > 255 else 255.0
        upright = Image.fromarray(np.clip(values * (255.0 / top), 0, 255).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"))
