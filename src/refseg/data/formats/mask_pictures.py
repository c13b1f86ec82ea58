"""Pictures of masks, as a person sees them.

What is black or transparent is background, all else is the object:

- where some pixels are transparent and others are not, the opaque ones are the object, whatever their colour;
- a palette stands for its colours, and CMYK, YCbCr and other colour spaces for what they show;
- in floats, what is no number is background;
- soft edges, which resizing and lossy formats make, are cut at half of the brightest value.

A picture of more values than that is a map of labels, and what it means has to be said: `Foreground` names the values
that are the object. In a palette picture these are the palette's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refseg.data.formats.pictures import Refused, opened

ACCEPTED = "a PNG of two values with 0 for background is accepted"
CHOICE = "mask_values (--mask-values) chooses: 1,2 for these, not 0,255 for all others, >127 for what is above"
_LISTED = 8  # values in a message
_BRIGHT, _DARK = 200, 16  # the least that is white in 8 bits, and how many times darker black is
_NEARLY = 8  # by which shades of one colour may differ
_FEW = 3  # pixels on a side: soft edges have no area as large as this of one value


@dataclass(frozen=True)
class Foreground:
    """Which values of a mask picture are the object.

    Attributes:
        values: The values; ignored with `above`.
        others: All values but those are meant.
        above: What is larger is meant.
    """

    values: frozenset[float] = frozenset()
    others: bool = False
    above: float | None = None

    def of(self, values: np.ndarray) -> np.ndarray:
        """(H, W) numbers to (H, W) bool."""
        if self.above is not None:
            return values > self.above
        return np.isin(values, sorted(self.values), invert=self.others)


def parse_foreground(value: Any, where: str) -> Foreground:
    """`1,2`, `not 0,255` or `>127`; a number or a list of numbers means the first.

    Raises:
        ValueError: It is none of them; the message starts with `where`.
    """
    text = str(value) if type(value) in (int, float) else value
    if isinstance(text, list):
        text = ",".join(str(v) for v in text) if text and all(type(v) in (int, float) for v in text) else ""
    if isinstance(text, str):
        text = text.strip()
        try:
            if text.startswith(">"):
                return Foreground(above=_number(text[1:]))
            others = text.startswith("not ")
            return Foreground(frozenset(map(_number, text.removeprefix("not ").split(","))), others)
        except ValueError:
            pass
    raise ValueError(f"{where} {str(value)[:60]!r}: the values of the object as 1,2 or not 0,255 or >127 are accepted")


def _number(text: str) -> float:
    number = float(text)
    if not np.isfinite(number) or "_" in text:
        raise ValueError
    return number


@dataclass(frozen=True, eq=False)
class MaskPicture:
    """What a picture of a mask shows.

    Attributes:
        mask: (H, W) bool; None for a map of labels of which nobody said which are meant.
        found: What there is to say about it, by a name of `refseg.data.checks.findings`; empty for a plain mask.
        says: The same in words, with the values.
    """

    mask: np.ndarray | None
    found: str = ""
    says: str = ""


def read_mask(path: Path, foreground: Foreground | None = None) -> np.ndarray:
    """A picture of a mask; see the top of this module.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: The file is missing, damaged or too large, or holds more than two values and nothing says which
            are meant.
    """
    picture = look_at_mask(path, foreground)
    if picture.mask is None:
        raise ValueError(f"{path}: {picture.says}; {CHOICE}")
    return picture.mask


def mask_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header.

    Raises:
        ValueError: The file is missing or no picture.
    """
    with opened(path, str(path), ACCEPTED) as picture:
        return picture.height, picture.width


def look_at_mask(path: Path, foreground: Foreground | None = None) -> MaskPicture:
    """A picture of a mask with what there is to say about it.

    Raises:
        ValueError: The file is missing, damaged or too large.
    """
    with opened(path, str(path), ACCEPTED) as picture:
        picture.load()
        if foreground is not None:
            return MaskPicture(foreground.of(_numbers(picture, path)))
        opaque = _opacity(picture)
        if opaque is not None:
            soft = int(((opaque > 0) & (opaque < 255)).sum())
            says = f"{soft} half transparent pixels, cut at half" if soft else ""
            return MaskPicture(opaque > 127, "soft masks" if soft else "", says)
        lossy = picture.format == "JPEG" or (picture.format == "WEBP" and _is_lossy(path))
        if picture.mode == "P":
            numbers, shown = np.asarray(picture), np.asarray(picture.convert("RGB"))
            return _seen(shown, numbers, "the palette's number ", lossy)
        plain = picture if picture.mode in _NUMBERS or picture.mode.startswith("I;16") else picture.convert("RGB")
        return _seen(np.asarray(plain), None, "", lossy)


_NUMBERS = ("1", "L", "I", "F", "RGB")


def _numbers(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W) the numbers that a file stores, for whoever knows what they mean."""
    if picture.mode in ("LA", "La"):
        picture = picture.convert("L")
    values = np.asarray(picture)
    if values.ndim == 3:
        if picture.mode not in ("RGB", "RGBA") or (values[..., :3] != values[..., :1]).any():
            raise Refused(f"{path}: in colour, so that no pixel has a value; a grey or palette picture is accepted")
        values = values[..., 0]
    return values.astype(np.uint8) * 255 if values.dtype == bool else values


def _opacity(picture: Image.Image) -> np.ndarray | None:
    """(H, W) uint8, how opaque each pixel is; None where all are alike, so that the colours are what is seen."""
    if picture.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in picture.info:
        return None
    alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    return alpha if alpha.min() != alpha.max() or alpha.max() == 0 else None


def _is_lossy(path: Path) -> bool:
    with path.open("rb") as file:
        return b"VP8 " in file.read(64)


def _seen(shown: np.ndarray, numbers: np.ndarray | None, called: str, lossy: bool) -> MaskPicture:
    """(H, W) numbers or (H, W, 3) colours as a mask.

    Args:
        shown: The picture.
        numbers: (H, W) what a person would call its values, for a message, if they are not the values themselves.
        called: What such a value is called.
        lossy: Whether its format changes values a little.
    """
    colours = shown.reshape(-1, 3) if shown.ndim == 3 else None
    if colours is not None and (colours == colours[:, :1]).all():
        shown, colours = shown[..., 0], None
    light = shown.max(2).astype(np.int32) if colours is not None else np.nan_to_num(shown.astype(np.float64), nan=0.0)
    values = np.unique(light) if colours is None else np.unique(_packed(colours))
    top = float(light.max())
    if len(values) == 1 or (len(values) == 2 and light.min() <= (top / _DARK if top >= _BRIGHT else 0)):
        return MaskPicture(light > (light.min() if len(values) == 2 else 0))
    soft = light.min() == 0 and len(values) > 2 and _one_colour(shown, light, top) and not _has_areas(light, top)
    if lossy or soft:
        name, why = ("lossy masks", "a lossy format") if lossy else ("soft masks", "soft edges")
        level = 255 if lossy else top
        return MaskPicture(light * 2 > level, name, f"{why}, {len(values)} values, cut at half of {level:g}")
    listed = np.unique(numbers) if numbers is not None else values
    if colours is not None and numbers is None:
        names = [f"#{int(value):06x}" for value in listed[:_LISTED]]
    else:
        names = [f"{called}{value:g}" for value in listed[:_LISTED]]
    more = ", ..." if len(listed) > _LISTED else ""
    return MaskPicture(None, "masks of several values", f"{len(listed)} values ({', '.join(names)}{more})")


def _packed(colours: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 to (N,) one number for each colour."""
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


def _one_colour(shown: np.ndarray, light: np.ndarray, top: float) -> bool:
    """Whether all pixels are shades of one colour: two objects in two colours have more than soft edges."""
    if shown.ndim == 2:
        return True
    brightest = shown.reshape(-1, 3)[int(light.argmax())]
    return bool((np.abs(shown - brightest * (light / top)[..., None]) <= _NEARLY).all())


def _has_areas(light: np.ndarray, top: float) -> bool:
    """Whether a value between darkest and brightest fills a square, or little is brightest: a label, no soft edge."""
    between = (light > 0) & (light < top)
    if int(between.sum()) > 4 * int((light == top).sum()) or (top < _BRIGHT and top != 1):
        return True
    windows: Iterator[np.ndarray] = (
        light[dy : light.shape[0] - _FEW + 1 + dy, dx : light.shape[1] - _FEW + 1 + dx]
        for dy in range(_FEW)
        for dx in range(_FEW)
    )
    first = next(windows)
    alike = between[: first.shape[0], : first.shape[1]].copy()
    for window in windows:
        alike &= window == first
    return bool(alike.any())
