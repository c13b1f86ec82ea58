from __future__ import annotations

import resource

import pytest
import torch

from refseg import heap


def faults(steps: int) -> int:
    """How often the system is asked for a page while blocks of 8 MiB come and go."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.ones(2**21).mul(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(heap._function("mallopt") is None, reason="needs glibc")
def test_large_blocks_are_kept_and_given_back_on_request():
    heap.keep_memory()
    faults(2)
    assert faults(16) < 2**14  # the two blocks of a step have 4,096 pages
    torch.ones(2**24)
    heap.give_memory_back()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap, "_function", lambda name: None)
    heap.keep_memory()
    heap.give_memory_back()
