from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from published import PWAM_NAMES
from refseg.encoders.swin import Swin, SwinConfig
from refseg.layers.fused_swin import FusedSwin
from refseg.layers.fusion import PWAM
from refseg.methods.lavt import LAVTDecoder, enlarge
from refseg.types import TextFeatures
from tiny import some_input, tiny_network


def published(tensors):
    """The released checkpoint's names to the encoder's and the decoder's."""
    t = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    encoder, decoder = {}, {}

    def take(target, ours, theirs):
        for kind in ("weight", "bias", "running_mean", "running_var", "relative_position_bias_table"):
            if f"{theirs}.{kind}" in t:
                target[f"{ours}.{kind}"] = t[f"{theirs}.{kind}"]

    take(encoder, "swin.embeddings.patch_embeddings.projection", "backbone.patch_embed.proj")
    take(encoder, "swin.embeddings.norm", "backbone.patch_embed.norm")
    for i in range(4):
        stage, layer = f"swin.encoder.layers.{i}", f"backbone.layers.{i}"
        for j in range(2):
            ours, theirs = f"{stage}.blocks.{j}", f"{layer}.blocks.{j}"
            for kind in ("weight", "bias"):
                parts = t[f"{theirs}.attn.qkv.{kind}"].chunk(3)
                for name, part in zip(("query", "key", "value"), parts, strict=True):
                    encoder[f"{ours}.attention.self.{name}.{kind}"] = part
            for a, b in (("attention.self", "attn"), ("attention.output.dense", "attn.proj"),
                         ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
                         ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2")):  # fmt: skip
                take(encoder, f"{ours}.{a}", f"{theirs}.{b}")
        take(encoder, f"{stage}.downsample.norm", f"{layer}.downsample.norm")
        take(encoder, f"{stage}.downsample.reduction", f"{layer}.downsample.reduction")
        for a, b in PWAM_NAMES.items():
            take(encoder, f"fusions.{i}.{a}", f"{layer}.fusion.{b}")
            encoder[f"fusions.{i}.{a}.weight"] = encoder[f"fusions.{i}.{a}.weight"].squeeze(-1)
        for k in (0, 2):
            take(encoder, f"fusions.{i}.gate.{k}", f"{layer}.res_gate.{k}")
        take(encoder, f"norms.{i}", f"backbone.norm{i}")
    for i, level in enumerate((4, 3, 2)):
        for k, (conv, norm) in enumerate((("conv1", "bn1"), ("conv2", "bn2"))):
            take(decoder, f"levels.{i}.{3 * k}", f"classifier.{conv}_{level}")
            take(decoder, f"levels.{i}.{3 * k + 1}", f"classifier.{norm}_{level}")
            decoder[f"levels.{i}.{3 * k + 1}.num_batches_tracked"] = torch.tensor(0)
    take(decoder, "classify", "classifier.conv1_1")
    return encoder, decoder


@torch.no_grad()
def test_equals_published_numbers_in_every_stage_and_in_the_logits(reference):
    t = reference("lavt")
    config = SwinConfig(8, (2, 2, 2, 2), (1, 2, 2, 4), window=4, patch=4, mlp_ratio=4.0, drop_path=0.0)
    encoder = FusedSwin(Swin(config), [PWAM(c, 768) for c in config.channels], False, "residual_ln").eval()
    decoder = LAVTDecoder(config.channels).eval()
    of_encoder, of_decoder = published(t)
    encoder.load_state_dict(of_encoder)
    decoder.load_state_dict(of_decoder)
    text = TextFeatures(t["input.words"], t["input.word_mask"].bool())
    image = encoder.encode_image(t["input.pixels"])
    maps, words = encoder(image, text, torch.arange(2))
    for i, found in enumerate(maps, start=1):
        torch.testing.assert_close(found, t[f"output.stage{i}"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(enlarge(decoder(maps), image.size), t["output.logits"], rtol=1e-4, atol=1e-4)
    assert torch.equal(words, text.words)


def test_logits_are_foreground_minus_background_and_the_loss_weighs_the_classes():
    network = tiny_network("lavt").train()
    pixels, tokens, mask, index, targets = some_input()
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
    classes = output.aux["class_logits"]
    torch.testing.assert_close(output.logits[:, 0], classes[:, 1] - classes[:, 0])
    weight = torch.where(targets, 1.1, 0.9)
    picked = classes.log_softmax(1).gather(1, targets.long()[:, None])[:, 0]
    expected = -(weight * picked).sum() / weight.sum()
    torch.testing.assert_close(network.loss(output, targets)["cross_entropy"], expected)
    without_classes = network.loss(type(output)(output.logits), targets)
    torch.testing.assert_close(without_classes["cross_entropy"], expected)


def test_enlarge_aligns_the_corners():
    x = torch.tensor([[[[0.0, 1.0]]]])
    assert enlarge(x, (1, 3)).flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert F.interpolate(x, (1, 3), mode="bilinear", align_corners=True).equal(enlarge(x, (1, 3)))


def test_ten_layers_of_bert_learn():
    from refseg.presets import get_preset

    assert get_preset("lavt").model.bert.trained_layers == 10
    assert get_preset("lgformer").model.bert.trained_layers == 12
