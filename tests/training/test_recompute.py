"""Gradient checkpointing changes neither the loss nor the gradients nor what a step leaves behind, and keeps less."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from refseg.methods import METHODS
from refseg.presets.base import override
from refseg.training.recompute import recompute_blocks
from tiny import some_input, tiny, tiny_network

RANDOM = {"lgformer": {"bert.dropout": 0.2, "swin.drop_path": 0.3}}  # what is drawn must be drawn again


def random_network(method):
    torch.manual_seed(0)
    preset = tiny(method)
    return METHODS[method][0](override(preset.model, RANDOM.get(method, {})))


def step(network):
    """Loss, gradients, buffers and kept bytes of one step."""
    pixels, tokens, mask, index, targets = some_input()
    torch.manual_seed(3)
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
        loss = sum(network.loss(output, targets).values())
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, dict(network.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("method", METHODS)
def test_the_same_step_with_less_memory(method):
    plain, other = random_network(method).train(), random_network(method).train()
    assert recompute_blocks(other) >= 4
    loss, gradients, buffers, kept = step(plain)
    again, same_gradients, same_buffers, less = step(other)
    assert torch.equal(again, loss) and gradients.keys() == same_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-5, atol=1e-7)
    for name, buffer in buffers.items():  # running means are updated once
        torch.testing.assert_close(same_buffers[name], buffer)
    assert less < 0.8 * kept
    assert plain.state_dict().keys() == other.state_dict().keys()


def test_evaluation_is_untouched():
    network = tiny_network("lgformer").eval()
    pixels, tokens, mask, index, _ = some_input()
    answer = network(network.encode_image(pixels), network.encode_text(tokens, mask), index).logits
    recompute_blocks(network)
    assert torch.equal(network(network.encode_image(pixels), network.encode_text(tokens, mask), index).logits, answer)
