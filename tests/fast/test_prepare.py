"""A prepared network answers as the network does, which stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import refseg.fast.convolution
import refseg.fast.linear
from refseg.fast.choice import PRECISIONS, choose_precision, has_int8
from refseg.fast.linear import ReadyLinear, has_onednn
from refseg.fast.prepare import prepared
from refseg.presets import presets
from tiny import some_input, tiny_network, wake

CPU = torch.device("cpu")


@pytest.fixture
def everything(monkeypatch):
    """Also the layers of a tiny network are large enough."""
    monkeypatch.setattr(refseg.fast.linear, "LEAST", 1)
    monkeypatch.setattr(refseg.fast.convolution, "LEAST", 1)


def answer(network, dtype=torch.float32):
    pixels, tokens, mask, index, _ = some_input()
    pixels = pixels.to(dtype)
    with torch.inference_mode():
        return network(network.encode_image(pixels), network.encode_text(tokens, mask), index, True)


def off(found, exact):
    """How far from it, as a share of its largest number."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("name", list(presets()))
def test_every_method_answers_the_same(name, everything):
    network = tiny_network(name).eval()
    wake(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    kinds = [type(module) for module in network.modules()]
    plain, found = answer(network), answer(prepared(network, "fp32"))
    exact = answer(copy.deepcopy(network).double(), torch.float64)
    shown = {"logits": (found.logits, plain.logits, exact.logits)}
    shown |= {key: (found.details[key], plain.details[key], exact.details[key]) for key in plain.details}
    for key, (ours, its, right) in shown.items():  # no further from the truth than rounding brings the network itself
        assert off(ours, right) < max(1e-4, 20 * off(its, right)), key
    assert [type(module) for module in network.modules()] == kinds
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")
def test_parameters_are_shared_and_layers_replaced(everything):
    network = tiny_network("lavt").eval()
    ready = prepared(network, "fp32")
    one, other = network.text_encoder.model.embeddings, ready.text_encoder.model.embeddings
    assert one is not other and one.word_embeddings.weight is other.word_embeddings.weight
    assert not [module for module in ready.modules() if type(module) is nn.Linear]
    assert [module for module in ready.modules() if type(module) is ReadyLinear]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_what_is_exact_stays_in_float32(precision, everything):
    if precision == "int8" and not has_int8():
        pytest.skip("this processor has no int8 instructions")
    ready = prepared(tiny_network("lgformer"), precision)
    for part in ready.exact:
        assert not [m for m in getattr(ready, part).modules() if type(m) is refseg.fast.linear.KINDS[precision]]
    assert [m for m in ready.encoder.modules() if type(m) is refseg.fast.linear.KINDS[precision]]


def test_every_exact_part_is_there():
    for name in presets():
        network = tiny_network(name)
        parts = dict(network.named_children())
        optional = {"pooled_to_query", "generator", "head"}  # of ablations without them
        assert {"text_encoder"} <= set(network.exact) and set(network.exact) - set(parts) <= optional, name


def test_the_rule_of_auto(monkeypatch):
    small, large = nn.Linear(4, 4), nn.Linear(6000, 6000, device="meta")
    monkeypatch.setattr("refseg.fast.choice.has_int8", lambda: True)
    assert choose_precision("auto", small, CPU).name == "fp32"
    assert choose_precision("auto", large, CPU).name == "int8"
    assert choose_precision("auto", large, torch.device("cuda")).name == "fp32"
    assert choose_precision("fp32", large, CPU).name == "fp32" and choose_precision("int8", small, CPU).name == "int8"
    monkeypatch.setattr("refseg.fast.choice.has_int8", lambda: False)
    chosen = choose_precision("auto", large, CPU)
    assert chosen.name == "fp32" and "int8" in str(chosen)


def test_what_cannot_be_is_refused(monkeypatch):
    network = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="'fp16': unknown; accepted are auto, fp32, bf16, int8"):
        choose_precision("fp16", network, CPU)
    with pytest.raises(ValueError, match="'int8': cuda is not supported"):
        choose_precision("int8", network, torch.device("cuda"))
    with pytest.raises(ValueError, match="'bf16': mps is not supported"):
        choose_precision("bf16", network, torch.device("mps"))
    monkeypatch.setattr("refseg.fast.choice.has_int8", lambda: False)
    with pytest.raises(ValueError, match="'int8': this processor has no instructions"):
        choose_precision("int8", network, CPU)
    assert set(PRECISIONS) == {"auto", *refseg.fast.linear.KINDS}
