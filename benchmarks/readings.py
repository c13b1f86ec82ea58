"""What the papers' formulas give where docs/methods.md says more than the papers do.

Usage: python benchmarks/readings.py [--seed 0]

EAVL: how many log-odds are negative at the start, for the ways to read eq. 11. CMIC: how large the loss is, by products
and by angles, for a paper preset at the start and for the trained compact model. CRFormer: how large what the words add
is beside the pixels, and the position code beside the words. Paper presets have random weights in the layout of the
published encoders, and read one scene of RefShapes. About 4 minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from refseg.data.shapes import RefShapes
from refseg.data.transforms import InputConfig, image_to_pixels, mask_to_target
from refseg.layers.positions import sine_line
from refseg.losses import cmic, resize_target
from refseg.methods import METHODS, Segmenter
from refseg.methods.alignformer import AlignFormer
from refseg.methods.crformer import CRFormer
from refseg.presets import get_preset
from refseg.presets.base import override
from refseg.weights.store import load_model

LENGTH = 9  # tokens of a sentence


def picture(config: InputConfig) -> tuple[Tensor, Tensor]:
    """The first scene of RefShapes val as a network sees it, (1, 3, H, W), and its first target (1, H, W)."""
    sample = RefShapes("refshapes", "val")[0]
    return image_to_pixels(sample.image, config)[None], mask_to_target(sample.references[0].mask, config)[None]


def some_tokens(count: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(5, vocabulary, (count, LENGTH))
    return tokens, torch.ones(count, LENGTH, dtype=torch.bool)


def eavl(seed: int) -> None:
    """Negative log-odds at the start."""
    forms = {
        "printed: plain convolution, ReLU on the kernels": {},
        "no ReLU on the kernels": {"kernel_relu": False},
        "ReLU on the features alone": {"upsampler": "single", "kernel_relu": False},
        "ReLU on both": {"upsampler": "single"},
    }
    preset = get_preset("eavl/rn50")
    pixels, _ = picture(preset.input)
    for form, changes in forms.items():
        shares = []
        for number in range(seed, seed + 8):
            torch.manual_seed(number)
            network = METHODS["eavl"][0](override(preset.model, changes)).train()  # batch norms without statistics yet
            tokens, mask = some_tokens(2, preset.model.text.vocab)
            index = torch.zeros(2, dtype=torch.long)
            logits = network(network.encode_image(pixels), network.encode_text(tokens, mask), index).logits
            shares.append(float((logits < 0).float().mean()))
        print(f"EAVL eq. 11, {form}: {sum(shares) / len(shares):.2f} of the log-odds are negative, from "
              f"{min(shares):.2f} to {max(shares):.2f} in 8 starts")  # fmt: skip


def contrast(network: Segmenter, pixels: Tensor, target: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Of one expression: CMIC by products and by angles, and the least and the largest product of two pixels."""
    assert isinstance(network, AlignFormer)
    network.train()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), torch.zeros(1, dtype=torch.long))
    prototype, features = output.aux["prototype"], output.aux["pixel_embeddings"]
    small = resize_target(target, (features.shape[-2], features.shape[-1]))
    config = network.config.cmic
    forms = (
        replace(config, similarity="dot", temperature=1.0, reduce="sum"),
        replace(config, similarity="cosine", temperature=0.1, reduce="sum"),
    )
    some = features[0].flatten(1)[:, ::7]  # (C, P)
    products = some.T @ some
    return torch.stack([*(cmic(prototype, features, small, form) for form in forms), products.min(), products.max()])


def say_contrast(of: str, found: Tensor) -> None:
    product, angle = (float(value) for value in found[:, :2].amax(0))
    least, most = float(found[:, 2].min()), float(found[:, 3].max())
    print(f"CMIC, {of}: the product of two pixels is {least:.0f} to {most:.0f}; the loss is at most {product:.1e} by "
          f"products, {angle:.1e} by angles at temperature 0.1")  # fmt: skip


def alignformer(seed: int) -> None:
    """How large CMIC is: of four starts, where it compares anything at all, and of four expressions."""
    preset, found = get_preset("alignformer"), []
    for number in range(seed, seed + 4):
        torch.manual_seed(number)
        network = METHODS["alignformer"][0](preset.model)
        found.append(contrast(network, *picture(preset.input), *some_tokens(1, preset.model.bert.vocab)))
    say_contrast("alignformer at the start", torch.stack(found))
    model, found = load_model("alignformer-shapes"), []
    shapes = RefShapes("refshapes", "val")
    for number in range(4):
        sample, expression = shapes[number], shapes.expressions(number)[0]
        pixels = image_to_pixels(sample.image, model.input)[None]
        target = mask_to_target(sample.references[expression.reference].mask, model.input)[None]
        words = model.tokenizer([expression.text], model.input.max_tokens)
        found.append(contrast(model.network, pixels, target, words.ids, words.mask))
    say_contrast("alignformer-shapes as it ships", torch.stack(found))


def crformer(seed: int) -> None:
    """F_v beside V, and the sine code beside the words."""
    torch.manual_seed(seed)
    preset = get_preset("crformer")
    network = METHODS["crformer"][0](preset.model).eval()
    assert isinstance(network, CRFormer)
    for stage in preset.model.fusion_stages:

        def told(_: object, inputs: tuple[Tensor, ...], fused: object, stage: int = stage) -> None:
            read = fused.pixel_residual  # type: ignore[attr-defined]
            size, spread = read.norm(dim=-1).mean(), read.std(1).norm(dim=-1).mean()
            beside = inputs[0].norm(dim=-1).mean()
            print(f"CRFormer eq. 2, stage {stage}: F_v is {size / beside:.3f} of V, and differs between pixels by "
                  f"{spread / size:.4f} of itself")  # fmt: skip

        network.encoder.fusions[stage - 1].register_forward_hook(told)
    pixels, _ = picture(preset.input)
    text = network.encode_text(*some_tokens(1, preset.model.bert.vocab))
    network(network.encode_image(pixels), text, torch.zeros(1, dtype=torch.long))
    code = sine_line(LENGTH, text.words.shape[2], text.words)
    sizes = code.norm(dim=-1).mean() / text.words.norm(dim=-1).mean()
    apart = code.std(0).norm() / text.words[0].std(0).norm()
    print(f"CRFormer sec. 3.3: the sine code is {sizes:.1f} times as large as the words, and differs between places "
          f"{apart:.1f} times as much as they do")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    with torch.no_grad():
        eavl(seed)
        alignformer(seed)
        crformer(seed)


if __name__ == "__main__":
    main()
