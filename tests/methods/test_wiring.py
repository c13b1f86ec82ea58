"""What stands in front of what, and what reads what: orders that a wrong line changes without any shape changing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from refseg.layers.attention import masked_mean
from refseg.layers.pixel_decoder import PixelDecoder, PixelDecoderLayer
from refseg.layers.prototype import PrototypeConfig, PrototypeGenerator
from refseg.losses import CMICConfig, cmic
from refseg.types import TextFeatures
from tiny import tiny, tiny_network, wake

SIZES = [(1, 2), (2, 4), (4, 8)]  # strides 32, 16 and 8 of 32 x 64 pixels


@torch.no_grad()
def test_layer_after_layer_of_the_generator_reads_the_next_level():
    generator = PrototypeGenerator(PrototypeConfig(5, 2, 12, self_attention=False), 1, 8, 8).eval()
    wake(generator)
    levels = [torch.randn(1, h * w, 8) for h, w in SIZES]
    states = generator(torch.randn(1, 1, 8), levels, SIZES)
    for changed in range(3):
        other = [x + 1.0 * torch.randn_like(x) if i == changed else x for i, x in enumerate(levels)]
        torch.manual_seed(3)
        again = generator(states[0] * 0 + 0.5, other, SIZES)
        plain = generator(states[0] * 0 + 0.5, levels, SIZES)
        differs = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(again, plain, strict=True)]
        assert differs == [layer >= changed for layer in range(5)]


@torch.no_grad()
def test_layers_of_the_generator_return_to_the_coarsest_level():
    generator = PrototypeGenerator(PrototypeConfig(7, 2, 12, self_attention=False), 1, 8, 8).eval()
    read = []
    for layer in generator.layers:
        layer.cross.register_forward_hook(lambda module, given, found: read.append(given[1].shape[1]))
    generator(torch.randn(2, 1, 8), [torch.randn(2, h * w, 8) for h, w in SIZES], SIZES)
    assert read == [2, 8, 32, 2, 8, 32, 2]


def doubled(maps: torch.Tensor, axis: int) -> torch.Tensor:
    """Twice as many cells with the outer edges on each other: three quarters of a cell and one of its neighbour."""
    count = maps.shape[axis]
    before, after = maps.narrow(axis, 0, 1), maps.narrow(axis, count - 1, 1)
    padded = torch.cat([before, maps, after], axis)
    left, right = padded.narrow(axis, 0, count), padded.narrow(axis, 2, count)
    pairs = torch.stack([0.75 * maps + 0.25 * left, 0.75 * maps + 0.25 * right], axis + 1)
    return pairs.flatten(axis, axis + 1)


class Known(nn.Module):
    """Stands for a layer: gives pixels that are known."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels = pixels

    def forward(self, x, *rest):
        assert x.shape == self.pixels.shape
        return self.pixels, None


@pytest.mark.parametrize("features", ["bilinear", "fpn"])
@torch.no_grad()
def test_mask_features_come_from_stride_8(features):
    config = tiny("lgformer-released" if features == "fpn" else "lgformer").model
    decoder = PixelDecoder(config.pixel_decoder, (8, 16, 32, 64), 12).eval()
    assert config.pixel_decoder.mask_features == features
    width = config.pixel_decoder.width
    maps = [torch.randn(1, c, h, w) for c, (h, w) in zip((8, 16, 32, 64), ((8, 16), *SIZES[::-1]), strict=True)]
    pixels = torch.randn(1, 2 + 8 + 32, width)
    decoder.layers = nn.ModuleList([Known(pixels)])
    found = decoder(
        maps, TextFeatures(torch.zeros(1, 3, 12), torch.ones(1, 3, dtype=torch.bool)), torch.randn(1, 3, 12)
    )
    finest = pixels[:, 10:].transpose(1, 2).reshape(1, width, 4, 8)
    large = doubled(doubled(finest, 2), 3)
    if features == "fpn":
        large = decoder.smooth(decoder.lateral(maps[0]) + large)
        large = torch.einsum("oc,bchw->bohw", decoder.mask_conv.weight[:, :, 0, 0], large)
        large = large + decoder.mask_conv.bias[:, None, None]
    else:  # no convolution behind the interpolation is printed
        assert decoder.mask_conv is None
    torch.testing.assert_close(found.mask_features, large, rtol=1e-4, atol=1e-5)
    for level, part in zip(found.levels, pixels.split([2, 8, 32], 1), strict=True):
        assert torch.equal(level, part)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("lgformer", ["deformable", "l2va", "ffn"]),
        ("lgformer-released", ["deformable", "early_ffn", "l2va", "ffn"]),
        ("alignformer", ["deformable", "ffn"]),
    ],
)
@torch.no_grad()
def test_a_pixel_decoder_layer_reads_the_words_before_its_last_feed_forward_network(name, order):
    config = tiny(name).model.pixel_decoder
    layer = PixelDecoderLayer(config, 12).eval()
    called, given_to, found_by = [], {}, {}
    for part in ("deformable", "early_ffn", "l2va", "ffn"):
        if (module := getattr(layer, part)) is not None:

            def note(module, given, found, part=part):
                called.append(part)
                given_to[part], found_by[part] = given[0], found

            module.register_forward_hook(note)
    count = sum(h * w for h, w in SIZES)
    x, words = torch.randn(1, count, config.width), torch.randn(1, 4, 12)
    nowhere, padding = torch.rand(1, count, 1, 2), torch.zeros(1, 4, dtype=torch.bool)
    out, _ = layer(x, torch.randn(count, config.width), nowhere, SIZES, words, torch.randn(4, 12), padding, False)
    assert called == order
    assert torch.equal(out, found_by["ffn"])
    before = layer.deformable_norm(x + found_by["deformable"])
    if "early_ffn" in order:
        assert torch.equal(given_to["early_ffn"], before)
        before = found_by["early_ffn"]
    if "l2va" in order:
        before = layer.l2va_norm(before + found_by["l2va"][0])
    assert torch.equal(given_to["ffn"], before)


@pytest.mark.parametrize("name", ["alignformer", "lgformer", "lgformer-released"])
@torch.no_grad()
def test_the_query_is_the_mean_of_the_words_as_they_leave_the_encoder(name):
    network = tiny_network(name).eval()
    wake(network)
    seen = {}
    network.pooled_to_query.register_forward_hook(lambda module, given, found: seen.update(pooled=given[0]))
    network.encoder.register_forward_hook(lambda module, given, found: seen.update(words=found[1]))
    height, width = tiny(name).input.size
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    text = network.encode_text(torch.randint(0, 40, (2, 5)), mask)
    network(network.encode_image(torch.randn(1, 3, height, width)), text, torch.zeros(2, dtype=torch.long))
    for t, count in enumerate((5, 3)):
        expected = sum(seen["words"][t, word] for word in range(count)) / count
        torch.testing.assert_close(seen["pooled"][t], expected, rtol=1e-4, atol=1e-5)
        own = sum(text.words[t, word] for word in range(count)) / count
        assert not torch.allclose(expected, own, atol=0.1)


def test_the_mean_of_real_words_by_hand():
    words = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [100.0, 1000.0]], [[2.0, 4.0], [7.0, 7.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(masked_mean(words, mask), torch.tensor([[2.0, 20.0], [2.0, 4.0]]))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_the_contrastive_loss_is_a_mean_over_the_misclassified_pixels(reduce, similarity):
    """Eq. 10-12 in plain numbers: two false positives, three false negatives, and every right pixel as an anchor."""
    generator = torch.Generator().manual_seed(5)
    prototype = torch.tensor([[1.0, 0.0, 0.0]])
    odds = [0.9, 0.4, -0.7, -0.2, -0.6, 0.8, 0.3, -0.5, -0.9]  # of nine pixels, with the prototype
    truth = [False, False, False, False, True, True, True, True, True]
    pixels = torch.randn(9, 3, generator=generator)
    pixels[:, 0] = torch.tensor(odds)
    right_negative, right_positive = [2, 3], [5, 6]
    # Two anchors, of which there are two, so that all are drawn once in whatever order.
    heat = 1.0 if similarity == "dot" else 0.1
    config = CMICConfig(0.5, 2, similarity, heat, reduce, "image", detach_weights=False, detach_anchors=False)
    found = cmic(prototype, pixels.T.reshape(1, 3, 3, 3), torch.tensor(truth).reshape(1, 3, 3), config)

    def sigma(x):
        return 1 / (1 + math.exp(-x))

    def alike(one, other):
        lengths = math.sqrt(float(one @ one) * float(other @ other)) if similarity == "cosine" else 1.0
        return float(one @ other) / lengths / heat

    def term(wrong, anchors, weight):
        total = 0.0
        for i in wrong:
            total += sum(-weight(odds[a]) * math.log(sigma(alike(pixels[i], pixels[a]))) for a in anchors)
        return total / len(wrong) / (len(anchors) if reduce == "mean" else 1)

    expected = term([0, 1], right_negative, lambda x: 1 - sigma(x)) + term([4, 7, 8], right_positive, sigma)
    assert float(found) == pytest.approx(expected, rel=1e-5)
