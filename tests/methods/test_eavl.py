from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch
import torch.nn.functional as F

from gradients import gradients
from refseg.methods.eavl import EAVL, tokens_at_stride_16
from refseg.presets import get_preset
from refseg.presets.base import override
from tiny import some_input, tiny_network, wake

ROWS = (
    "rn50", "queries-32", "queries-16", "queries-8", "queries-4", "queries-2", "queries-1", "fixed-kernel",
    "fixed-kernel-16", "fixed-kernel-8", "without-global", "without-estimator", "without-global-and-estimator",
)  # fmt: skip


def run(network, details=False):
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index, details)
    return output, targets


def changed(name, **changes):
    torch.manual_seed(0)
    return EAVL(override(tiny_network(name).config, changes)).eval()


def parts(network):
    return {name.split(".")[0] for name, _ in network.named_parameters()}


@pytest.mark.parametrize("name", ["eavl", "eavl/vit-b16", "eavl/without-estimator"])
def test_the_answer_is_the_weighted_sum_of_one_convolution_per_query(name):
    network = tiny_network(name).eval()
    seen = {}
    network.upsampler.register_forward_hook(lambda *_: seen.update(features=_[2]))
    network.kernel.register_forward_hook(lambda *_: seen.update(kernels=_[2]))
    output, _ = run(network, details=True)
    scores, channels = output.details["query_scores"], seen["features"].shape[1]
    for t in range(3):
        total = torch.zeros(16, 16)
        for q in range(24):
            kernels = seen["kernels"][t, q].clamp(min=0)
            kernel, bias = kernels[:-1].reshape(1, channels, 3, 3), kernels[-1:]
            mask = F.conv2d(seen["features"][t : t + 1], kernel, bias, padding=1)[0, 0]
            torch.testing.assert_close(output.details["query_masks"][t, q], mask)
            total += scores[t, q] * mask
        torch.testing.assert_close(output.logits[t, 0], total)
    expected = torch.ones(3, 24) if name.endswith("estimator") else scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(output.details["word_attention"].sum(2), torch.ones(3, 24))


def test_scores_follow_the_estimators_equation():
    network = tiny_network("eavl").eval()
    wake(network)
    seen = {}
    network.generate.register_forward_hook(lambda *_: seen.update(queries=_[2][0]))
    output, _ = run(network, details=True)
    x, attention = seen["queries"], network.estimator.attention
    heads, width = attention.num_heads, x.shape[2] // attention.num_heads
    q, k, v = (
        F.linear(x, w, b).unflatten(2, (heads, width))
        for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )
    weights = (torch.einsum("tqhc,tkhc->thqk", q, k) * width**-0.5).softmax(-1)
    mixed = torch.einsum("thqk,tkhc->tqhc", weights, v).flatten(2)
    mixed = mixed @ attention.out_proj.weight.T + attention.out_proj.bias
    expected = (mixed @ network.estimator.score.weight[0]).softmax(-1)
    torch.testing.assert_close(output.details["query_scores"], expected)


def test_words_are_coloured_by_the_whole_image():
    """Equation 8."""
    for name, with_global in (("eavl", True), ("eavl/without-global", False)):
        network = tiny_network(name).eval()
        seen = {}
        network.generate.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.update(words=inputs[1]))
        pixels, tokens, mask, index, _ = some_input()
        image, text = network.encode_image(pixels), network.encode_text(tokens, mask)
        network(image, text, index)
        expected = (text.words @ network.word_in.weight.T).clamp(min=0)
        if with_global:
            pooled = network.encoder(pixels).pooled
            vector = (pooled @ network.global_out.weight.T @ network.global_in.weight.T).clamp(min=0)
            expected = expected * vector[index][:, None]
        torch.testing.assert_close(seen["words"], expected)


def test_equation_11_as_printed():
    """One plain convolution between two enlargements; a ReLU on the kernels and none on the features."""
    network = changed("eavl", kernel_relu=True, upsampler="printed")
    seen = {}
    network.decoder.register_forward_hook(lambda *_: seen.update(decoded=_[2]))
    network.upsampler.register_forward_hook(lambda *_: seen.update(features=_[2]))
    network.generate.register_forward_hook(lambda *_: seen.update(queries=_[2][0]))
    output, _ = run(network, details=True)

    def twice(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    weight, bias = dict(network.upsampler.named_parameters()).values()
    decoded = seen["decoded"].transpose(1, 2).unflatten(2, (4, 4))
    features = twice(F.conv2d(twice(decoded), weight, bias, padding=1))
    torch.testing.assert_close(seen["features"], features)
    kernels = (seen["queries"] @ network.kernel.weight.T + network.kernel.bias).clamp(min=0)  # (T, Q, 9 C + 1)
    kernel = kernels[1, 5, :-1].reshape(1, features.shape[1], 3, 3)
    mask = F.conv2d(features[1:2], kernel, kernels[1, 5, -1:], padding=1)[0, 0]
    torch.testing.assert_close(output.details["query_masks"][1, 5], mask)
    assert (features < 0).any() and (kernels >= 0).all()


def test_the_printed_form_starts_with_both_signs_and_only_a_second_relu_would_take_one_away():
    for name in ("eavl", "eavl/vit-b16", "eavl-shapes"):
        logits = torch.stack([run(tiny_network(name, seed).eval())[0].logits for seed in range(6)])
        assert 0.2 < (logits < 0).float().mean() < 0.8
    assert (run(changed("eavl", kernel_relu=True, upsampler="single"))[0].logits >= 0).all()
    dynamic = [model for row in ROWS if (model := get_preset(f"eavl/{row}").model).aligner == "dynamic"]
    assert all(model.kernel_relu and model.upsampler == "printed" for model in dynamic) and len(dynamic) == 10


@pytest.mark.parametrize("name", ["eavl", "eavl/vit-b16", "eavl-shapes"])
def test_queries_start_apart_and_everything_behind_the_towers_learns_from_the_first_step(name):
    """A gradient far below Adam's epsilon of 1e-8 makes no step."""
    network = tiny_network(name)
    seen = {}
    network.generate.register_forward_hook(lambda *_: seen.update(queries=_[2][0]))
    sizes = gradients(network)
    queries = seen["queries"]
    assert (queries.std(1).mean() / queries.abs().mean()) > 0.05
    learning = [
        size
        for name, size in sizes.items()
        if not name.startswith(("encoder.", "text_encoder.")) and not any(fnmatch(name, p) for p in network.inert)
    ]
    assert min(learning) > 1e-8


def test_the_neck_is_equations_2_to_6_and_both_necks_read_the_same_maps():
    network = tiny_network("eavl").eval()
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.uniform_(0.5, 2)
    seen = {}
    clip = tuple(torch.randn(2, c, h, h) for c, h in zip(network.scales.channels, (8, 4, 2), strict=True))
    network.scales.register_forward_hook(lambda _, __, found: (clip, found[1]))
    pixels, tokens, mask, index, _ = some_input()
    text = network.encode_text(tokens, mask)
    network.neck.register_forward_hook(lambda *_: seen.update(fused=_[2]))
    network.dense_neck.register_forward_hook(lambda *_: seen.update(dense=_[2]))
    network(network.encode_image(pixels), text, index)
    weights = network.state_dict()

    def matrix(x, name):  # sigma(x W), a batch norm in between
        if x.dim() == 4:
            x = F.conv2d(x, weights[f"{name}.0.weight"])
        else:
            x = x @ weights[f"{name}.0.weight"].T
        mean, var, gain, bias = (weights[f"{name}.1.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        shape = (-1, 1, 1) if x.dim() == 4 else (-1,)
        x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * gain.view(shape) + bias.view(shape)
        return x.clamp(min=0)

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    v2, v3, v4 = (F.conv2d(x, weights[f"to_widths.{i}.weight"]) for i, x in enumerate(clip))  # F_v2 to F_v4
    v2 = v2.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))  # Avg, in front of W_v2
    for neck, expected in (("neck", seen["fused"]), ("dense_neck", seen["dense"])):
        gated = neck == "neck"
        f2, f3, f4 = (x[index] if gated else x for x in (v2, v3, v4))
        m4 = matrix(f4, f"{neck}.v4")
        if gated:
            m4 = m4 * matrix(text.sentence, "neck.gate")[:, :, None, None]
        m4 = up(m4)
        m3 = torch.cat([matrix(m4, f"{neck}.m4"), matrix(f3, f"{neck}.v3")], 1)
        m2 = torch.cat([matrix(m3, f"{neck}.m3"), matrix(f2, f"{neck}.v2")], 1)
        joined = F.conv2d(torch.cat([m2, m3, m4], 1), weights[f"{neck}.join.weight"], weights[f"{neck}.join.bias"])
        line = torch.linspace(-1, 1, 4)
        at = torch.stack([line.expand(4, 4), line[:, None].expand(4, 4)]).expand(len(joined), 2, 4, 4)
        place = (weights[f"{neck}.place.weight"], weights[f"{neck}.place.bias"])
        found = F.conv2d(torch.cat([joined, at], 1), *place, padding=1)
        torch.testing.assert_close(expected, found, rtol=1e-4, atol=1e-5)


def test_ablations_build_what_they_say():
    full = parts(tiny_network("eavl/rn50"))
    assert {"estimator", "kernel", "global_in", "global_out", "dense_neck", "generate"} <= full
    assert parts(tiny_network("eavl/without-estimator")) == full - {"estimator"}
    assert parts(tiny_network("eavl/without-global")) == full - {"global_in", "global_out"}
    assert parts(tiny_network("eavl/fixed-kernel")) == (full - {"estimator", "kernel"}) | {"fixed_kernel"}
    for row, queries in (("queries-1", 1), ("queries-32", 32), ("fixed-kernel-8", 8), ("rn50", 24)):
        network = tiny_network(f"eavl/{row}").eval()
        assert run(network, details=True)[0].details["word_attention"].shape == (3, queries, 7)


def test_the_options_of_the_parent_project_run():
    parent = {"pool_residual": True, "estimator": "lean", "upsampler": "cris", "neck_style": "cris"}
    network = changed("eavl", share_necks=True, **parent)
    assert "dense_neck" not in parts(network) and "prepare" in {
        name.split(".")[1] for name, _ in network.estimator.named_parameters("estimator")
    }
    output, targets = run(network, details=True)
    torch.testing.assert_close(output.details["query_scores"].sum(1), torch.ones(3))
    assert torch.isfinite(network.loss(output, targets)["pixel_text"])
    separate = changed("eavl", share_necks=False, **parent)
    assert sum(p.numel() for p in separate.parameters()) > sum(p.numel() for p in network.parameters())


def test_the_image_is_encoded_without_the_words_down_to_the_maps_of_the_queries():
    network = tiny_network("eavl").eval()
    pixels, *_ = some_input()
    maps = network.encode_image(pixels).maps
    assert {k: tuple(v.shape[2:]) for k, v in maps.items()} == {
        "neck0": (4, 4), "neck1": (4, 4), "neck2": (2, 2), "queries": (4, 4), "pooled": (),
    }  # fmt: skip
    assert maps["queries"].shape[1] == 24


def test_tokens_of_14_pixels_are_read_where_the_16_pixel_cells_are():
    # A ramp over the columns: token k covers pixels 14 k to 14 k + 14, so its centre 14 k + 7 is its value.
    tokens = (torch.arange(7.0) * 14 + 7).expand(1, 1, 5, 7)  # 70 x 98 pixels, of which 64 x 96 are the image
    found = tokens_at_stride_16(tokens, 14, (4, 6))
    torch.testing.assert_close(found[0, 0, 2], torch.arange(6.0) * 16 + 8)  # the centres of 16-pixel cells
    assert tokens_at_stride_16(tokens, 16, (5, 7)) is tokens


@pytest.mark.parametrize("name", ["eavl/vit-b16", "eavl/vit-l14"])
def test_tokens_of_any_patch_become_maps_of_strides_8_16_and_32(name):
    network = tiny_network(name).eval()
    scales, pooled = network.scales(network.encoder, torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in scales] == [(8, 12), (4, 6), (2, 3)]
    assert pooled.shape == (2, network.config.vision.joint)
    assert get_preset("eavl/vit-l14").model.vision.patch == 14


def test_loss_by_hand():
    network = tiny_network("eavl").train()
    output, targets = run(network)
    small = targets[:, 2::4, 2::4].float()
    p = output.logits[:, 0].sigmoid()
    expected = -(small * p.log() + (1 - small) * (1 - p).log()).mean()
    terms = network.loss(output, targets)
    assert set(terms) == {"pixel_text"}
    torch.testing.assert_close(terms["pixel_text"], expected)


def test_the_head_may_learn_faster_than_the_towers():
    network = changed("eavl", head_lr_mult=10.0)
    names = {id(p): name for name, p in network.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in network.param_groups(1e-5, 0.0) for p in group["params"]}
    assert {rate for name, rate in rates.items() if name.startswith(("encoder.", "text_encoder."))} == {1e-5}
    assert {rate for name, rate in rates.items() if not name.startswith(("encoder.", "text_encoder."))} == {1e-4}
    assert {group["lr"] for group in tiny_network("eavl").param_groups(1e-5, 0.0)} == {1e-5}


def test_what_cannot_be_built_is_refused():
    config = get_preset("eavl").model
    for changes, message in (
        ({"num_queries": 0}, "a whole number from 1"),
        ({"aligner": "fixed", "kernel_relu": False}, "accepted is 'off'"),
        ({"aligner": "fixed", "estimator": "off"}, "no kernels from queries"),
        ({"heads": 7}, "of 7 heads"),
        ({"neck": (256, 510, 1024)}, "multiple of 4"),
        ({"grid": (0, 30)}, "a whole number from 1"),
        ({"decoder_layers": -1}, "decoder_layers -1"),
        ({"head_lr_mult": 0.0}, "head_lr_mult 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            override(config, changes)
    with pytest.raises(ValueError, match="no attention pool"):
        override(get_preset("eavl/vit-b16").model, {"pool_residual": True})


def test_the_decoder_is_a_standard_one():
    layers = tiny_network("eavl").decoder.layers
    norms = [sum(isinstance(module, torch.nn.LayerNorm) for module in layer.modules()) for layer in layers]
    assert norms == [3, 3]  # in front of self-attention, attention to the queries and feed-forward network


def test_paper_size_has_the_papers_numbers():
    preset = get_preset("eavl")
    assert preset.model.vision.channels == (256, 512, 1024, 2048) and preset.model.vision.layers == (3, 4, 23, 3)
    assert get_preset("eavl/rn50").model.vision.layers == (3, 4, 6, 3)
    assert (preset.model.num_queries, preset.model.heads, preset.model.neck[1], preset.model.ffn) == (24, 8, 512, 2048)
    assert preset.input.size == (480, 480) and preset.model.grid == (30, 30) and preset.input.resize == "letterbox"
    recipe = preset.recipe
    assert (recipe.lr, recipe.weight_decay, recipe.images_per_batch, recipe.steps) == (1e-5, 0.0, 64, 66200)
    assert get_preset("eavl/queries-1").scores["refcoco+ testA mIoU"] == 65.42
