"""Colour maps for numbers, made in OKLab (Ottosson 2020), where equal distances look equal.

Lightness alone tells the order of the values, so that they can be read by colour-blind people and in grey print.
"""

from __future__ import annotations

from functools import cache

import numpy as np

STEPS = 256
_TO_CUBES = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)  # OKLab to the cube roots of the responses of the three cones
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)  # their cubes to linear sRGB


def to_linear_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """OKLab in cylinder coordinates, hue in degrees, all (N,), to linear sRGB (N, 3), beyond [0, 1] out of gamut."""
    angle = np.deg2rad(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], 1)
    return (lab @ _TO_CUBES.T) ** 3 @ _TO_RGB.T


def _to_bytes(linear: np.ndarray) -> np.ndarray:
    """(N, 3) linear sRGB to (N, 3) uint8 with sRGB's gamma."""
    x = linear.clip(0, 1)
    encoded = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _table(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """(N, 3) uint8; where a colour is beyond sRGB, its chroma is lowered until it is not."""
    low, high = np.zeros_like(chroma), chroma.copy()
    for _ in range(20):
        middle = (low + high) / 2
        rgb = to_linear_rgb(lightness, middle, hue)
        inside = ((rgb >= 0) & (rgb <= 1)).all(1)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return _to_bytes(to_linear_rgb(lightness, low, hue))


@cache
def sequential() -> np.ndarray:
    """(256, 3) uint8 from dark blue over teal to light yellow, in equal steps of lightness."""
    t = np.linspace(0, 1, STEPS)
    return _table(0.24 + 0.69 * t, 0.075 + 0.095 * t, 290 - 182 * t)


@cache
def diverging() -> np.ndarray:
    """(256, 3) uint8 from blue over white to orange; both halves darken alike."""
    t = np.linspace(-1, 1, STEPS)
    away = np.abs(t)
    return _table(0.98 - 0.5 * away, 0.17 * away, np.where(t < 0, 255.0, 50.0))


def coloured(values: np.ndarray, low: float, high: float, signed: bool) -> np.ndarray:
    """Numbers as colours.

    Args:
        values: (h, w) or of any other shape, finite.
        low: What has the first colour, as everything below has.
        high: What has the last colour, as everything above has.
        signed: Whether the colours diverge from the middle.

    Returns:
        uint8 of the same shape with a last axis of 3.
    """
    span = high - low if high > low else 1.0
    places = ((values.astype(np.float64) - low) / span * (STEPS - 1)).round().clip(0, STEPS - 1).astype(int)
    return (diverging() if signed else sequential())[places]
