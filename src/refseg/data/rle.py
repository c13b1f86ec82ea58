"""Masks as COCO run-length code."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool to `{"size": [H, W], "counts": str}`."""
    code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_rle(code: dict[str, Any]) -> np.ndarray:
    """The inverse: a compressed COCO code to (H, W) bool.

    Raises:
        ValueError: The code is not of that form.
    """
    try:
        return coco.decode({"size": code["size"], "counts": code["counts"].encode("ascii")}).astype(bool)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"mask {str(code)[:80]}: not a COCO run-length code with size and counts") from error
