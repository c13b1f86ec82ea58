"""What the contract says of gradients, for presets and for single options."""

from __future__ import annotations

from fnmatch import fnmatch

from refseg.methods import Segmenter
from tiny import some_input, wake


def check_gradients(network: Segmenter) -> None:
    """Every trainable parameter gets a gradient above 1e-4 of its layer's weight, or is in `inert` and gets none."""
    network.train()
    wake(network)
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
    sum(network.loss(output, targets).values()).backward()
    sizes = {k: float(p.grad.abs().max()) for k, p in network.named_parameters() if p.grad is not None}
    trainable = [k for k, p in network.named_parameters() if p.requires_grad]
    largest = max(sizes.values())
    known = network.inert
    for parameter in trainable:
        size = sizes.get(parameter, 0.0)
        weight = sizes.get(parameter.removesuffix("bias") + "weight", 0.0) if parameter.endswith("bias") else 0.0
        least = 1e-4 * weight if weight else 1e-7 * largest
        if any(fnmatch(parameter, pattern) for pattern in known):
            assert size <= max(1e-3 * weight, 1e-7 * largest), f"{parameter} is called inert but has gradient {size}"
        else:
            assert size > least, f"{parameter} gets no gradient ({size}, its layer's weight {weight})"
    for pattern, reason in known.items():
        assert reason and any(fnmatch(parameter, pattern) for parameter in trainable), pattern
