"""Paper-size methods on one photo: parameters, multiply-adds, time and peak memory of a step on this machine.

Usage: python benchmarks/paper_size.py PHOTO [--preset NAME]... [--encoders DIR] [--expression TEXT]

Each preset runs in a process of its own, so that its peak memory is its own. Without --encoders all weights are random
(seed 0), which changes neither time nor memory; with it the encoders are loaded from folders of published checkpoints.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

PRESETS = (
    "alignformer", "lgformer", "lgformer-released", "eavl", "eavl/vit-b16", "eavl/vit-l14", "jmceln", "crformer",
    "crformer-released", "lavt",
)  # fmt: skip


def measure(preset_name: str, photo: str, encoders: str | None, expression: str) -> dict[str, object]:
    """One forward pass of one expression as in prediction, and a forward and backward pass of two as in training.

    Two, because a batch norm over sentences has no statistics of one.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from refseg.data.formats.images import read_image
    from refseg.data.transforms import image_to_pixels
    from refseg.methods import METHODS
    from refseg.presets import get_preset
    from refseg.weights.start import build

    torch.manual_seed(0)
    preset = get_preset(preset_name)
    if encoders:
        model = build(preset, Path(encoders))
        network = model.network
        encoded = model.tokenizer([expression], preset.input.max_tokens)
        tokens, mask = encoded.ids, encoded.mask
    else:
        network = METHODS[preset.method][0](preset.model)
        tokens = torch.randint(1000, 20000, (1, len(expression.split()) + 2))
        mask = torch.ones_like(tokens, dtype=torch.bool)
    pixels = image_to_pixels(read_image(photo), preset.input)[None]
    index = torch.zeros(1, dtype=torch.long)
    target = torch.zeros(1, *preset.input.size, dtype=torch.bool)
    target[:, 100:200, 150:300] = True

    network.eval()
    with torch.inference_mode():
        started = time.perf_counter()
        output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
        forward = time.perf_counter() - started
    after_forward = peak()
    network.train()
    started = time.perf_counter()
    text = network.encode_text(tokens.expand(2, -1), mask.expand(2, -1))
    trained = network(network.encode_image(pixels), text, torch.zeros(2, dtype=torch.long))
    loss = sum(network.loss(trained, target.expand(2, -1, -1)).values())
    loss.backward()
    backward = time.perf_counter() - started
    after_backward = peak()
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    network.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
    return {
        "preset": preset_name,
        "parameters_M": round(sum(p.numel() for p in network.parameters()) / 1e6, 1),
        "trained_M": round(trainable / 1e6, 1),
        "GMACs": round(counter.get_total_flops() / 2e9, 1),
        "logits": list(output.logits.shape),
        "loss": round(float(loss.detach()), 4),
        "forward_s": round(forward, 2),
        "forward_peak_GB": round(after_forward, 2),
        "forward_backward_s": round(backward, 2),
        "forward_backward_peak_GB": round(after_backward, 2),
        "encoders": "published" if encoders else "random",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "seed": 0,
        "date": date.today().isoformat(),
    }


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Measures each preset in its own process and prints one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--preset", action="append", choices=PRESETS)
    parser.add_argument("--encoders")
    parser.add_argument("--expression", default="the man in black on the left")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for preset in arguments.preset or PRESETS:
        if arguments.here:
            print(json.dumps(measure(preset, arguments.photo, arguments.encoders, arguments.expression)), flush=True)
        else:
            more = ["--encoders", arguments.encoders] if arguments.encoders else []
            own = [__file__, arguments.photo, "--preset", preset, "--expression", arguments.expression, "--here", *more]
            subprocess.run([sys.executable, *own], check=True)


if __name__ == "__main__":
    main()
