from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from refseg.methods.jmceln import JMCELN, LSRAN, PAN, Neck, Stage
from refseg.presets import get_preset
from refseg.presets.base import override
from refseg.types import TextFeatures
from tiny import some_input, tiny, tiny_network, wake

ROWS = ("baseline", "lsran-only", "cascade-only", "without-pan", "without-adaptive")


def run(network, details=False):
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index, details)
    return output, targets


def variant(changes, name="jmceln"):
    torch.manual_seed(0)
    return JMCELN(override(tiny(name).model, changes))


def liven(module):
    """Weights large enough to matter and norms that do something, as after some training."""
    wake(module)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return module.eval()


# By hand, without the modules under test.


def batch_norm(x, norm):
    """Evaluation: (T, C, ...) by the running statistics."""
    shape = (1, -1) + (1,) * (x.dim() - 2)
    scale = norm.weight / (norm.running_var + 1e-5).sqrt()
    return (x - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)


def leaky(x, slope=0.1):
    return torch.where(x > 0, x, slope * x)


def convolve(x, weight, bias=None, dilation=1):
    """A convolution that keeps the size, as a sum over the kernel of shifted maps."""
    t, _, h, w = x.shape
    k = weight.shape[-1]
    margin = k // 2 * dilation
    padded = torch.zeros(t, x.shape[1], h + 2 * margin, w + 2 * margin)
    padded[:, :, margin : margin + h, margin : margin + w] = x
    found = torch.zeros(t, weight.shape[0], h, w)
    for i in range(k):
        for j in range(k):
            shifted = padded[:, :, i * dilation : i * dilation + h, j * dilation : j * dilation + w]
            found += torch.einsum("oc,tchw->tohw", weight[:, :, i, j], shifted)
    return found if bias is None else found + bias[:, None, None]


def doubled(x):
    """Bilinear doubling of the last axis: a quarter of the neighbour, three quarters of the own pixel."""
    before = torch.cat([x[..., :1], x[..., :-1]], -1)
    after = torch.cat([x[..., 1:], x[..., -1:]], -1)
    return torch.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], -1).flatten(-2)


def attention(module, query, key, value, heads):
    """Multi-head attention (Vaswani et al.), written out; returns the answer and the weights per head."""
    c = query.shape[-1]
    projected = [
        torch.einsum("txc,oc->txo", x, w) + b
        for x, w, b in zip(
            (query, key, value), module.in_proj_weight.split(c), module.in_proj_bias.split(c), strict=True
        )
    ]
    q, k, v = (x.unflatten(-1, (heads, c // heads)) for x in projected)  # (T, X, N, d)
    weights = (torch.einsum("tqnd,tknd->tnqk", q, k) / math.sqrt(c // heads)).softmax(-1)
    gathered = torch.einsum("tnqk,tknd->tqnd", weights, v).flatten(2)
    return gathered @ module.out_proj.weight.T + module.out_proj.bias, weights


def test_neck_is_eq_1_and_2():
    neck = liven(Neck((6, 10, 5), joint=7, width=4, slope=0.1))
    fine, middle, deep = torch.randn(2, 6, 8, 12), torch.randn(2, 10, 4, 6), torch.randn(2, 5, 2, 3)
    sentence = torch.randn(2, 7)

    def sigma(x, part):
        return leaky(batch_norm(torch.einsum("oc,tchw->tohw", part[0].weight[:, :, 0, 0], x), part[1]))

    with torch.no_grad():
        f_s = leaky(batch_norm(sentence @ neck.sentence[0].weight.T, neck.sentence[1]))
        f_m = f_s[:, :, None, None] * sigma(deep, neck.maps[2])  # eq. 1
        for part, lateral, merge in ((neck.maps[1], middle, neck.merges[0]), (neck.maps[0], fine, neck.merges[1])):
            up = doubled(doubled(f_m.transpose(2, 3)).transpose(2, 3))
            f_m = sigma(torch.cat([up, sigma(lateral, part)], 1), merge)  # eq. 2
        found = neck(neck.project((fine, middle, deep)), sentence)
    assert found.shape == (2, 4, 8, 12)
    torch.testing.assert_close(found, f_m)


def stage_by_hand(stage, query, joint, values, current, heads=2):
    """Eq. 3 and 4: maps as (T, P, C)."""
    gathered, weights = attention(stage.learn, query, joint, values, heads)
    query = gathered + query
    read, _ = attention(stage.predict, current, query, query, heads)
    return query, read + current, weights


@torch.no_grad()
def test_a_stage_without_pan_is_eq_3_and_4():
    stage = liven(Stage(8, heads=2, pan=False))
    query, joint, values, current = torch.randn(2, 3, 8), *(torch.randn(2, 20, 8) for _ in range(3))
    as_map = current.transpose(1, 2).unflatten(2, (4, 5))
    expected = stage_by_hand(stage, query, joint, values, current)
    for shown in (False, True):
        found_query, found_map, shown_weights = stage(query, joint, values, as_map, None, shown)
        torch.testing.assert_close(found_query, expected[0])
        torch.testing.assert_close(found_map.flatten(2).transpose(1, 2), expected[1])
        assert (shown_weights is not None) == shown
    torch.testing.assert_close(shown_weights, expected[2].mean(1))


@torch.no_grad()
def test_position_codes_reach_the_queries_of_eq_4_but_not_what_is_added_to():
    stage = liven(Stage(8, heads=2, pan=False))
    query, joint, current, code = (torch.randn(*shape) for shape in ((2, 3, 8), (2, 20, 8), (2, 20, 8), (20, 8)))
    new_query, _, _ = stage_by_hand(stage, query, joint, current, current)
    expected = attention(stage.predict, current + code, new_query, new_query, 2)[0] + current
    as_map = current.transpose(1, 2).unflatten(2, (4, 5))
    _, found, _ = stage(query, joint, current, as_map, code, False)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected)


@torch.no_grad()
def test_pan_filters_three_times_normalises_and_adds_the_previous_map():
    pan = liven(PAN(8))
    current, previous = torch.randn(2, 8, 5, 6), torch.randn(2, 8, 5, 6)
    assert pan.parts == (2, 4, 8)
    projected = convolve(current, pan.project.weight, pan.project.bias)
    depthwise = torch.stack(
        [convolve(projected[:, c : c + 1], pan.depthwise.weight[c : c + 1])[:, 0] for c in range(14)], 1
    )
    depthwise += pan.depthwise.bias[:, None, None]
    one, two, three = depthwise[:, :2], depthwise[:, 2:6], depthwise[:, 6:]
    g = convolve(previous, pan.first.weight, pan.first.bias) * one
    g = convolve(g, pan.second.weight, pan.second.bias) * two
    g = convolve(g, pan.third.weight, pan.third.bias) * three
    torch.testing.assert_close(pan(current, previous), pan.norm(g) + previous)
    assert not torch.allclose(pan.norm(g), g, atol=0.1)  # the norm itself has a test of its own


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_paper_size_parts_have_as_many_parameters_as_the_paper_implies():
    config = get_preset("jmceln").model
    with torch.device("meta"):
        pan, stage, lsran = PAN(1024), Stage(1024, 8, pan=True), LSRAN(config)
    weights = 1024 * 1792 + 49 * 1792 + 1024 * 256 + 9 * 256 * 512 + 9 * 512 * 1024
    biases = 1792 + 1792 + 256 + 512 + 1024
    assert count(pan) == weights + biases + 2 * 1024 + 6  # the switch norm: scale and shift, two times three weights
    attention_size = 4 * (1024 * 1024 + 1024)
    assert count(stage) == 2 * attention_size + count(pan)
    assert 6 * count(stage) == pytest.approx(99e6, rel=0.01)
    assert count(lsran) == pytest.approx(24e6, rel=0.02)


@torch.no_grad()
def test_window_attention_is_per_window_and_blind_to_padding():
    config = override(tiny("jmceln").model, {"width": 16, "heads": 2, "window": 3})
    lsran = liven(LSRAN(config))
    x = torch.randn(2, 16, 5, 7)  # windows of 3: the last row and the last column of windows are cut
    part = lsran.attention
    normal = F.layer_norm(x.permute(0, 2, 3, 1), (16,), lsran.norm.weight, lsran.norm.bias)
    expected = torch.zeros(2, 5, 7, 16)
    for t in range(2):
        for top in (0, 3):
            for left in (0, 3, 6):
                at = [(i, j) for i in range(top, min(top + 3, 5)) for j in range(left, min(left + 3, 7))]
                cells = torch.stack([normal[t, i, j] for i, j in at])  # (S, C)
                q, k, v = (cells @ f.weight.T + f.bias for f in (part.query, part.key, part.value))
                for n in range(2):
                    own = slice(8 * n, 8 * n + 8)
                    bias = torch.tensor(
                        [
                            [float(part.relative_position_bias_table[(a - c + 2) * 5 + (b - d + 2), n]) for c, d in at]
                            for a, b in at
                        ]
                    )
                    answer = (q[:, own] @ k[:, own].T / math.sqrt(8) + bias).softmax(-1) @ v[:, own]
                    for (i, j), row in zip(at, answer, strict=True):
                        expected[t, i, j, own] = row
    expected = expected @ lsran.attended.weight.T + lsran.attended.bias
    torch.testing.assert_close(lsran.attend(x), x + expected.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sigmoid", [False, True])
def test_lsran_multiplies_dilated_relations_with_a_convolution_of_its_input(sigmoid):
    lsran = liven(LSRAN(override(tiny("jmceln").model, {"boundary_sigmoid": sigmoid})))
    x = torch.randn(2, 16, 8, 8)
    seen = lsran.attend(x)
    branches = [
        leaky(batch_norm(convolve(seen, relate[0].weight, dilation=d), relate[1]))
        for relate, d in zip(lsran.relations, (1, 3, 6, 9), strict=True)
    ]
    assert [tuple(b.shape) for b in branches] == [(2, 4, 8, 8)] * 4
    relations = leaky(batch_norm(convolve(torch.cat(branches, 1), lsran.mix[0].weight), lsran.mix[1]))
    boundary = batch_norm(convolve(x, lsran.boundary[0].weight), lsran.boundary[1])
    expected = relations * (1 / (1 + (-boundary).exp()) if sigmoid else boundary)
    torch.testing.assert_close(lsran(x), expected, rtol=1e-4, atol=1e-5)


def watch(network):
    """Records what every stage is given and returns, and F_m."""
    seen = {"joint": [], "in": [], "out": []}
    network.neck.register_forward_hook(lambda module, inputs, out: seen["joint"].append(out))
    for stage in network.stages:
        stage.register_forward_pre_hook(lambda module, inputs: seen["in"].append(inputs))
        stage.register_forward_hook(lambda module, inputs, out: seen["out"].append(out))
    return seen


def as_pixels(x):
    return x.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("row", ["jmceln", "jmceln/without-adaptive"])
def test_stages_chain_embeddings_and_maps_and_gather_adaptively_or_from_stage_0(row):
    network = liven(tiny_network(row))
    seen = watch(network)
    run(network)
    assert len(seen["in"]) == 3
    first = seen["in"][0]
    torch.testing.assert_close(first[0], network.embeddings.expand(3, -1, -1))
    for i, (query, keys, values, current, position, _) in enumerate(seen["in"]):
        assert position is None and current.shape == (3, 16, 8, 8)
        assert torch.equal(keys, as_pixels(seen["joint"][0]))
        source = current if row == "jmceln" else first[3]
        assert torch.equal(values, as_pixels(source))
        if i:
            assert torch.equal(query, seen["out"][i - 1][0]) and torch.equal(current, seen["out"][i - 1][1])
    assert not torch.allclose(seen["in"][1][3], first[3])


def test_without_lsran_the_first_map_is_that_of_the_neck_and_with_it_is_not():
    for row, same in (("jmceln/cascade-only", True), ("jmceln/without-pan", False)):
        network = liven(tiny_network(row))
        seen = watch(network)
        run(network)
        assert torch.equal(seen["in"][0][3], seen["joint"][0]) == same


def test_what_an_ablation_switches_off_is_not_built():
    names = {row: [k for k, _ in tiny_network(f"jmceln/{row}").named_parameters()] for row in ROWS}
    full = [k for k, _ in tiny_network("jmceln").named_parameters()]

    def parts(row):
        keys = names[row]
        built = {part for part in ("lsran", "stages", "embeddings") if any(k.split(".")[0] == part for k in keys)}
        return built | ({"pan"} if any(".align." in k for k in keys) else set())

    assert parts("baseline") == set()
    assert parts("lsran-only") == {"lsran"}
    assert parts("cascade-only") == {"stages", "embeddings"}
    assert parts("without-pan") == {"lsran", "stages", "embeddings"}
    assert names["without-adaptive"] == full
    assert any(".align.norm.mean_weight" in k for k in full)
    assert len({k.split(".")[1] for k in full if k.startswith("stages.")}) == 3


def test_layer4_is_read_without_building_the_attention_pool():
    network = tiny_network("jmceln")
    assert not any("attnpool" in k for k in network.state_dict())
    assert network.neck.maps[2][0].in_channels == 32 * 4  # tiny width 4
    assert get_preset("jmceln").model.vision.channels[3] == 2048
    assert variant({"c5": "attnpool"}).neck.maps[2][0].in_channels == 16
    assert torch.isfinite(run(network.eval())[0].logits).all()


@pytest.mark.parametrize("c5", ["attnpool", "layer4"])
def test_reads_strides_8_and_16_and_the_chosen_deepest_map(c5):
    network = liven(variant({"c5": c5}))
    pixels = some_input()[0]
    found = network.encoder(pixels)
    deepest = found.spatial if c5 == "attnpool" else found.stages[3]
    maps = network.encode_image(pixels).maps
    for name, source, project in zip(
        ("fine", "middle", "deep"), (found.stages[1], found.stages[2], deepest), network.neck.maps, strict=True
    ):
        torch.testing.assert_close(maps[name], project(source))


def test_shared_stages_have_the_weights_of_one():
    own, shared = variant({}), variant({"share_stages": True})
    assert count(own.stages) == 3 * count(shared.stages)
    seen = watch(liven(shared))
    run(shared)
    assert len(seen["out"]) == 3  # the one stage, three times
    assert not hasattr(variant({"stages": 0, "share_stages": True}), "embeddings")


def test_sine_positions_enter_the_keys_of_eq_3():
    plain, coded = liven(variant({})), variant({"sine_positions": True}).eval()
    coded.load_state_dict(plain.state_dict())
    seen = watch(coded)
    output, _ = run(coded)
    added = seen["in"][0][1] - as_pixels(seen["joint"][0])
    code = seen["in"][0][4]
    assert code.shape == (64, 16) and float(code.abs().max()) <= 1
    torch.testing.assert_close(added, code.expand(3, -1, -1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(output.logits, run(plain)[0].logits)


def test_reasons_at_stride_8_and_answers_at_network_size():
    network = variant({"window": 13}).eval()
    seen = watch(network)
    asked = []
    network.lsran.attention.register_forward_pre_hook(lambda module, inputs: asked.append(inputs))
    pixels = torch.randn(1, 3, 416, 416)
    _, tokens, mask, _, _ = some_input()
    with torch.inference_mode():
        index = torch.zeros(2, dtype=torch.long)
        output = network(network.encode_image(pixels), network.encode_text(tokens[:2], mask[:2]), index)
    assert output.logits.shape == (2, 1, 416, 416)
    assert {tuple(x[1].shape) for x in seen["out"]} == {(2, 16, 52, 52)}
    windows, padding = asked[0]
    assert windows.shape == (2 * 4 * 4, 13 * 13, 3 * 16) and padding is None  # 52 = 4 x 13


def test_other_sizes_are_padded_to_whole_strides_and_cropped():
    network = liven(tiny_network("jmceln"))
    _, tokens, mask, _, _ = some_input()
    pixels = torch.randn(1, 3, 50, 93)
    padded = torch.zeros(1, 3, 64, 96)
    padded[:, :, :50, :93] = pixels
    text, index = network.encode_text(tokens, mask), torch.zeros(3, dtype=torch.long)
    found = network(network.encode_image(pixels), text, index, details=True)
    expected = network(network.encode_image(padded), text, index, details=True)
    assert found.logits.shape == (3, 1, 50, 93)
    torch.testing.assert_close(found.logits, expected.logits[:, :, :50, :93])
    assert found.details["embedding_attention"].shape == (3, 4, 7, 12)


def test_the_encoder_and_its_projections_run_once_for_all_expressions():
    network = tiny_network("jmceln").eval()
    pixels, tokens, mask, _, _ = some_input()
    image = network.encode_image(pixels[:1])
    assert {k: tuple(v.shape) for k, v in image.maps.items()} == {
        "fine": (1, 16, 8, 8), "middle": (1, 16, 4, 4), "deep": (1, 16, 2, 2),
    }  # fmt: skip
    calls = []
    for part in (network.encoder, *network.neck.maps):
        part.register_forward_hook(lambda *_: calls.append(1))
    output = network(image, network.encode_text(tokens, mask), torch.zeros(3, dtype=torch.long))
    assert output.logits.shape == (3, 1, 64, 64) and not calls


def test_language_enters_through_the_sentence_alone():
    network = liven(tiny_network("jmceln"))
    pixels, tokens, mask, index, _ = some_input()
    image, text = network.encode_image(pixels), network.encode_text(tokens, mask)
    before = network(image, text, index).logits
    other_words = TextFeatures(torch.randn_like(text.words), text.mask, text.sentence)
    assert torch.equal(network(image, other_words, index).logits, before)
    other_sentence = network.encode_text(tokens.roll(1, 0), mask.roll(1, 0))
    after = network(image, other_sentence, index).logits
    assert float((after - before).detach().abs().amax((1, 2, 3)).min()) > 1e-3


def test_logits_are_foreground_minus_background_and_the_paper_loss_is_plain_cross_entropy():
    network = tiny_network("jmceln").train()
    output, targets = run(network)
    classes = output.aux["class_logits"]
    assert classes.shape == (3, 2, 64, 64)
    torch.testing.assert_close(output.logits[:, 0], classes[:, 1] - classes[:, 0])
    foreground = classes[:, 1].exp() / classes.exp().sum(1)
    expected = -torch.where(targets, foreground, 1 - foreground).log().mean()
    terms = network.loss(output, targets)
    assert set(terms) == {"cross_entropy"}
    torch.testing.assert_close(terms["cross_entropy"], expected)
    without_classes = network.loss(type(output)(output.logits), targets)
    torch.testing.assert_close(without_classes["cross_entropy"], expected)


def test_compact_loss_adds_dice_of_the_foreground():
    network = tiny_network("jmceln-shapes").train()
    output, targets = run(network)
    p, y = output.logits[:, 0].sigmoid().flatten(1), targets.flatten(1).float()
    expected = (1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)).mean()
    terms = network.loss(output, targets)
    assert set(terms) == {"cross_entropy", "dice"}
    torch.testing.assert_close(terms["dice"], expected)


def test_details_have_the_documented_shapes():
    output, _ = run(liven(tiny_network("jmceln")), details=True)
    shapes = {k: tuple(v.shape) for k, v in output.details.items()}
    assert shapes == {"masks_by_stage": (3, 4, 64, 64), "embedding_attention": (3, 4, 8, 8)}
    assert torch.equal(output.details["masks_by_stage"][:, -1:], output.logits)
    assert not torch.allclose(output.details["masks_by_stage"][:, 0], output.logits[:, 0])
    torch.testing.assert_close(output.details["embedding_attention"].sum((2, 3)), torch.ones(3, 4))
    baseline, _ = run(tiny_network("jmceln/baseline").eval(), details=True)
    assert {k: tuple(v.shape) for k, v in baseline.details.items()} == {"masks_by_stage": (3, 1, 64, 64)}


def test_upsampling_halves_the_channels_three_times():
    network = tiny_network("jmceln")
    convs = [block[0] for block in network.upsampling]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convs] == [
        (16, 8, (3, 3)), (8, 4, (3, 3)), (4, 2, (3, 3)),
    ]  # fmt: skip
    assert network.classify.in_channels == 2 and network.classify.out_channels == 2


def test_embeddings_start_as_standard_normal_numbers():
    network = variant({"embeddings": 400})
    assert network.embeddings.shape == (400, 16)
    assert float(network.embeddings.detach().std()) == pytest.approx(1, rel=0.05)


def test_one_expression_cannot_train_batch_norm_and_says_so():
    network = tiny_network("jmceln").train()
    pixels, tokens, mask, index, _ = some_input()
    image = network.encode_image(pixels)
    with pytest.raises(ValueError, match="1 expression in a training step"):
        network(image, network.encode_text(tokens[:1], mask[:1]), index[:1])


def test_impossible_numbers_are_refused():
    config = get_preset("jmceln").model
    for changes, message in (
        ({"width": 100}, "width 100"), ({"heads": 3}, "heads 3"), ({"heads": 0}, "heads 0"),
        ({"dilations": (1, 2, 3)}, "3 dilations"), ({"dilations": ()}, "a tuple of one value or more"),
        ({"stages": -1}, "stages -1"),
        ({"window": 0}, "window 0"), ({"embeddings": 0}, "embeddings 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            override(config, changes)


def test_towers_learn_slower_by_the_configured_factor():
    network = variant({"head_lr_mult": 10.0})
    names = {id(p): k for k, p in network.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in network.param_groups(6e-6, 0.01) for p in group["params"]}
    assert {k.split(".")[0] for k, lr in rates.items() if lr == pytest.approx(6e-6)} == {"encoder", "text_encoder"}
    assert {k.split(".")[0] for k, lr in rates.items() if lr == pytest.approx(6e-5)} == {
        "neck", "lsran", "embeddings", "stages", "upsampling", "classify",
    }  # fmt: skip


def test_paper_size_has_the_papers_numbers():
    preset = get_preset("jmceln")
    model, recipe = preset.model, preset.recipe
    assert (model.width, model.stages, model.embeddings, model.heads) == (1024, 6, 20, 8)
    assert model.vision.layers == (3, 4, 23, 3) and model.vision.joint == model.text.joint == 512
    assert (model.head_lr_mult, model.dice_weight) == (1.0, 0.0)
    assert (preset.input.size, preset.input.max_tokens, preset.input.resize) == ((416, 416), 30, "letterbox")
    assert preset.input.mean == (0.48145466, 0.4578275, 0.40821073)
    assert (recipe.lr, recipe.images_per_batch, recipe.power, recipe.select) == (6e-6, 20, 0.9, "mIoU")
    assert recipe.steps == 60 * (42404 // 20)
    assert preset.scores["refcoco testB mIoU"] == 70.43 and preset.scores["refcocog-umd test mIoU"] == 64.99
    rows = {row: get_preset(f"jmceln/{row}").scores["refcoco testB mIoU"] for row in ROWS}
    assert list(rows.values()) == [62.57, 68.03, 69.23, 69.46, 69.11]


def test_compact_version_is_small_and_fits_its_input():
    preset = get_preset("jmceln-shapes")
    assert count(JMCELN(preset.model)) < 2.9e6
    assert preset.input.size[0] // 8 % preset.model.window == 0
    assert preset.model.vision.grid == preset.input.size[0] // 32
