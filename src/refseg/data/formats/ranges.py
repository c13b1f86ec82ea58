"""Numbers of any range as brightness from 0 to 255.

Only 8 bits say what is white. Of everything else, white is the smallest usual limit below which all but one in a
thousand values lie (and never fewer than all but one), so that no single pixel decides how a picture looks:

    floats              1, 255 or 65535
    16 bits             255, 1023, 4095, 16383 or 65535, which are 8, 10, 12, 14 and 16 bits
    32 bits             the same, or 2**31 - 1

Whoever reads a picture is warned if white is not what its type says, or if values lie beyond it.
"""

from __future__ import annotations

import numpy as np

_LIMITS = {"f": (1.0, 255.0, 65535.0), "u": (255.0, 1023.0, 4095.0, 16383.0, 65535.0)}
_LIMITS["i"] = (*_LIMITS["u"], 2.0**31 - 1)
_RARE = 1000  # one value in as many decides nothing
_ENOUGH = 2**20  # values that are looked at


def white_of(values: np.ndarray) -> tuple[float, str]:
    """What counts as white among the values of a picture.

    Args:
        values: (H, W) floats, or integers of 16 or 32 bits.

    Returns:
        The value that is white, and what a reader should be warned of, empty if nothing.

    Raises:
        ValueError: More than one value in a thousand is negative, beyond every limit, or no number.
    """
    kind = values.dtype.kind
    some = values.reshape(-1)[:: max(1, values.size // _ENOUGH)]
    finite = some[np.isfinite(some)] if kind == "f" else some
    spare = max(1, some.size // _RARE)
    if some.size - finite.size > spare:
        raise ValueError(f"{some.size - finite.size} of {some.size} values are no numbers")
    if int((finite < 0).sum()) > spare:
        raise ValueError(f"values from {finite.min():g} to {finite.max():g}; brightness begins at 0")
    place = max(0, finite.size - 1 - spare)
    usual = float(np.partition(finite, place)[place]) if finite.size else 0.0
    white = next((limit for limit in _LIMITS[kind] if usual <= limit), None)
    if white is None:
        raise ValueError(f"values up to {usual:g}; up to {_LIMITS[kind][-1]:g} are known")
    own = {"f": 1.0, "u": 65535.0, "i": 65535.0}[kind]
    said = [] if white == own else [f"{white:g} is taken for white, as nearly all values are below it"]
    if beyond := int((~((values >= 0) & (values <= white))).sum()):
        said.append(f"{beyond} pixels lie outside 0 to {white:g}")
    return white, "; ".join(said)


def to_bytes(values: np.ndarray, white: float) -> np.ndarray:
    """The values as uint8, `white` as 255; what is no number is black."""
    scaled = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=white) * (255 / white)
    return scaled.clip(0, 255).round().astype(np.uint8)
