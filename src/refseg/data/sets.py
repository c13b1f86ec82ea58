"""Data sets by name."""

from __future__ import annotations

from refseg.data.shapes import SETS, RefShapes


def open_data(name: str, split: str) -> RefShapes:
    """The samples of a data set's split.

    Raises:
        ValueError: The name or the split is unknown.
    """
    if name not in SETS:
        raise ValueError(f"data {name!r}: unknown; accepted are {', '.join(SETS)}")
    return RefShapes(name, split)
