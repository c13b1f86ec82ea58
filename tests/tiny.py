"""Every preset in a form that runs in milliseconds: the same switches, small widths."""

from __future__ import annotations

from dataclasses import replace

import torch

from refseg.encoders.clip import ClipResNetConfig, ClipTextConfig, ClipViTConfig
from refseg.methods import METHODS, Segmenter
from refseg.presets import get_preset
from refseg.presets.base import Preset, override, shapes_tokenizer
from refseg.weights.store import Model

TOKENIZER = shapes_tokenizer()
SIZE = (64, 64)

LGFORMER = {
    "swin.embed_dim": 8, "swin.depths": (1, 1, 2, 1), "swin.heads": (1, 2, 2, 2), "swin.window": 4,
    "swin.drop_path": 0.0,
    "bert.vocab": TOKENIZER.size, "bert.width": 24, "bert.layers": 2, "bert.heads": 2, "bert.ffn": 32,
    "bert.positions": 32, "bert.dropout": 0.0, "bert.trained_layers": 2,
    "pixel_decoder.width": 16, "pixel_decoder.heads": 2, "pixel_decoder.points": 2, "pixel_decoder.ffn": 32,
    "pixel_decoder.l2va_ffn_width": 32, "generator.heads": 2, "generator.ffn": 32, "merge_hidden": 8,
}  # fmt: skip
SHARED = {key: value for key, value in LGFORMER.items() if key.startswith(("swin.", "bert."))}
ALIGNFORMER = {key: value for key, value in LGFORMER.items() if key.startswith(("swin.", "bert.", "pixel_decoder."))}
ALIGNFORMER |= {"generator.heads": 2, "generator.ffn": 32, "generator.layers": 2, "cmic.anchors": 4}
CLIP_TEXT = ClipTextConfig(vocab=TOKENIZER.size, width=24, layers=2, heads=2, joint=16, positions=32)
EAVL = {
    "text": CLIP_TEXT, "grid": (4, 4), "neck": (12, 16, 20), "heads": 2, "ffn": 32, "dropout": 0.0,
    "decoder_layers": 2,
}  # fmt: skip
JMCELN = {"text": CLIP_TEXT, "width": 16, "heads": 2, "window": 3, "embeddings": 4}
CRFORMER = SHARED | {"grid": (4, 4), "neck": (12, 16, 20), "heads": 2, "ffn": 32, "dropout": 0.0}
CHANGES = {"lgformer": LGFORMER, "alignformer": ALIGNFORMER, "lavt": SHARED, "eavl": EAVL, "jmceln": JMCELN}
CHANGES |= {"crformer": CRFORMER}


def tiny_vision(config: ClipResNetConfig | ClipViTConfig) -> ClipResNetConfig | ClipViTConfig:
    """A small image tower of the same kind."""
    if isinstance(config, ClipResNetConfig):
        return ClipResNetConfig((1, 2, 1, 1), width=4, heads=2, joint=16, grid=2)
    return ClipViTConfig(width=24, layers=2, heads=2, patch=config.patch, joint=16, grid=4)


def tiny(name: str) -> Preset:
    """The preset of that name with small widths and nothing random in training."""
    preset = get_preset(name)
    changes = dict(CHANGES[preset.method])
    if preset.method == "lgformer" and not name.endswith("layers-3"):
        changes |= {"pixel_decoder.layers": 2, "generator.layers": 2}
    if preset.method in ("alignformer", "lgformer"):
        changes |= {"pixel_decoder.max_tokens": 20}
    if preset.method in ("eavl", "jmceln"):
        changes |= {"vision": tiny_vision(preset.model.vision)}
    if preset.method == "jmceln" and preset.model.stages:
        changes |= {"stages": 3}  # more rounds of products drown the last biases in float32
    size = replace(preset.input, size=SIZE, max_tokens=20)
    model = override(preset.model, changes)
    return replace(preset, model=model, input=size, encoders=None)


def tiny_network(name: str, seed: int = 0) -> Segmenter:
    """Its network, with weights that depend on the seed alone."""
    torch.manual_seed(seed)
    preset = tiny(name)
    return METHODS[preset.method][0](preset.model)


def wake(network: torch.nn.Module) -> None:
    """Larger weights: the papers' small initial ones would hide a missing path behind tiny numbers."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
            else:
                parameter += 0.1 * torch.randn_like(parameter)  # biases of 0 make scales in front of a norm inert


def tiny_model(name: str = "lgformer-shapes") -> Model:
    """Its network with all it needs to answer."""
    preset = tiny(name)
    return Model(preset.name, preset.method, tiny_network(name).eval(), preset.input, TOKENIZER, {"data": "none"})


def some_input(images: int = 2, expressions: int = 3, seed: int = 1) -> tuple[torch.Tensor, ...]:
    """Pixels, tokens, mask, image index and targets of random content."""
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randn(images, 3, *SIZE, generator=g)
    tokens = torch.randint(5, TOKENIZER.size, (expressions, 7), generator=g)
    mask = torch.ones(expressions, 7, dtype=torch.bool)
    for t in range(1, expressions):
        mask[t, 7 - t % 4 :] = t % 4 == 0
    tokens = tokens.masked_fill(~mask, 0)
    index = torch.arange(expressions) % images
    targets = torch.zeros(expressions, *SIZE, dtype=torch.bool)
    for t in range(expressions):
        top, left = 4 + 32 * (t // 2 % 2), 4 + 32 * (t % 2)  # a corner each: one image has different answers
        targets[t, top : top + 20 + 4 * (t % 2), left : left + 24] = True
    return pixels, tokens, mask, index, targets
