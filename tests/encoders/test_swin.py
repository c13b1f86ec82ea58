"""Against transformers' `SwinBackbone`, an independent implementation with the same parameters."""

from __future__ import annotations

import pytest
import torch
from transformers import SwinBackbone, SwinForImageClassification
from transformers import SwinConfig as HFSwinConfig

from refseg.encoders.swin import Swin, SwinConfig
from refseg.weights.pretrained import load_swin


def pair(tmp_path, window=4, depths=(2, 2), heads=(2, 4), dim=16):
    """The oracle, and ours with the weights that the oracle saved."""
    config = HFSwinConfig(
        image_size=64, embed_dim=dim, depths=list(depths), num_heads=list(heads), window_size=window,
        out_features=[f"stage{i + 1}" for i in range(len(depths))],
    )  # fmt: skip
    oracle = SwinBackbone(config).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(std=0.2)
        for norm in oracle.hidden_states_norms.values():
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    oracle.save_pretrained(tmp_path / "swin")
    ours = Swin(SwinConfig(dim, depths, heads, window, 4, 4.0, 0.0)).eval()
    load_swin(ours, tmp_path / "swin")
    return oracle, ours


@pytest.mark.parametrize(
    ("size", "window"),
    [((64, 64), 4), ((48, 80), 4), ((61, 37), 4), ((33, 50), 7), ((20, 20), 7), ((16, 100), 12), ((5, 9), 4)],
)
@torch.no_grad()
def test_equals_transformers(tmp_path, size, window):
    oracle, ours = pair(tmp_path, window, depths=(2, 2, 2), heads=(2, 4, 4))
    pixels = torch.randn(2, 3, *size)
    for mine, theirs in zip(ours(pixels), oracle(pixels).feature_maps, strict=True):
        normed = torch.nn.functional.layer_norm(mine.permute(0, 2, 3, 1), mine.shape[1:2]).permute(0, 3, 1, 2)
        torch.testing.assert_close(normed, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_equals_transformers_at_480_with_window_12(tmp_path):
    oracle, ours = pair(tmp_path, window=12, depths=(1, 1, 2, 2), heads=(1, 2, 2, 2), dim=8)
    pixels = torch.randn(1, 3, 480, 480)
    for mine, theirs in zip(ours(pixels), oracle(pixels).feature_maps, strict=True):
        normed = torch.nn.functional.layer_norm(mine.permute(0, 2, 3, 1), mine.shape[1:2]).permute(0, 3, 1, 2)
        torch.testing.assert_close(normed, theirs, rtol=1e-4, atol=1e-4)


def test_loads_a_classification_checkpoint(tmp_path):
    config = HFSwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    published = SwinForImageClassification(config)
    published.save_pretrained(tmp_path)
    ours = Swin(SwinConfig(8, (1, 1), (1, 2), 4, 4, 4.0, 0.0))
    load_swin(ours, tmp_path)
    mine = ours.state_dict()["encoder.layers.1.blocks.0.attention.self.query.weight"]
    assert torch.equal(mine, published.state_dict()["swin.encoder.layers.1.blocks.0.attention.q_proj.weight"])


def test_an_older_checkpoint_is_read_without_executing_anything(tmp_path):
    ours = Swin(SwinConfig(8, (1, 1), (1, 2), 4, 4, 4.0, 0.0))
    torch.save({f"swin.{k}": v for k, v in ours.state_dict().items()}, tmp_path / "pytorch_model.bin")
    again = Swin(ours.config)
    load_swin(again, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"swin.embeddings.norm.weight": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="not a file of tensors alone"):
        load_swin(again, tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_of_another_size_is_refused_by_name(tmp_path):
    HFSwinConfig(embed_dim=8, depths=[1], num_heads=[1]).save_pretrained(tmp_path)
    oracle = SwinBackbone(HFSwinConfig(image_size=32, embed_dim=8, depths=[1], num_heads=[1], window_size=4))
    oracle.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"projection.weight is \(8, 3, 4, 4\) instead of \(16, 3, 4, 4\)"):
        load_swin(Swin(SwinConfig(16, (1,), (1,), 4, 4, 4.0, 0.0)), tmp_path)
    with pytest.raises(ValueError, match=r"encoder.layers.1.*is missing"):
        load_swin(Swin(SwinConfig(8, (1, 1), (1, 1), 4, 4, 4.0, 0.0)), tmp_path)
    with pytest.raises(ValueError, match="holds no weights"):
        load_swin(Swin(SwinConfig(8, (1,), (1,), 4, 4, 4.0, 0.0)), tmp_path / "nowhere")


@torch.no_grad()
def test_hook_is_called_after_the_last_block_of_each_stage():
    swin = Swin(SwinConfig(8, (1, 2), (1, 2), 4, 4, 4.0, 0.0)).eval()
    seen = []

    def hook(stage, x, size):
        seen.append((stage, tuple(x.shape), size))
        return x * 0

    maps = swin(torch.randn(1, 3, 30, 41), hook)
    assert seen == [(0, (1, 88, 8), (8, 11)), (1, (1, 24, 16), (4, 6))]
    assert [tuple(m.shape) for m in maps] == [(1, 8, 8, 11), (1, 16, 4, 6)]
    assert not maps[0].any()


def test_drop_path_drops_whole_samples_in_training_only():
    swin = Swin(SwinConfig(8, (2, 2), (1, 1), 4, 4, 4.0, 0.9))
    rates = [block.drop_path.rate for stage in swin.encoder.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.3, 0.6, 0.9])
    pixels = torch.randn(4, 3, 32, 32)
    assert torch.equal(swin.eval()(pixels)[1], swin(pixels)[1])
    swin.train()
    assert not torch.equal(swin(pixels)[1], swin(pixels)[1])
