"""Masks as COCO run-length code.

A code lists the lengths of alternating runs of background and foreground, column by column, starting with background.
The compressed form packs them into text: five bits a letter, and from the fourth run on the difference to the run two
before. Codes come from files, so they are unpacked here with every length checked; the C library writes past its
memory when the runs are longer than the image.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image

_LETTERS = re.compile("[0-o]*")  # 48 + six bits
_MOST_LETTERS = 7  # 35 bits; a longer number is damage
ACCEPTED = 'a COCO run-length code {"size": [height, width], "counts": text or list of runs} is accepted'


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool to `{"size": [H, W], "counts": str}`."""
    from pycocotools import mask as coco  # here: reading and training must not need it

    code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_rle(code: dict[str, Any]) -> np.ndarray:
    """The inverse: a COCO code, compressed or not, to (H, W) bool.

    Raises:
        ValueError: The code is not of that form, or its runs do not fill the image exactly.
    """
    height, width, counts = runs_of(code)
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def runs_of(code: dict[str, Any]) -> tuple[int, int, np.ndarray]:
    """Height, width and the lengths of the runs, int64, of a code that has been checked.

    Raises:
        ValueError: See `decode_rle`.
    """
    try:
        (height, width), counts = code["size"], code["counts"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"mask {str(code)[:80]}: not a COCO run-length code with size and counts") from error
    sides = (height, width)
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ValueError(f"mask of size {str(code['size'])[:60]}; {ACCEPTED}")
    if height * width > (Image.MAX_IMAGE_PIXELS or 2**27):
        raise ValueError(f"mask of {width}x{height} pixels: more than an image may have; {ACCEPTED}")
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    runs = _unpack(counts) if isinstance(counts, str) else _checked(counts)
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise ValueError(f"mask {str(counts)[:40]!r}: its runs do not add up to {width}x{height} pixels; {ACCEPTED}")
    return height, width, runs


def _checked(counts: Any) -> np.ndarray:
    if isinstance(counts, list) and all(type(run) is int and 0 <= run < 2**40 for run in counts):
        return np.array(counts, dtype=np.int64)
    raise ValueError(f"mask with counts {str(counts)[:40]}; {ACCEPTED}")


def _unpack(text: str) -> np.ndarray:
    """Compressed counts to the lengths of the runs, not yet checked for sign or sum."""
    if not _LETTERS.fullmatch(text):
        raise ValueError(f"mask with counts {text[:40]!r}: letters that no code has; {ACCEPTED}")
    letters = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(letters < 32)  # of each number; the sixth bit says that more letters follow
    if letters.size and (last.size == 0 or last[-1] != letters.size - 1):
        raise ValueError(f"mask with counts {text[:40]!r}: cut off; {ACCEPTED}")
    if not letters.size:
        return letters
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    if int(length.max()) > _MOST_LETTERS:
        raise ValueError(f"mask with counts {text[:40]!r}: a run that is too long; {ACCEPTED}")
    place = np.arange(letters.size) - np.repeat(first, length)
    values = np.add.reduceat((letters & 31) << (5 * place), first)
    values -= (letters[last] >> 4 & 1) << (5 * length)  # the fifth bit of the last letter is the sign
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
