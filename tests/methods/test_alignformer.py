from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from refseg.losses import CMICConfig, cmic
from refseg.presets import get_preset
from refseg.presets.base import override
from tiny import some_input, tiny_network

LITERAL = CMICConfig(
    0.5, 20, similarity="dot", temperature=1.0, reduce="sum", sample="image", detach_weights=True, detach_anchors=False
)


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


def example():
    """A 2x2 image with one pixel of each kind; the prototype is (1, 0), so that channel 0 is the log-odds."""
    prototype = torch.tensor([[1.0, 0.0]])
    values = {"tp": (2.0, 1.0), "fp": (1.0, -1.0), "fn": (-1.0, 2.0), "tn": (-3.0, 0.5)}
    pixels = torch.tensor([list(values.values())]).transpose(1, 2).reshape(1, 2, 2, 2).requires_grad_()
    target = torch.tensor([[[True, False], [True, False]]])
    return values, prototype.requires_grad_(), pixels, target


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("sample", ["image", "pixel"])
def test_cmic_by_hand(sample):
    v, prototype, pixels, target = example()
    weight_tn, weight_tp = 1 - 1 / (1 + math.exp(3.0)), 1 / (1 + math.exp(-2.0))
    one = -weight_tn * log_sigmoid(dot(v["fp"], v["tn"])) - weight_tp * log_sigmoid(dot(v["fn"], v["tp"]))
    config = replace(LITERAL, sample=sample)
    assert float(cmic(prototype, pixels, target, config).detach()) == pytest.approx(20 * one, rel=1e-5)
    mean = cmic(prototype, pixels, target, replace(config, reduce="mean"))
    assert float(mean.detach()) == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("kind", ["right", "empty", "full", "all wrong"])
def test_cmic_is_zero_with_a_gradient_when_there_is_nothing_to_compare(kind):
    _, prototype, pixels, target = example()
    positive = pixels[:, 0] > 0
    target = {"right": positive, "empty": positive & False, "full": positive | True, "all wrong": ~positive}[kind]
    pixels = pixels if kind in ("right", "all wrong") else (pixels.abs() if kind == "full" else -pixels.abs())
    loss = cmic(prototype, pixels, target, LITERAL)
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_cmic_detaches_what_it_says():
    for anchors, weights in ((False, True), (True, True), (True, False)):
        _, prototype, pixels, target = example()
        cmic(prototype, pixels, target, replace(LITERAL, detach_anchors=anchors, detach_weights=weights)).backward()
        moved = pixels.grad.abs().sum(1)[0]  # (2, 2): tp fp / fn tn
        assert moved[0, 1] > 0 and moved[1, 0] > 0
        assert bool(moved[0, 0] > 0) is not (anchors and weights)
        assert (prototype.grad is not None and bool(prototype.grad.abs().sum() > 0)) is not weights


def test_cmic_in_half_precision_is_finite_with_large_embeddings():
    prototype, pixels = torch.randn(2, 8).half() * 30, torch.randn(2, 8, 6, 6).half() * 30
    target = torch.rand(2, 6, 6) > 0.5
    loss = cmic(prototype, pixels, target, LITERAL)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_total_is_pixel_text_plus_half_cmic():
    network = tiny_network("alignformer").train()
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
    torch.manual_seed(3)
    terms = network.loss(output, targets)
    small = targets[:, 2::4, 2::4]
    torch.manual_seed(3)
    contrast = cmic(output.aux["prototype"], output.aux["pixel_embeddings"], small, network.config.cmic)
    torch.testing.assert_close(terms["cmic"], 0.5 * contrast)
    p, y = output.logits[:, 0].sigmoid(), small.float()
    torch.testing.assert_close(terms["pixel_text"], -(y * p.log() + (1 - y) * (1 - p).log()).mean())
    assert set(terms) == {"pixel_text", "cmic"}


def test_ablations_build_what_they_say():
    names = {row: {k for k, _ in tiny_network(f"alignformer/{row}").named_parameters()} for row in (
        "swin-s", "pixel-classifier", "no-interaction", "vlua", "without-cmic")}  # fmt: skip
    assert not any(k.startswith(("generator.", "head.", "pooled")) for k in names["pixel-classifier"])
    assert not any("fusions" in k for k in names["no-interaction"])
    assert any("pixel_gate" in k for k in names["vlua"]) and not any("word_gate" in k for k in names["vlua"])
    assert names["without-cmic"] == names["swin-s"]
    assert get_preset("alignformer/vlua").model.swin.channels == (96, 192, 384, 768)
    assert get_preset("alignformer").model.swin.channels == (128, 256, 512, 1024)
    assert not any("l2va" in k for k in names["swin-s"])


def test_a_classifier_of_pixels_has_no_prototype_to_contrast():
    with pytest.raises(ValueError, match="no prototype"):
        override(get_preset("alignformer").model, {"head": "pixel_classifier"})
