from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refseg.masks import largest_piece


def by_flooding(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The pieces of a mask, found pixel by pixel."""
    left, pieces = {tuple(map(int, at)) for at in np.argwhere(mask)}, []
    while left:
        edge, piece = [left.pop()], set()
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        pieces.append(piece)
    return pieces


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_largest_piece_is_one_of_the_largest(mask):
    found, pieces = largest_piece(mask), by_flooding(mask)
    assert found.shape == mask.shape and found.dtype == bool
    if not pieces:
        assert not found.any()
        return
    own = {tuple(map(int, at)) for at in np.argwhere(found)}
    assert own in pieces and len(own) == max(map(len, pieces))


def test_corners_connect_and_specks_go():
    mask = np.zeros((5, 6), dtype=bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True
    mask[4, 4:] = True
    assert np.argwhere(largest_piece(mask)).tolist() == [[0, 0], [1, 1], [2, 2]]
