from __future__ import annotations

import math

import pytest
import torch

from refseg.layers.positions import sine_grid


def test_follows_the_formula():
    code = sine_grid((3, 5), 8, torch.zeros(1)).view(3, 5, 8)
    for row in range(3):
        for column in range(5):
            expected = []
            for at, length in ((row, 3), (column, 5)):
                angle = (at + 1) / (length + 1e-6) * 2 * math.pi
                for i in range(2):
                    expected += [math.sin(angle / 10000 ** (2 * i / 4)), math.cos(angle / 10000 ** (2 * i / 4))]
            torch.testing.assert_close(code[row, column], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_width_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_grid((2, 2), 6, torch.zeros(1))
