from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from refseg.layers.fusion import VLF
from refseg.layers.queries import ReleasedMapQueries
from refseg.methods.crformer import CRFormer, Reconstruction, ReleasedReconstruction
from refseg.presets import get_preset, presets
from refseg.presets.base import override
from tiny import some_input, tiny, tiny_network, wake


def run(network, details=False):
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index, details)
    return output, targets


def awake(name="crformer", training=False, **changes):
    """A network with large weights; in evaluation unless said otherwise."""
    torch.manual_seed(0)
    network = CRFormer(override(tiny(name).model, changes))
    wake(network)
    return network.train(training)


def cross_entropy(logits, targets):
    """Binary cross-entropy with the logarithms written out."""
    p, y = logits.double().sigmoid(), targets.double()
    return float(-(y * p.log() + (1 - y) * (1 - p).log()).mean())


def vlf(module, pixels, words, mask):
    """Eq. 2 with einsum; padded words are left out instead of masked."""
    rows = []
    for t in range(pixels.shape[0]):
        real = words[t][mask[t]]
        query = torch.einsum("pc,dc->pd", pixels[t], module.query.weight)
        key = torch.einsum("lc,dc->ld", real, module.key.weight)
        value = torch.einsum("lc,dc->ld", real, module.value.weight)
        scores = torch.einsum("pd,ld->pl", query, key) / math.sqrt(pixels.shape[-1])
        share = scores.exp() / scores.exp().sum(1, keepdim=True)
        rows.append(torch.einsum("pl,ld,cd->pc", share, value, module.out.weight))
    return torch.stack(rows)


@torch.no_grad()
def test_vlf_by_an_independent_formula():
    module = VLF(6, 5)
    wake(module)
    pixels, words = torch.randn(2, 10, 6), torch.randn(2, 4, 5)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    fused = module(pixels, words, mask)
    expected = vlf(module, pixels, words, mask)
    torch.testing.assert_close(fused.pixel_residual, expected)
    torch.testing.assert_close(fused.pixels, pixels + expected.clamp(min=0))
    assert fused.words is words
    assert not any("bias" in name for name, _ in module.named_parameters())


@pytest.mark.parametrize("output", ["residual", "updated"])
@torch.no_grad()
def test_stages_follow_equation_1(output):
    network = awake(encoder_output=output)
    pixels, tokens, mask, index, _ = some_input()
    text = network.encode_text(tokens, mask)
    maps, _ = network.encoder(network.encode_image(pixels), text, index)
    swin = network.encoder.swin
    x, size = swin.embed(pixels[index])
    for stage in range(4):
        x = swin.blocks(stage, x, size)
        emitted = x
        if stage:
            read = vlf(network.encoder.fusions[stage], x, text.words, mask)
            x = x + read.clamp(min=0)
            emitted = read if output == "residual" else x
        expected = emitted.transpose(1, 2).unflatten(2, size)
        if stage:  # what no layer reads is not emitted
            torch.testing.assert_close(maps[stage - 1], expected, rtol=1e-4, atol=1e-4)
        x, size = swin.merge(stage, x, size)


def test_an_image_is_encoded_once_up_to_where_the_text_enters():
    pixels, tokens, mask, index, _ = some_input()
    for name, stages in (("crformer", 2), ("crformer-released", 1)):
        network = awake(name)
        seen = []
        for layer in network.encoder.swin.encoder.layers:
            layer.blocks[0].register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(len(output)))
        image = network.encode_image(pixels)
        assert list(image.maps) == [f"stage{i + 1}" for i in range(stages)]
        plain = network.encoder.swin(pixels)
        for found, expected in zip(image.maps.values(), plain, strict=False):
            torch.testing.assert_close(found, expected)
        seen.clear()
        network(image, network.encode_text(tokens, mask), index)
        assert seen == [3] * (4 - stages)  # what depends on the text, for three expressions


def test_odd_sizes_are_padded_to_whole_cells_and_cropped():
    network = awake()
    _, tokens, mask, _, _ = some_input()
    pixels, index = torch.randn(1, 3, 50, 93), torch.zeros(3, dtype=torch.long)
    text = network.encode_text(tokens, mask)
    padded = network(network.encode_image(F.pad(pixels, (0, 3, 0, 14))), text, index, details=True)
    output = network(network.encode_image(pixels), text, index, details=True)
    assert torch.equal(output.logits, padded.logits[..., :13, :24])
    assert output.details["query_maps"].shape[2:] == (4, 6)
    for stage, cells in ((2, (7, 12)), (3, (4, 6)), (4, (2, 3))):
        shown = output.details[f"fusion_attention_{stage}"]
        whole = padded.details[f"fusion_attention_{stage}"]
        torch.testing.assert_close(shown, whole[..., : cells[0], : cells[1]])


def test_queries_are_calibrated_as_equation_12_says():
    network = awake(training=True)
    made, keys = [], []
    network.generate.register_forward_hook(lambda module, inputs, output: made.append(output.queries))
    for module in network.calibrate:
        module.register_forward_hook(lambda module, inputs, output: made.append(output.queries))
    for block in network.blocks:
        block[0].register_forward_hook(lambda module, inputs, output: keys.append(inputs[2]))
    network.recon.register_forward_hook(lambda module, inputs, output: keys.append(inputs[0]))
    run(network)
    assert len(made) == len(keys) == 4 and network.alpha.shape == (3,)
    expected = made[0]
    torch.testing.assert_close(keys[0], expected)
    for n in range(3):
        expected = float(network.alpha[n].detach()) * made[n + 1] + expected
        torch.testing.assert_close(keys[n + 1], expected)


def test_released_adds_twice_and_replaces_once():
    network = awake("crformer-released", training=True)
    made, keys = [], []
    for module in (network.generate, *network.calibrate):
        module.register_forward_hook(lambda module, inputs, output: made.append(output.queries))
    for block in network.blocks:
        assert len(block) == 2
        for layer in block:
            layer.register_forward_hook(lambda module, inputs, output: keys.append(inputs[2]))
    network.recon.register_forward_hook(lambda module, inputs, output: keys.append(inputs[0]))
    run(network)
    a, b = network.alpha.tolist()
    expected = [made[0], made[0] + a * made[1], made[0] + a * made[1] + b * made[2]]
    for n in range(3):
        for key in keys[2 * n : 2 * n + 2]:
            torch.testing.assert_close(key, expected[n])
    assert torch.equal(keys[6], made[3])


def test_without_alpha_the_decoder_is_the_standard_one():
    network = awake()
    standard = CRFormer(override(network.config, {"calibration": False})).eval()
    standard.load_state_dict({k: v for k, v in network.state_dict().items() if k in standard.state_dict()})
    assert not torch.allclose(run(network)[0].logits, run(standard)[0].logits)
    with torch.no_grad():
        network.alpha.zero_()
    torch.testing.assert_close(run(network)[0].logits, run(standard)[0].logits)


def test_alpha_starts_between_0_and_1():
    drawn = torch.cat([tiny_network("crformer", seed).alpha.detach() for seed in range(20)])
    assert float(drawn.min()) >= 0 and float(drawn.max()) < 1 and 0.3 < float(drawn.mean()) < 0.7


def test_every_query_reads_its_own_map_and_the_decoder_gives_words_positions():
    network = awake()
    inputs = {}
    for name, module in (("first", network.generate), ("later", network.calibrate[0])):
        module.generate.register_forward_hook(lambda m, given, _, name=name: inputs.update({name: given}))
    pixels, tokens, mask, index, _ = some_input()
    text = network.encode_text(tokens, mask)
    output = network(network.encode_image(pixels), text, index, details=True)
    assert torch.equal(inputs["first"][1], text.words)
    code = torch.tensor([[f(p * 10000 ** (-2 * i / 16)) for i in range(8) for f in (math.sin, math.cos)]
                         for p in range(7)])  # fmt: skip
    torch.testing.assert_close(inputs["later"][1] - text.words, code.expand(3, -1, -1), rtol=1e-4, atol=1e-5)
    assert torch.equal(output.details["query_maps"], inputs["first"][0])


@pytest.mark.parametrize("queries", range(1, 33))
def test_any_number_of_queries_runs_as_printed_and_multiples_of_4_as_released(queries):
    output, targets = run(awake(num_queries=queries, training=True))
    assert output.logits.shape == (3, 1, 16, 16) and torch.isfinite(output.logits).all()
    config = tiny("crformer-released").model
    if queries % 4:
        with pytest.raises(ValueError, match=f"num_queries {queries} with qgm 'released': .* multiple of 4"):
            override(config, {"num_queries": queries})
    else:
        network = CRFormer(override(config, {"num_queries": queries})).train()
        assert torch.isfinite(run(network)[0].logits).all()


def norm_over(rows):
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / len(rows)
    return [(row - mean) / (variance + 1e-5).sqrt() for row in rows]


@torch.no_grad()
def test_released_queries_by_hand():
    config = override(tiny("crformer-released").model, {"num_queries": 4, "grid": (2, 3), "neck": (4, 8, 4)})
    module = ReleasedMapQueries(config.neck[1], config.grid, config.num_queries, 6, config.scale_queries).eval()
    wake(module)
    pixels, words = torch.randn(2, 8, 2, 3), torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    made = module(pixels, words, mask)
    scale = module.draw[1].weight / math.sqrt(1 + 1e-5)  # the batch norm's statistics are as they start
    drawn = F.conv2d(pixels, module.draw[0].weight, module.draw[1].bias / scale, padding=1) * scale[:, None, None]
    torch.testing.assert_close(made.maps, drawn.clamp(min=0))
    for t in range(2):
        code = [[math.sin(x), math.cos(x), math.sin(y), math.cos(y)] for y in (0, 1) for x in (0, 1, 2)]
        asked = [
            module.query.weight @ (made.maps[t, n].flatten() + torch.tensor([cell[n] for cell in code]))
            for n in range(4)
        ]
        known = []
        for p in range(int(mask[t].sum())):
            angles = [p * 10000 ** (-2 * i / 8) for i in range(4)]
            place = torch.tensor([f(angle) for angle in angles for f in (math.sin, math.cos)])
            known.append((module.word_in.weight @ words[t, p] + module.word_in.bias).clamp(min=0) + place)
        read = []
        for n, query in enumerate(norm_over(asked)):
            scores = torch.stack([(query @ (module.key.weight @ word)) / math.sqrt(8) for word in known]).softmax(0)
            torch.testing.assert_close(made.attention[t, n, : len(known)], scores, rtol=1e-4, atol=1e-5)
            value = sum(a * (module.value.weight @ word) for a, word in zip(scores, known, strict=True))
            read.append(module.out.weight @ value)
        torch.testing.assert_close(made.queries[t], torch.stack(norm_over(read)), rtol=1e-3, atol=1e-4)
    assert not made.attention[1, :, 3:].any()


def dense(layer, x):
    return torch.stack([sum(w * v for w, v in zip(row, x, strict=True)) for row in layer.weight]) + layer.bias


@torch.no_grad()
def test_reconstruction_by_hand_is_a_mean_over_real_words_and_the_sentence():
    module = Reconstruction(4, 3)
    queries, words, sentence = torch.randn(2, 5, 4), torch.randn(2, 3, 3), torch.randn(2, 3)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    rebuilt, target = module(queries, words, mask, sentence)
    for t in range(2):
        tokens = [*words[t][mask[t]], sentence[t]]
        expected = sum(dense(module.project, token).clamp(min=0) for token in tokens) / len(tokens)
        torch.testing.assert_close(target[t], expected)
        first, second, third = module.rebuild[0], module.rebuild[2], module.rebuild[4]
        expected = sum(
            dense(third, dense(second, dense(first, query).clamp(min=0)).clamp(min=0)) for query in queries[t]
        )
        torch.testing.assert_close(rebuilt[t], expected / 5)


@torch.no_grad()
def test_released_reconstruction_counts_padding_and_gives_words_positions():
    module = ReleasedReconstruction(4, 2).eval()
    queries, words, sentence = torch.randn(1, 3, 4), torch.randn(1, 3, 2), torch.randn(1, 2)
    rebuilt, target = module(queries, words, torch.tensor([[True, False, False]]), sentence)
    # The code's waves run along the words, and its places are the two channels.
    place = torch.tensor([[math.sin(c) for c in (0, 1)], [math.cos(c) for c in (0, 1)], [0.0, math.sin(0.01)]])
    scale = module.sentence_in[1].weight / math.sqrt(1 + 1e-5)  # the batch norm's statistics are as they start
    gathered = (module.sentence_in[0].weight @ sentence[0] * scale).clamp(min=0)
    tokens = [*(words[0] + place), gathered]
    torch.testing.assert_close(target[0], sum(dense(module.project, x).clamp(min=0) for x in tokens) / 4)
    first, second = module.rebuild[0], module.rebuild[2]
    expected = sum(dense(second, dense(first, x).clamp(min=0)).clamp(min=0) for x in queries[0]) / 3
    torch.testing.assert_close(rebuilt[0], expected)


def test_paper_loss_is_cross_entropy_at_stride_4_and_a_tenth_of_the_squared_error():
    network = awake(training=True)
    output, targets = run(network)
    terms = network.loss(output, targets)
    assert set(terms) == {"seg", "reconstruction"}
    small = targets[:, 2::4, 2::4]  # nearest: the pixel at the middle of each 4x4 cell
    assert float(terms["seg"].detach()) == pytest.approx(cross_entropy(output.logits[:, 0].detach(), small), rel=1e-5)
    rebuilt, target = output.aux["reconstructed"], output.aux["reconstruction_target"]
    assert rebuilt.shape == target.shape == (3, 16)
    squares = [(a - b) ** 2 for a, b in zip(rebuilt.flatten().tolist(), target.flatten().tolist(), strict=True)]
    assert float(terms["reconstruction"].detach()) == pytest.approx(0.1 * sum(squares) / len(squares), rel=1e-5)


def test_released_loss_is_11_ninths_of_the_cross_entropy_at_full_size():
    network = awake("crformer-released", training=True)
    output, targets = run(network)
    large = F.interpolate(output.logits.detach(), (64, 64), mode="bilinear", align_corners=True)[:, 0]
    expected = 1.2222222 * cross_entropy(large, targets)
    assert float(network.loss(output, targets)["seg"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_target_of_the_reconstruction_learns_unless_it_is_detached():
    for detach in (False, True):
        network = awake(training=True, recon_detach_target=detach)
        output, targets = run(network)
        network.loss(output, targets)["reconstruction"].backward()
        assert (network.recon.project.weight.grad is None) is detach
        assert network.recon.rebuild[0].weight.grad is not None


def test_the_sentence_is_the_projected_first_token_or_its_pooled_state():
    _, tokens, mask, _, _ = some_input()
    paper = awake()
    words = paper.text_encoder(tokens, mask).words
    text = paper.encode_text(tokens, mask)
    torch.testing.assert_close(text.sentence, F.linear(words[:, 0], paper.sentence_in.weight, paper.sentence_in.bias))
    torch.testing.assert_close(text.words, F.linear(words, paper.word_in.weight, paper.word_in.bias))
    released = awake("crformer-released")
    length = tokens.shape[1]
    padded = F.pad(tokens, (0, 20 - length)), F.pad(mask, (0, 20 - length))
    words = released.text_encoder(*padded).words
    text = released.encode_text(tokens, mask)
    dense = released.pooler.dense
    torch.testing.assert_close(text.sentence, torch.tanh(F.linear(words[:, 0], dense.weight, dense.bias)))
    assert torch.equal(text.words, words)
    assert not dense.weight.requires_grad
    learning = CRFormer(override(released.config, {"bert.train_embeddings": True}))
    assert learning.pooler.dense.weight.requires_grad


def test_the_released_mask_comes_from_a_kernel_made_of_the_sentence():
    network = awake("crformer-released")
    seen = {}
    network.upsampler.register_forward_hook(lambda module, inputs, output: seen.update(features=output))
    pixels, tokens, mask, index, _ = some_input()
    text = network.encode_text(tokens, mask)
    output = network(network.encode_image(pixels), text, index)
    channels = seen["features"].shape[1]
    for t in range(3):
        numbers = F.linear(text.sentence[t], network.kernel.weight, network.kernel.bias)
        kernel, bias = numbers[:-1].view(1, channels, 3, 3), numbers[-1:]
        expected = F.conv2d(seen["features"][t][None], kernel, bias, padding=1)
        torch.testing.assert_close(output.logits[t], expected[0], rtol=1e-4, atol=1e-4)


def test_details_say_which_words_the_queries_are_made_of():
    network = awake()
    output, _ = run(network, details=True)
    shapes = {k: tuple(v.shape) for k, v in output.details.items()}
    assert shapes == {
        "word_attention": (3, 24, 7), "word_attention_by_layer": (3, 4, 24, 7), "query_maps": (3, 24, 4, 4),
        "query_maps_by_layer": (3, 4, 24, 4, 4), "fusion_attention_2": (3, 7, 8, 8), "fusion_attention_3": (3, 7, 4, 4),
        "fusion_attention_4": (3, 7, 2, 2),
    }  # fmt: skip
    torch.testing.assert_close(output.details["word_attention_by_layer"].sum(-1), torch.ones(3, 4, 24))
    assert torch.equal(output.details["word_attention_by_layer"][:, 0], output.details["word_attention"])
    assert torch.equal(output.details["query_maps_by_layer"][:, 0], output.details["query_maps"])
    assert torch.equal(run(network)[0].logits, output.logits)


def test_what_an_ablation_switches_off_is_not_built():
    rows = ("without-calibration", "without-reconstruction", "neither", "layers-1", "layers-4", "queries-1")
    networks = {row: tiny_network(f"crformer/{row}") for row in rows}
    names = {row: [k for k, _ in network.named_parameters()] for row, network in networks.items()}
    for row in ("without-calibration", "neither"):
        assert not any(k.startswith(("calibrate", "alpha")) for k in names[row])
    for row in ("without-reconstruction", "neither"):
        assert not any(k.startswith(("recon", "sentence_in", "pooler")) for k in names[row])
    assert any(k.startswith("recon") for k in names["without-calibration"])
    counts = {row: len(network.calibrate) for row, network in networks.items()}
    assert counts == {"without-calibration": 0, "without-reconstruction": 2, "neither": 0, "layers-1": 1,
                      "layers-4": 4, "queries-1": 3}  # fmt: skip
    assert networks["without-reconstruction"].alpha.shape == (2,)
    assert len(networks["layers-4"].blocks) == 4
    paper = [k for k, _ in tiny_network("crformer").named_parameters()]
    assert not any(k.startswith(("encoder.fusions.0", "encoder.norms", "neck.gate", "kernel", "pooler", "block_norms"))
                   for k in paper)  # fmt: skip
    assert not any(".after_" in k for k in paper)
    released = [k for k, _ in tiny_network("crformer-released").named_parameters()]
    for part in ("encoder.fusions.0", "encoder.norms", "neck.gate", "kernel", "pooler", "block_norms"):
        assert any(k.startswith(part) for k in released), part
    assert not any(k.startswith(("word_in", "sentence_in", "classify")) for k in released)


def test_words_change_the_mask():
    network = awake()
    pixels, tokens, mask, index, _ = some_input()
    image = network.encode_image(pixels)
    before = network(image, network.encode_text(tokens, mask), index).logits
    after = network(image, network.encode_text(tokens.flip(0), mask.flip(0)), index).logits
    assert not torch.allclose(before, after)


def test_one_expression_trains_as_printed_but_not_as_released():
    pixels, tokens, mask, _, targets = some_input()
    index = torch.zeros(1, dtype=torch.long)
    network = awake(training=True)
    output = network(network.encode_image(pixels[:1]), network.encode_text(tokens[:1], mask[:1]), index)
    assert torch.isfinite(sum(network.loss(output, targets[:1]).values()))
    network = awake("crformer-released", training=True)
    with pytest.raises(ValueError, match="1 expression in a training step"):
        network(network.encode_image(pixels[:1]), network.encode_text(tokens[:1], mask[:1]), index)


def test_impossible_switches_are_refused():
    config = get_preset("crformer").model
    for changes, message in (
        ({"num_queries": 0}, "num_queries 0: a whole number from 1"),
        ({"dec_layers": 0}, "dec_layers 0"),
        ({"fusion_stages": (1, 2)}, r"fusion_stages \(1, 2\): some of 1, 2 and 3, and 4"),
        ({"swin.depths": (2, 2), "swin.heads": (2, 2)}, "a Swin of 2 stages: 4 are needed"),
    ):
        with pytest.raises(ValueError, match=message):
            override(config, changes)


def test_paper_size_has_the_papers_numbers():
    paper, released = get_preset("crformer"), get_preset("crformer-released")
    config = paper.model
    assert config.swin.channels == (128, 256, 512, 1024) and config.bert.trained_layers == 10
    assert (config.num_queries, config.dec_layers, config.heads, config.ffn, config.neck[1]) == (24, 3, 8, 2048, 512)
    assert (config.grid, config.recon_weight, paper.input.max_tokens) == ((30, 30), 0.1, 20)
    assert (paper.recipe.lr, paper.recipe.images_per_batch, paper.recipe.steps) == (5e-5, 32, 53000)
    config = released.model
    assert config.num_queries == 16 and config.dec_layers * config.block_layers == 6
    assert config.loss_scale == pytest.approx(1.2222, abs=1e-4)


def test_rows_are_the_19_trained_models_of_the_tables_in_both_sizes():
    paper = {k.split("/")[1]: v for k, v in presets().items() if k.startswith("crformer/")}
    compact = {k.split("/")[1]: v for k, v in presets().items() if k.startswith("crformer-shapes/")}
    assert len(paper) == 19 and len({str(row.model) for row in paper.values()}) == 19
    assert set(compact) == set(paper) - {"epochs-25", "queries-8"} | {"queries-24"}
    base = get_preset("crformer-shapes").model
    assert len({str(row.model) for row in compact.values()} | {str(base)}) == 19
    assert {row.recipe.steps for row in paper.values()} == {25 * 1321}
    assert paper["epochs-25"].scores["refcoco+ testA mIoU"] == 69.23
    assert paper["layers-2-standard"].scores["refcoco+ testA P@0.9"] == 14.67
    assert [name for name, row in paper.items() if not row.scores] == ["recon-0.2", "recon-0.15"]
    assert all("no target" in paper[name].note for name in ("recon-0.2", "recon-0.15"))


def test_the_compact_version_is_small():
    network = CRFormer(get_preset("crformer-shapes").model)
    assert 2.0e6 < sum(p.numel() for p in network.parameters()) < 2.9e6
