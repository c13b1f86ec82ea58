"""Published LAVT checkpoints, made from the names and numbers in `lavt.safetensors`, never from our own code."""

from __future__ import annotations

import argparse

import pytest
import torch
from transformers import BertConfig, BertModel

from refseg.types import TextFeatures
from refseg.weights.convert.lavt import convert_lavt
from refseg.weights.store import load_model

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle"]


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=7, hidden_size=768, num_hidden_layers=1, num_attention_heads=12, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    tensors = BertModel(config).state_dict()
    return tensors | {"embeddings.position_ids": torch.arange(24)[None]}


@pytest.fixture
def encoders(tmp_path):
    folder = tmp_path / "encoders" / "bert-base-uncased"
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    return tmp_path / "encoders"


def released(reference):
    tensors = {k.removeprefix("weights."): v for k, v in reference("lavt").items() if k.startswith("weights.")}
    index = {"backbone.layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long)}
    return tensors | index


def written(tmp_path, content):
    torch.save(content, tmp_path / "lavt.pth")
    return tmp_path / "lavt.pth"


def layouts(model, bert):
    more = {"optimizer": {"state": {}, "param_groups": []}, "epoch": 39, "args": argparse.Namespace(mha="", lr=5e-5)}
    inside = {f"text_encoder.{k}": v for k, v in bert.items()}
    return {
        "two models": {"model": model, "bert_model": bert, **more},
        "two models, distributed": {"model": {f"module.{k}": v for k, v in model.items()},
                                    "bert_model": {f"module.{k}": v for k, v in bert.items()}},
        "one model": {"model": model | inside, **more},
    }  # fmt: skip


@pytest.mark.parametrize("layout", ["two models", "two models, distributed", "one model"])
def test_a_converted_checkpoint_gives_the_published_numbers(reference, bert, encoders, tmp_path, layout):
    checkpoint = written(tmp_path, layouts(released(reference), bert)[layout])
    found = convert_lavt(checkpoint, tmp_path / "model", encoders)
    assert found["depths"] == (2, 2, 2, 2) and found["fusion_heads"] == (1, 1, 1, 1)
    model = load_model(str(tmp_path / "model"))
    t = reference("lavt")
    network = model.network.train()  # class logits are only kept in training; dropout and statistics must not move
    for module in network.modules():
        module.training = module is network
    text = TextFeatures(t["input.words"], t["input.word_mask"].bool())
    output = network(network.encode_image(t["input.pixels"]), text, torch.arange(2))
    torch.testing.assert_close(output.aux["class_logits"], t["output.logits"], rtol=1e-4, atol=1e-4)
    words = network.text_encoder.model.embeddings.word_embeddings.weight
    assert torch.equal(words, bert["embeddings.word_embeddings.weight"])
    assert model.tokenizer(["red circle"], 20).ids.tolist() == [[2, 5, 6, 3]]


def test_heads_of_the_fusion_come_from_the_arguments(reference, bert, encoders, tmp_path):
    content = {"model": released(reference), "bert_model": bert, "args": argparse.Namespace(mha="2-2-4-4")}
    assert convert_lavt(written(tmp_path, content), tmp_path / "model", encoders)["fusion_heads"] == (2, 2, 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"backbone.extra.weight": torch.zeros(1)}, "does not have: backbone.extra.weight"),
        (lambda m: {k: v for k, v in m.items() if "res_gate" not in k}, "gate.0.weight is missing"),
        (lambda m: {k: v for k, v in m.items() if "classifier" in k}, "not a checkpoint of LAVT"),
        (lambda m: {k: v[:2] if "qkv.weight" in k else v for k, v in m.items()}, "qkv.weight has the shape"),
        (lambda m: {k: v.sum() if "qkv.bias" in k else v for k, v in m.items()}, "qkv.bias has the shape"),
        (lambda m: {k: v[0] if "position_bias_table" in k else v for k, v in m.items()}, "lavt.pth: not a checkpoint"),
        (lambda m: {k: v.sum() if "patch_embed.proj" in k else v for k, v in m.items()}, "lavt.pth: not a checkpoint"),
    ],
)
def test_what_does_not_fit_is_named(reference, bert, encoders, tmp_path, change, message):
    content = {"model": change(released(reference)), "bert_model": bert}
    with pytest.raises(ValueError, match=message):
        convert_lavt(written(tmp_path, content), tmp_path / "model", encoders)
    assert not (tmp_path / "model").exists()


def test_nothing_is_executed(encoders, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    for content, message in (({"model": Evil()}, "not a checkpoint of tensors"), ([1], "holds no 'model'")):
        with pytest.raises(ValueError, match=message):
            convert_lavt(written(tmp_path, content), tmp_path / "model", encoders)
    assert not (tmp_path / "owned").exists()
    with pytest.raises(ValueError, match="no such file"):
        convert_lavt(tmp_path / "none.pth", tmp_path / "model", encoders)
