from __future__ import annotations

import numpy as np

from refseg.explain.colours import coloured, diverging, sequential


def lightness(rgb):
    """CIE L* of sRGB bytes, which is not what the colours are made with."""
    x = rgb / 255.0
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_lightness_alone_tells_the_order():
    found = lightness(sequential())
    steps = np.diff(found[::15])
    assert found[-1] - found[0] > 70 and (steps > 0).all() and steps.max() < 2 * steps.min()
    found = lightness(diverging())
    assert (np.diff(found[:128:10]) > 0).all() and (np.diff(found[128::10]) < 0).all()
    np.testing.assert_allclose(found[:128], found[:127:-1], atol=6)  # both ends weigh alike
    assert (diverging()[127:129] > 240).all()


def test_colour_blind_people_tell_both_ends_of_the_signed_colours_apart():
    """Blue and orange differ in blue against yellow, which most people with a colour deficiency see."""
    low, high = diverging()[[0, -1]].astype(int)
    assert low[2] - low[0] > 100 and high[0] - high[2] > 100


def test_numbers_find_their_colours():
    values = np.array([[-5.0, 0.0], [0.5, 9.0]])
    found = coloured(values, 0, 1, signed=False)
    assert found.shape == (2, 2, 3) and found.dtype == np.uint8
    table = sequential()
    assert np.array_equal(found, [[table[0], table[0]], [table[128], table[255]]])
    assert np.array_equal(coloured(np.array([0.0]), 0, 0, signed=False)[0], table[0])
    assert (coloured(np.array([0.0]), -2, 2, signed=True)[0] > 240).all()
