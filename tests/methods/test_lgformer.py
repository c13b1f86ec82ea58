from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from refseg.methods.lgformer import LGFormer
from refseg.presets import get_preset
from refseg.presets.base import override
from tiny import some_input, tiny_network, wake


def run(network, details=False):
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index, details)
    return output, targets


def test_what_an_ablation_switches_off_is_not_built():
    names = {row: [k for k, _ in tiny_network(f"lgformer/{row}").named_parameters()] for row in (
        "vlba-only", "baseline-pwam", "without-v2la", "query-learnable-1", "query-learnable-10")}  # fmt: skip
    assert not any("l2va" in k or k.startswith("generator") or "word_position" in k for k in names["vlba-only"])
    assert any(".word_gate." in k for k in names["vlba-only"])
    assert not any(".word_gate." in k or "l2va" in k for k in names["baseline-pwam"])
    assert any("l2va" in k for k in names["without-v2la"])
    assert not any(k.startswith("generator") for k in names["without-v2la"])
    assert not any(k.startswith(("pooled_to_query", "merge")) for k in names["query-learnable-1"])
    assert any(k.startswith("merge") for k in names["query-learnable-10"])
    assert not any("self" in k.split(".")[-3:] for k in names["query-learnable-10"] if k.startswith("generator"))
    assert not any(k.startswith("pixel_decoder.lateral") for k in names["without-v2la"])


def test_paper_predicts_once_and_released_once_per_layer_and_before():
    paper, released = tiny_network("lgformer").train(), tiny_network("lgformer-released").train()
    assert not run(paper)[0].aux
    assert run(released)[0].aux["masks_by_layer"].shape == (3, 3, 16, 16)
    assert released.head[-1].out_features == 16 + 1  # prototype and bias
    assert get_preset("lgformer-released").model.generator.layers + 1 == 7


def test_logits_are_the_dot_product_of_prototype_and_pixels():
    network = tiny_network("lgformer").eval()
    seen = {}
    network.pixel_decoder.register_forward_hook(lambda *_: seen.update(pixels=_[2].mask_features))
    output, _ = run(network, details=True)
    expected = (output.details["prototype"][0, 0][:, None, None] * seen["pixels"][0]).sum(0)
    torch.testing.assert_close(output.logits[0, 0], expected)


@pytest.mark.parametrize("name", ["lgformer", "lgformer/query-learnable-10", "lgformer-released", "alignformer"])
@torch.no_grad()
def test_similarity_is_the_cosine_of_prototype_and_pixels(name):
    network = tiny_network(name).eval()
    seen = {}
    network.pixel_decoder.register_forward_hook(lambda *_: seen.update(pixels=_[2].mask_features))
    shown = run(network, details=True)[0].details
    prototypes = shown["prototype"][1].reshape(-1, seen["pixels"].shape[1])  # (Q, C)
    pixel = seen["pixels"][1, :, 3, 5]
    for q, prototype in enumerate(prototypes):
        expected = float(prototype @ pixel) / float(prototype.norm() * pixel.norm())
        assert float(shown["similarity"][1, q, 3, 5]) == pytest.approx(expected, abs=1e-5)


def test_details_have_the_documented_shapes():
    output, _ = run(tiny_network("lgformer/query-learnable-10").eval(), details=True)
    shapes = {k: tuple(v.shape) for k, v in output.details.items()}
    assert shapes == {
        "masks_by_layer": (3, 3, 16, 16), "query_masks": (3, 10, 16, 16), "prototype": (3, 10, 16),
        "word_attention": (3, 7, 8, 8), "similarity": (3, 10, 16, 16),
        "fusion_attention_1": (3, 7, 16, 16), "fusion_attention_2": (3, 7, 8, 8), "fusion_attention_3": (3, 7, 4, 4),
        "fusion_attention_4": (3, 7, 2, 2),
    }  # fmt: skip
    torch.testing.assert_close(output.details["word_attention"].sum(1), torch.ones(3, 8, 8))


def test_paper_loss_by_hand():
    network = tiny_network("lgformer").train()
    output, targets = run(network)
    small = targets[:, 2::4, 2::4].float()  # nearest: the pixel at the middle of each 4x4 cell
    p = output.logits[:, 0].sigmoid()
    expected = -(small * p.log() + (1 - small) * (1 - p).log()).mean()
    terms = network.loss(output, targets)
    assert set(terms) == {"pixel_text"}
    torch.testing.assert_close(terms["pixel_text"], expected)


def test_released_loss_by_hand():
    network = tiny_network("lgformer-released").train()
    output, targets = run(network)
    expected = torch.zeros(())
    for logits in output.aux["masks_by_layer"].unbind(1):
        p = F.interpolate(logits[:, None], (64, 64), mode="bilinear", align_corners=False)[:, 0].sigmoid()
        y = targets.float()
        expected = expected - (1.1 * y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(network.loss(output, targets)["pixel_text"], expected)


def test_words_change_the_mask_and_their_chain_matters():
    network = tiny_network("lgformer").eval()
    wake(network)
    pixels, tokens, mask, index, _ = some_input()
    image = network.encode_image(pixels)
    before = network(image, network.encode_text(tokens, mask), index).logits
    after = network(image, network.encode_text(tokens.flip(0), mask.flip(0)), index).logits
    assert not torch.allclose(before, after)
    unchained = LGFormer(override(network.config, {"chain_words": False})).eval()
    unchained.load_state_dict(network.state_dict(), strict=False)  # without what updates words that nobody reads
    assert not torch.allclose(unchained(image, network.encode_text(tokens, mask), index).logits, before)


def test_encoder_without_fusion_is_a_plain_swin():
    config = override(tiny_network("lgformer").config, {"fusion": "none"})
    network = LGFormer(config).eval()
    pixels, tokens, mask, index, _ = some_input()
    maps, words = network.encoder(network.encode_image(pixels), network.encode_text(tokens, mask), index)
    for fused, plain in zip(maps, network.encoder.swin(pixels), strict=True):
        torch.testing.assert_close(fused, plain[index])
    assert torch.equal(words, network.encode_text(tokens, mask).words)


def test_impossible_switches_are_refused():
    config = get_preset("lgformer").model
    with pytest.raises(ValueError, match="exactly 1"):
        override(config, {"num_queries": 3})
    with pytest.raises(ValueError, match="never see"):
        override(override(config, {"v2la": False}), {"query": "learnable"})
    with pytest.raises(ValueError, match="has no field 'quary'"):
        override(config, {"quary": 1})


def test_more_words_than_positions_are_refused():
    network = tiny_network("lgformer").eval()
    tokens, mask = torch.ones(1, 21, dtype=torch.long), torch.ones(1, 21, dtype=torch.bool)
    text = network.encode_text(tokens, mask)
    with pytest.raises(ValueError, match="21 tokens: this model reads at most 20"):
        network(network.encode_image(torch.randn(1, 3, 64, 64)), text, torch.zeros(1, dtype=torch.long))


def test_decay_spares_norms_and_biases_of_the_backbone_only():
    network = tiny_network("lgformer")
    groups = network.param_groups(5e-5, 0.01)
    names = {id(p): k for k, p in network.named_parameters()}
    free = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert free and all(k.startswith("encoder.swin.") for k in free)
    released = tiny_network("lgformer-released")
    stage_norms = {id(p) for k, p in released.named_parameters() if k.startswith("encoder.norms.")}
    (spared,) = [group for group in released.param_groups(5e-5, 0.01) if group["weight_decay"] == 0]
    assert stage_norms and stage_norms <= {id(p) for p in spared["params"]}
    assert "encoder.swin.encoder.layers.0.blocks.0.attention.self.relative_position_bias_table" in free
    assert "encoder.swin.encoder.layers.0.blocks.0.intermediate.dense.bias" not in free
    assert {group["lr"] for group in groups} == {5e-5}


def test_paper_size_has_the_papers_numbers():
    config = get_preset("lgformer").model
    assert config.swin.channels == (128, 256, 512, 1024) and config.swin.window == 12
    assert config.pixel_decoder.layers == config.generator.layers == 6
    assert (config.loss_resolution, config.pos_weight, config.deep_supervision, config.dice_weight) == (
        "stride4", 1.0, False, 0.0)  # fmt: skip
    recipe = get_preset("lgformer").recipe
    assert (recipe.lr, recipe.weight_decay, recipe.power, recipe.images_per_batch) == (5e-5, 0.01, 0.9, 32)
