"""Bilinear samples of several levels added up, as plainly as can be."""

from __future__ import annotations

import math

import torch


def naive(value, sizes, locations, weights):
    """One query, head, level, point and corner at a time."""
    b, _, n, d = value.shape
    q, k = locations.shape[1], locations.shape[4]
    out = torch.zeros(b, q, n, d)
    for i in range(b):
        for j in range(q):
            for head in range(n):
                start = 0
                for level, (h, w) in enumerate(sizes):
                    for point in range(k):
                        x = float(locations[i, j, head, level, point, 0]) * w - 0.5
                        y = float(locations[i, j, head, level, point, 1]) * h - 0.5
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < h and 0 <= column < w:
                                    near = (1 - abs(y - row)) * (1 - abs(x - column))
                                    pixel = value[i, start + row * w + column, head]
                                    out[i, j, head] += weights[i, j, head, level, point] * near * pixel
                    start += h * w
    return out.flatten(2)
