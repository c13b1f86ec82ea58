"""Neck, pixel transformer, projector and their position codes against CRIS's numbers and against formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from refseg.layers.heads import dynamic_conv, upsampler
from refseg.layers.neck import CrisNeck, PrintedNeck, append_coordinates, fusion_neck
from refseg.layers.pixel_transformer import PixelTransformer, PixelTransformerLayer
from refseg.layers.positions import sine_line, sine_plane

LIKE = torch.zeros(1)
NECK = {
    "first3": "f3_v_proj", "first4": "f2_v_proj", "first5": "f1_v_proj", "gate": "txt_proj", "gated": "norm_layer",
    "join4": "f2_cat", "join3": "f3_cat", "last3": "f4_proj3", "last4": "f4_proj4", "last5": "f4_proj5",
    "join": "aggr", "place.0": "coordconv.0.conv1", "place.1": "coordconv.1",
}  # fmt: skip
LAYER = {
    "self_norm": "norm1", "cross_norm": "norm2", "ffn_norm": "norm3", "attend_self": "self_attn",
    "attend_keys": "multihead_attn", "after_self": "self_attn_norm", "after_cross": "cross_attn_norm", "ffn": "ffn",
}  # fmt: skip
UPSAMPLER = {"1": "1", "3": "3", "4": "4"}


def load(module, tensors, prefix, names):
    """Published weights under our names; every parameter and statistic must be there, none may be left over."""
    found, used = {}, set()
    for key in module.state_dict():
        if key.endswith("num_batches_tracked"):
            found[key] = torch.tensor(0)
            continue
        ours = max((name for name in names if key.startswith(f"{name}.")), key=len)
        theirs = prefix + names[ours] + key.removeprefix(ours)
        found[key] = tensors[theirs]
        used.add(theirs)
    assert {k for k in tensors if k.startswith(prefix)} == used
    module.load_state_dict(found)
    return module.eval()


@torch.no_grad()
def test_neck_equals_published_numbers(reference):
    t = reference("cris_parts")
    neck = load(CrisNeck((8, 16, 8), (6, 8, 16), sentence_dim=8), t, "neck.weights.", NECK)
    output = neck(neck.project(t["neck.c3"], t["neck.c4"], t["neck.c5"]), t["neck.sentence"])
    torch.testing.assert_close(output, t["neck.output"], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_decoder_equals_published_numbers(reference):
    t = reference("cris_parts")
    names = {f"layers.{i}.{a}": f"layers.{i}.{b}" for i in range(2) for a, b in LAYER.items()} | {"norm": "norm"}
    decoder = load(PixelTransformer(2, 16, 4, 32, 0.1, extra_norms=True), t, "decoder.weights.", names)
    pixels, words = t["decoder.pixels"], t["decoder.words"]
    output = decoder(
        pixels.flatten(2).transpose(1, 2), sine_plane((6, 5), 16, LIKE), words, sine_line(7, 16, LIKE),
        t["decoder.padding"].bool(),
    )  # fmt: skip
    torch.testing.assert_close(output.transpose(1, 2), t["decoder.output"], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_projector_equals_published_numbers(reference):
    t = reference("cris_parts")
    tensors = {k.replace("weights.vis.", "weights."): v for k, v in t.items() if "projector.weights.vis" in k}
    enlarge = load(upsampler(12, 6, "cris"), tensors, "projector.weights.", UPSAMPLER)
    kernels = F.linear(t["projector.sentence"], t["projector.weights.txt.weight"], t["projector.weights.txt.bias"])
    output = dynamic_conv(enlarge(t["projector.pixels"]), kernels[:, None])
    torch.testing.assert_close(output, t["projector.output"], rtol=1e-4, atol=1e-5)


def test_a_neck_without_text_builds_no_gate_and_refuses_a_sentence():
    neck = CrisNeck((4, 6, 8), (5, 6, 7), None).eval()
    assert not any(name.startswith("gate") for name, _ in neck.named_parameters())
    maps = torch.randn(2, 4, 8, 12), torch.randn(2, 6, 4, 6), torch.randn(2, 8, 2, 3)
    projected = neck.project(*maps)
    assert [tuple(x.shape) for x in projected] == [(2, 5, 4, 6), (2, 6, 4, 6), (2, 7, 2, 3)]
    output = neck(projected, None)
    assert output.shape == (2, 6, 4, 6)
    with pytest.raises(ValueError, match="without text: pass None"):
        neck(projected, torch.randn(2, 9))


def test_a_neck_with_text_leaves_its_gate_out_without_a_sentence():
    torch.manual_seed(1)
    for style in ("cris", "printed"):
        check_gate(*(fusion_neck(style, (4, 6, 8), (5, 6, 7), width).eval() for width in (None, 3)))


def check_gate(plain, gated):
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if k in plain.state_dict()})
    projected = plain.project(torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4), torch.randn(2, 8, 2, 2))
    assert torch.equal(gated(projected, None), plain(projected, None))
    assert not torch.allclose(gated(projected, torch.randn(2, 3)), plain(projected, None))


@pytest.mark.parametrize("neck", [CrisNeck((4, 6, 8), (5, 6, 7), 3), PrintedNeck((4, 6, 8), 6, 3)])
def test_one_expression_cannot_train_a_text_gate(neck):
    projected = neck.project(torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4), torch.randn(1, 8, 2, 2))
    with pytest.raises(ValueError, match="1 expression .* at least 2"):
        neck(projected, torch.randn(1, 3))
    assert neck.eval()(projected, torch.randn(1, 3)).shape == (1, 6, 4, 4)


def test_coordinates_are_x_then_y_from_edge_to_edge():
    x = append_coordinates(torch.zeros(2, 1, 2, 3))
    assert x[1, 1].tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert x[1, 2].tolist() == [[-1, -1, -1], [1, 1, 1]]


def plain_layer(layer, x, at, keys, key_at, padding, heads):
    """Eq. 10-11 of CRFormer, written out with einsum."""

    def norm(y, module):
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return y * module.weight + module.bias

    def attention(module, query, key, value, hidden):
        q, k, v = (
            (F.linear(y, weight, bias)).unflatten(-1, (heads, -1))
            for y, weight, bias in zip(
                (query, key, value), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True
            )
        )
        scores = torch.einsum("tpnc,tknc->tnpk", q, k) / math.sqrt(q.shape[-1])
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None], -math.inf)
        read = torch.einsum("tnpk,tknc->tpnc", scores.softmax(-1), v).flatten(2)
        return F.linear(read, module.out_proj.weight, module.out_proj.bias)

    y = norm(x, layer.self_norm)
    x = x + attention(layer.attend_self, y + at, y + at, y, None)
    x = x + attention(layer.attend_keys, norm(x, layer.cross_norm) + at, keys + key_at, keys, padding)
    y = norm(x, layer.ffn_norm)
    first, last = layer.ffn[0], layer.ffn[-1]
    return x + F.linear(F.linear(y, first.weight, first.bias).clamp(min=0), last.weight, last.bias)


@torch.no_grad()
def test_plain_layer_by_hand():
    layer = PixelTransformerLayer(8, 2, 12, 0.0, extra_norms=False)
    for parameter in layer.parameters():
        parameter.normal_()
    x, at, keys, key_at = torch.randn(2, 6, 8), torch.randn(6, 8), torch.randn(2, 3, 8), torch.randn(3, 8)
    padding = torch.tensor([[False, False, True], [False, False, False]])
    for hidden in (padding, None):
        expected = plain_layer(layer, x, at, keys, key_at, hidden, heads=2)
        torch.testing.assert_close(layer(x, at, keys, key_at, hidden), expected, rtol=1e-4, atol=1e-4)
    assert len([name for name, _ in layer.named_parameters() if "norm" in name]) == 6  # three norms, none extra


def test_dropout_acts_in_training_only():
    layer = PixelTransformerLayer(8, 2, 12, 0.5, extra_norms=True)
    arguments = torch.randn(1, 6, 8), torch.zeros(6, 8), torch.randn(1, 3, 8), torch.zeros(3, 8), None
    assert not torch.equal(layer(*arguments), layer(*arguments))
    layer.eval()
    assert torch.equal(layer(*arguments), layer(*arguments))


def test_dynamic_convolution_equals_a_loop():
    features, kernels = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 28)
    output = dynamic_conv(features, kernels)
    padded = F.pad(features, (1, 1, 1, 1))
    for t in range(2):
        for q in range(6):
            for y, x in ((0, 0), (3, 4), (2, 1)):
                window = padded[t, :, y : y + 3, x : x + 3].flatten()
                expected = (window * kernels[t, q, :27]).sum() + kernels[t, q, 27]
                torch.testing.assert_close(output[t, q, y, x], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("style", ["single", "cris"])
def test_upsampler_quadruples_and_only_the_paper_style_ends_in_a_relu(style):
    layers = upsampler(8, 6, style).eval()
    output = layers(torch.randn(2, 8, 3, 4))
    assert output.shape == (2, 6, 12, 16)
    assert bool((output < 0).any()) is (style == "cris")
    assert sum(isinstance(layer, torch.nn.Upsample) for layer in layers) == 2


def test_line_and_plane_follow_the_formula():
    line = sine_line(4, 6, LIKE)
    for p in range(4):
        for i in range(3):
            angle = p * 10000 ** (-2 * i / 6)
            assert float(line[p, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(line[p, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)
    plane = sine_plane((2, 3), 8, LIKE).view(2, 3, 8)
    for row in range(2):
        for column in range(3):
            code = [f(at * 10000 ** (-2 * i / 4)) for at in (column, row) for i in (0, 1) for f in (math.sin, math.cos)]
            torch.testing.assert_close(plane[row, column], torch.tensor(code))


def test_position_codes_refuse_widths_that_they_cannot_fill():
    with pytest.raises(ValueError, match="width 5: .* multiple of 2"):
        sine_line(3, 5, LIKE)
    with pytest.raises(ValueError, match="width 6: .* multiple of 4"):
        sine_plane((3, 3), 6, LIKE)
