"""The random stream of RefShapes: integers only, the same on every platform and in every version of Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


def fingerprint(*parts: str | int) -> int:
    """64-bit FNV-1a hash of the parts, written out as text with a separator."""
    value = 0xCBF29CE484222325
    for byte in "\x1f".join(str(part) for part in parts).encode():
        value = ((value ^ byte) * 0x100000001B3) & _MASK
    return value


class Stream:
    """SplitMix64 (Steele, Lea and Flood, 2014) seeded by a fingerprint.

    Args:
        parts: What the stream belongs to, for example set, split, index and purpose.
    """

    def __init__(self, *parts: str | int) -> None:
        self._state = fingerprint(*parts)

    def bits(self) -> int:
        """The next 64 bits."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return ((self.bits() >> 32) * n) >> 32

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + (((self.bits() >> 32) * (high - low + 1)) >> 32)

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 cases."""
        return ((self.bits() >> 32) * 100) >> 32 < percent

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[((self.bits() >> 32) * len(items)) >> 32]

    def weighted(self, table: Sequence[tuple[T, int]]) -> T:
        """One of the items of a table of (item, weight); weights are whole numbers."""
        rest = self.below(sum(weight for _, weight in table))
        for item, weight in table:
            rest -= weight
            if rest < 0:
                return item
        raise AssertionError("weights must be positive")

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A new list with the items in random order (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
