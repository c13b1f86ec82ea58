"""The eight shapes as integer depth functions.

Every shape lives in local coordinates in which its area is ONE * ONE, so all shapes of one size cover the same area.
`depth(shape, u, v)` says how deep a point lies inside: negative is outside, 0 the border, and small values are close to
the distance from the border in local units. One depth map therefore gives the mask, the thin edge and the thick rim.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ONE = 4096

# Cosine and sine times ONE for the rotations -12 to 12 degrees in steps of 3. Larger rotations would turn a square
# into a diamond.
ROTATIONS = (
    (4006, -852),
    (4046, -641),
    (4074, -428),
    (4090, -214),
    (4096, 0),
    (4090, 214),
    (4074, 428),
    (4046, 641),
    (4006, 852),
)


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (2311 * 2311 - (u * u + v * v)) // 4622


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 2048 - np.maximum(np.abs(u), np.abs(v))


def _diamond(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # Half diagonals 2508 and 3344: taller than wide, which a turned square never is.
    return (2508 * 3344 - 3344 * np.abs(u) - 2508 * np.abs(v)) // 4180


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # Equilateral, pointing up, about its centroid; 887 / 1024 is sin 60.
    return np.minimum(1797 - v, 1797 + (512 * v - 887 * np.abs(u)) // 1024)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # A pentagram is the set of points that lie beyond at most one of its five lines: the second smallest distance.
    w = np.abs(u)
    depths = (
        1195 + v,
        1195 - (3896 * w - 1266 * v) // ONE,
        1195 + (3896 * w + 1266 * v) // ONE,
        1195 - (2408 * w + 3314 * v) // ONE,
        1195 + (2408 * w - 3314 * v) // ONE,
    )
    first = np.minimum(depths[0], depths[1])
    second = np.maximum(depths[0], depths[1])
    for depth_ in depths[2:]:
        second = np.minimum(second, np.maximum(first, depth_))
        first = np.minimum(first, depth_)
    return second


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.minimum(2610 - np.maximum(u, v), 992 - np.minimum(u, v))


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # A square on its corner (half side 1533) and a disc on each of its upper sides; 2896 / 4096 is sqrt(1 / 2).
    w = np.abs(u)  # the right half stands for both
    v = v - 225
    p = (2896 * (w + v)) >> 12  # along the lower right, -1533 to 1533 in the square
    q = (2896 * (v - w)) >> 12  # along the lower left
    disc = (1533 * 1533 - (p * p + (q + 1533) * (q + 1533))) // 3066
    square = np.minimum(np.minimum(1533 - p, p + q + 3066), 1533)  # distance from the lower side and from the notch
    square -= square * square // 3066  # the disc's depth grows like this too, so that the rim has no step
    square[q < -1533] = -ONE
    return np.maximum(disc, square)


def _moon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # A disc (radius 3175) without another disc (radius 2381) that lies to its right.
    u = u - 499
    outer = (3175 * 3175 - (u * u + v * v)) // 6350
    u = u - 1587
    return np.minimum(outer, (u * u + v * v - 2381 * 2381) // 4762)


_DEPTHS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
}

# Half width and half height of a box around the unrotated shape.
_BOXES = {
    "circle": (2311, 2311),
    "square": (2048, 2048),
    "triangle": (3112, 3594),
    "diamond": (2508, 3344),
    "star": (3680, 3866),
    "cross": (2610, 2610),
    "heart": (2640, 2640),
    "moon": (2680, 3175),
}

# Thickness of the rim of an outlined shape; thin shapes need a thin one to leave some inside.
RIMS = {
    "circle": 680,
    "square": 760,
    "triangle": 620,
    "diamond": 700,
    "star": 470,
    "cross": 440,
    "heart": 500,
    "moon": 520,
}


def depth(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How deep points lie inside a shape.

    Args:
        shape: One of the eight names.
        u: (h, w) int32 local coordinates to the right.
        v: (h, w) int32 local coordinates downwards.

    Returns:
        (h, w) int32; at least 0 inside, border included, and negative outside.
    """
    return _DEPTHS[shape](u, v)


def extent(shape: str, side: int, turn: int) -> tuple[int, int]:
    """Half width and half height, in the unit of `side`, of an upright box that contains the rotated shape."""
    width, height = _BOXES[shape]
    if shape == "circle":
        turn = 4
    cos, sin = ROTATIONS[turn]
    sin = abs(sin)
    half = (width * cos + height * sin) // ONE, (width * sin + height * cos) // ONE
    return half[0] * side // ONE + 1, half[1] * side // ONE + 1
