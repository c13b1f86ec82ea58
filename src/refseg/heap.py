"""What glibc does with memory that is freed; other C libraries are left alone."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers of the two settings
_LARGE = 2**30


def keep_memory() -> None:
    """Lets a process that makes the same large tensors again and again keep what it frees.

    glibc gives blocks of some MiB back at once, so that every step of a training on a CPU would ask the system for all
    of them again, and wait until they are zeroed: 4 to 7 % of the step.
    """
    set_option = _function("mallopt")
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE)
        set_option(_TRIM_THRESHOLD, _LARGE)


def give_memory_back() -> None:
    """Returns freed memory to the system.

    The maps of every batch have other sizes, as it has another number of expressions of other lengths. They leave holes
    that glibc keeps, so that a long split would take more and more although nothing is held.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):  # another C library
        return None
