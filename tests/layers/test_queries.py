from __future__ import annotations

import math

import pytest
import torch

from refseg.layers.queries import QueryGeneration, attend_words, fit_grid


def by_hand(module, maps, words, mask, scale):
    """EAVL eq. 9-10 one expression, one query and one word at a time, padded words left out."""
    queries, weights = [], []
    for t in range(maps.shape[0]):
        real = [i for i in range(words.shape[1]) if mask[t, i]]
        keys = [(module.word_key.weight @ words[t, i]).clamp(min=0) for i in real]
        values = [(module.word_value.weight @ words[t, i]).clamp(min=0) for i in real]
        for n in range(maps.shape[1]):
            seen = (module.map_key.weight @ maps[t, n].flatten()).clamp(min=0)
            scores = [math.exp(float(seen @ key) * scale) for key in keys]
            share = [score / sum(scores) for score in scores]
            queries.append(sum(a * value for a, value in zip(share, values, strict=True)))
            weights.append(dict(zip(real, share, strict=True)))
    return queries, weights


@pytest.mark.parametrize("scale", [False, True])
@torch.no_grad()
def test_queries_by_hand(scale):
    module = QueryGeneration((2, 3), word_dim=5, dim=4, scale=scale)
    maps, words = torch.randn(2, 3, 2, 3), torch.randn(2, 4, 5)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    queries, attention = module(maps, words, mask)
    expected, weights = by_hand(module, maps, words, mask, 0.5 if scale else 1.0)
    torch.testing.assert_close(queries.flatten(0, 1), torch.stack(expected))
    for row, share in zip(attention.flatten(0, 1), weights, strict=True):
        assert row.tolist() == pytest.approx([share.get(i, 0.0) for i in range(4)], abs=1e-6)
    assert not any("bias" in name for name, _ in module.named_parameters())


def test_padding_changes_nothing_even_where_real_words_score_zero():
    module = QueryGeneration((2, 2), 3, 4, scale=False)
    torch.nn.init.zeros_(module.map_key.weight)  # all scores are 0: masked words must still get nothing
    maps, words, mask = torch.randn(1, 2, 2, 2), torch.randn(1, 4, 3), torch.tensor([[True, True, False, False]])
    queries, attention = module(maps, words, mask)
    assert attention[0, 0].tolist() == [0.5, 0.5, 0.0, 0.0]
    rubbish = torch.where(mask[..., None], words, 1e3)
    assert torch.equal(module(maps, rubbish, mask)[0], queries)


@pytest.mark.parametrize("queries", [1, 2, 3, 24, 32])
def test_any_number_of_queries_runs(queries):
    module = QueryGeneration((2, 2), 3, 4, scale=False)
    assert module(torch.randn(2, queries, 2, 2), torch.randn(2, 5, 3), torch.ones(2, 5).bool())[0].shape == (
        2, queries, 4)  # fmt: skip


def test_other_grids_are_resized_and_the_own_one_is_left_alone():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    assert fit_grid(maps, (2, 2)) is maps
    # Bilinear without aligned corners: four cells over two, at -0.25, 0.25, 0.75 and 1.25 of them, clamped at the edge.
    across = torch.tensor([0.0, 0.25, 0.75, 1.0])
    torch.testing.assert_close(fit_grid(maps, (4, 4))[0, 0], 2 * across[:, None] + across[None])
    module = QueryGeneration((4, 4), 3, 4, scale=False)
    words, mask = torch.randn(1, 2, 3), torch.ones(1, 2).bool()
    exact = (2 * across[:, None] + across[None])[None, None]
    torch.testing.assert_close(module(maps, words, mask)[0], module(exact, words, mask)[0])


def test_attention_over_words_is_computed_in_float32_under_autocast():
    """Sums of hundreds of products of ReLUs reach the hundreds, where bfloat16 has steps of 1 and more."""
    queries, words = torch.rand(2, 3, 512), torch.rand(2, 5, 512)
    mask = torch.ones(2, 5, dtype=torch.bool)
    expected = torch.einsum("tqc,tlc->tql", queries.double(), words.double()).softmax(-1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend_words(queries, words, mask, 1.0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
