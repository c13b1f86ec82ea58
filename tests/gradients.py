"""What the contract says of gradients, for presets and for single options."""

from __future__ import annotations

from fnmatch import fnmatch

from refseg.methods import Segmenter
from tiny import some_input, wake

ENCODERS = ("text_encoder.", "encoder.swin.", "encoder.conv", "encoder.bn", "encoder.layer", "encoder.attnpool.")


def gradients(network: Segmenter) -> dict[str, float]:
    """The largest gradient of every trainable parameter for some input, in double precision."""
    network.double().train()
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels.double()), network.encode_text(tokens, mask), index)
    sum(network.loss(output, targets).values()).backward()
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return {name: 0.0 if p.grad is None else float(p.grad.abs().max()) for name, p in parameters.items()}


def check_gradients(network: Segmenter) -> None:
    """Every trainable parameter gets a gradient above 1e-5 of its layer's weight, or is in `inert` and gets none."""
    wake(network)
    sizes, known = gradients(network), network.inert
    largest = max(sizes.values())
    for parameter, size in sizes.items():
        weight = sizes.get(parameter.removesuffix("bias") + "weight", 0.0) if parameter.endswith("bias") else 0.0
        if any(fnmatch(parameter, pattern) for pattern in known):
            most = max(1e-3 * weight, 1e-7 * largest)  # not exactly none: norms add a little to a variance
            assert size <= most, f"{parameter} is called inert but has gradient {size}"
        else:
            least = 1e-5 * weight if weight else 1e-8 * largest
            assert size > least, f"{parameter} gets no gradient ({size}, its layer's weight {weight})"
    for pattern, reason in known.items():
        assert reason and any(fnmatch(parameter, pattern) for parameter in sizes), pattern


def check_first_step(network: Segmenter) -> None:
    """With the weights as they start no gradient vanishes; left out are the encoders, which start trained."""
    sizes, known = gradients(network), network.inert
    lost = {
        parameter: size
        for parameter, size in sizes.items()
        if size < 1e-12
        and not parameter.startswith(ENCODERS)
        and not any(fnmatch(parameter, pattern) for pattern in known)
    }
    assert not lost, f"no step for {lost}"
