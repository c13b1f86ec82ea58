"""What can be said of a mask by itself."""

from __future__ import annotations

import numpy as np


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool, the largest 8-connected piece of a mask (H, W) bool; the first from the left where several are.

    Pieces are joined from the vertical runs of neighbouring columns, of which a mask has far fewer than pixels.
    """
    padded = np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1)))  # (W, H + 2): a column's runs cannot reach the next one
    steps = np.diff(padded, axis=1)
    column, start = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    if column.size == 0:
        return np.zeros_like(mask)
    parent = list(range(column.size))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    first = np.searchsorted(column, np.arange(mask.shape[1] + 1))
    for x in range(1, mask.shape[1]):
        left, right = int(first[x - 1]), int(first[x])
        while left < first[x] and right < first[x + 1]:
            if start[left] <= end[right] and start[right] <= end[left]:  # ends are exclusive, so corners touch too
                parent[root(right)] = root(left)
            if end[left] < end[right]:
                left += 1
            else:
                right += 1
    roots = np.array([root(run) for run in range(column.size)])
    sizes = np.zeros(column.size, dtype=np.int64)
    np.add.at(sizes, roots, end - start)
    largest = roots[np.argmax(sizes[roots])]
    piece = np.zeros_like(mask)
    for run in np.flatnonzero(roots == largest):
        piece[start[run] : end[run], column[run]] = True
    return piece
