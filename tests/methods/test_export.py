"""Every method can be traced for any number of expressions and words, in any precision, and tracing spoils nothing."""

from __future__ import annotations

import pytest
import torch

from tiny import tiny, tiny_network

NAMES = ["alignformer", "crformer", "crformer-released", "eavl", "eavl/vit-b16", "jmceln", "lavt", "lgformer",
         "lgformer-released"]  # fmt: skip


class Whole(torch.nn.Module):
    """From pixels and tokens to log-odds in one call."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels, tokens, mask, index):
        network = self.network
        return network(network.encode_image(pixels), network.encode_text(tokens, mask), index).logits


def some_input(name, expressions, words):
    height, width = tiny(name).input.size
    mask = torch.ones(expressions, words, dtype=torch.bool)
    mask[0, words - 2 :] = False
    tokens = torch.randint(0, 40, (expressions, words))
    return torch.randn(1, 3, height, width), tokens, mask, torch.zeros(expressions, dtype=torch.long)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_traced_method_takes_any_number_of_expressions_and_words(name):
    whole = Whole(tiny_network(name).eval())
    given = some_input(name, 3, 9)
    before = whole(*given)
    expressions, words = torch.export.Dim("T", min=2, max=64), torch.export.Dim("L", min=4, max=20)
    dynamic = (None, {0: expressions, 1: words}, {0: expressions, 1: words}, {0: expressions})
    program = torch.export.export(whole, given, dynamic_shapes=dynamic).module()
    for count, length in ((3, 9), (5, 12), (2, 20)):
        other = some_input(name, count, length)
        torch.testing.assert_close(program(*other), whole(*other), rtol=1e-5, atol=1e-5)
    assert torch.equal(whole(*given), before)


@torch.no_grad()
def test_tracing_a_swin_changes_nothing_that_is_computed_later():
    whole = Whole(tiny_network("lavt").eval())
    given = some_input("lavt", 2, 6)  # the first to ask for masks of this size, so that the trace makes them
    torch.export.export(whole, given)
    found = whole(*given)
    assert type(found) is torch.Tensor and bool(torch.isfinite(found).all())
    torch.testing.assert_close(Whole(tiny_network("lavt").eval())(*given), found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_a_network_runs_in_another_precision(name, dtype):
    whole = Whole(tiny_network(name).eval())
    pixels, *text = some_input(name, 3, 9)
    expected = whole(pixels, *text)
    found = whole.to(dtype)(pixels.to(dtype), *text)
    assert found.dtype == dtype
    off = float((found.float() - expected).abs().max() / expected.abs().max())
    assert off < (0.1 if dtype == torch.bfloat16 else 1e-4)
