from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from refseg.fast.learning import LearningLinear, let_learn
from refseg.fast.linear import has_onednn
from refseg.fast.prepare import prepared
from refseg.training.step import Trainee
from refseg.types import Batch
from tiny import some_input, tiny_network

pytestmark = pytest.mark.skipif(not has_onednn(), reason="this build of torch has no oneDNN")


def both(bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    linear = nn.Linear(256, 384, bias=bias)
    learning = copy.deepcopy(linear)
    let_learn(nn.Sequential(learning))
    assert type(learning) is LearningLinear and type(linear) is nn.Linear
    return linear, learning


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 256), (2, 3, 256), (256,), (0, 256), (2, 256, 4)])
@pytest.mark.parametrize("wanted", [True, False])
def test_values_and_gradients_are_a_linears(bias, shape, wanted):
    found = []
    for layer in both(bias):
        torch.manual_seed(1)
        x = torch.randn(shape)
        x = (x.transpose(1, 2) if shape[-1] == 4 else x).detach()  # not one block of memory, too
        x.requires_grad_(wanted)
        y = layer(x)
        (y * torch.randn(y.shape)).sum().backward()
        found.append([y, x.grad if wanted else torch.zeros(1), *(p.grad for p in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


def test_a_part_that_does_not_learn_gets_no_gradient():
    _, layer = both()
    layer.weight.requires_grad_(False)
    layer(torch.randn(3, 256)).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None


def test_other_types_and_answers_go_the_usual_way():
    linear, layer = both()
    x = torch.randn(3, 256)
    with torch.no_grad():
        assert torch.equal(layer(x), linear(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), linear(x))
    assert torch.equal(layer.double()(x.double()), linear.double()(x.double()))


def test_small_layers_stay():
    network = nn.ModuleList([nn.Linear(8, 8), nn.Linear(256, 256)])
    let_learn(network)
    assert [type(layer) for layer in network] == [nn.Linear, LearningLinear]
    assert list(network.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("preset", ["lgformer", "lavt", "jmceln"])
def test_methods_learn_the_same_and_can_be_prepared(preset, monkeypatch):
    monkeypatch.setattr("refseg.fast.learning.pays", lambda linear: True)
    network = tiny_network(preset).train()
    learning = copy.deepcopy(network)
    let_learn(learning)
    assert any(type(module) is LearningLinear for module in learning.modules())
    losses, gradients = [], []
    for one in (network, learning):
        torch.manual_seed(3)
        pixels, tokens, mask, index, targets = some_input()
        loss = sum(Trainee(one, "cpu", "fp32")(Batch(pixels, tokens, mask, index, targets)).values())
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4 * largest, rtol=1e-3, msg=name)
    assert prepared(learning.eval(), "fp32") is not learning
