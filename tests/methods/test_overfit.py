"""Every method learns one batch by heart: what it builds can represent a mask, and its loss leads there."""

from __future__ import annotations

import pytest
import torch

from refseg.losses import resize_target
from tiny import some_input, tiny_network

NAMES = [
    "alignformer", "crformer", "crformer-released", "eavl", "jmceln", "lavt", "lgformer", "lgformer-released",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_overfits_one_batch(name):
    network = tiny_network(name).train()
    pixels, tokens, mask, index, targets = some_input()
    optimiser = torch.optim.AdamW(network.param_groups(3e-3, 0.0))
    worst = 0.0
    for _ in range(600):
        image = network.encode_image(pixels)
        output = network(image, network.encode_text(tokens, mask), index)
        truth = resize_target(targets, (output.logits.shape[-2], output.logits.shape[-1]))
        predicted = output.logits[:, 0] > 0
        worst = float(((predicted & truth).sum((1, 2)) / (predicted | truth).sum((1, 2))).min())
        if worst > 0.95:
            break
        optimiser.zero_grad()
        sum(network.loss(output, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    assert worst > 0.95
