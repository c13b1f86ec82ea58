"""Published LGFormer checkpoints, made from the names and numbers in `lgformer_released.safetensors`."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
import torch.nn.functional as F

from refseg.data.formats.export import export_jsonl
from refseg.data.shapes import RefShapes
from refseg.weights.convert.lgformer import convert_lgformer
from refseg.weights.store import load_model

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # what the published code's own float32 noise allows
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle"]


@pytest.fixture(scope="module")
def numbers(reference):
    return reference("lgformer_released")


@pytest.fixture
def encoders(tmp_path):
    folder = tmp_path / "encoders" / "bert-base-uncased"
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    return tmp_path / "encoders"


def published(numbers, folder, change=lambda model: model, **arguments):
    """A file as the authors' training wrote it."""
    model = {key.removeprefix("weights."): value for key, value in numbers.items() if key.startswith("weights.")}
    content = {
        "model": change(model), "optimizer": {"state": {}, "param_groups": []}, "epoch": 39, "lr_scheduler": {},
        "args": argparse.Namespace(**({"mha": "", "img_size": 64} | arguments)),
    }  # fmt: skip
    torch.save(content, folder / "lgformer.pth")
    return folder / "lgformer.pth"


@pytest.fixture
def model(numbers, encoders, tmp_path):
    convert_lgformer(published(numbers, tmp_path), tmp_path / "model", encoders)
    return load_model(str(tmp_path / "model"))


def answers(network, numbers, pixels=None, details=True):
    text = network.encode_text(numbers["input.tokens"], numbers["input.word_mask"].bool())
    image = network.encode_image(numbers["input.pixels"] if pixels is None else pixels)
    return image, text, network(image, text, torch.arange(len(text.words)), details=details)


def enlarged(masks, size):
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)


def test_every_output_of_the_released_system(model, numbers):
    network = model.network
    with torch.no_grad():
        image, text, output = answers(network, numbers)
        maps, words = network.encoder(image, text, torch.arange(2))
        pixels = network.pixel_decoder(maps, text, words, True)
    torch.testing.assert_close(text.words, numbers["output.words_bert"], **CLOSE)
    for stage, found in enumerate(maps, 1):
        torch.testing.assert_close(found, numbers[f"output.stage{stage}"], **CLOSE)
    torch.testing.assert_close(words, numbers["output.words"], **CLOSE)
    for level, size, stride in zip(pixels.levels, pixels.sizes, (32, 16, 8), strict=True):
        torch.testing.assert_close(level.transpose(1, 2).unflatten(2, size), numbers[f"output.pixels{stride}"], **CLOSE)
    torch.testing.assert_close(pixels.mask_features, numbers["output.mask_features"], **CLOSE)
    masks = output.details["masks_by_layer"]
    torch.testing.assert_close(masks, numbers["output.masks_stride4"].reshape(masks.shape), **CLOSE)
    size = numbers["input.pixels"].shape[-2:]
    torch.testing.assert_close(enlarged(masks, size), numbers["output.masks"].reshape(*masks.shape[:2], *size), **CLOSE)
    torch.testing.assert_close(enlarged(output.logits, size), numbers["output.logits"].reshape(2, 1, *size), **CLOSE)


def test_every_query_and_the_words_of_every_stage(model, numbers):
    network, seen = model.network, []
    for fusion in network.encoder.fusions:
        fusion.register_forward_hook(lambda module, given, fused: seen.append(fused.words))
    with torch.no_grad():
        image, text, _ = answers(network, numbers)
        maps, words = network.encoder(image, text, torch.arange(2))
        pixels = network.pixel_decoder(maps, text, words, False)
        real = text.mask.unsqueeze(-1)
        query = network.pooled_to_query((words * real).sum(1) / real.sum(1))[:, None]
        queries = [query, *network.generator(query, pixels.levels, pixels.sizes)]
    for stage in range(4):
        torch.testing.assert_close(seen[stage], numbers[f"output.stage{stage + 1}_words"], **CLOSE)
    torch.testing.assert_close(torch.cat(queries, 1), numbers["output.queries"], **CLOSE)


def test_an_image_whose_sides_are_no_multiple_of_the_patch(model, numbers):
    height, width = 70, 90
    with torch.no_grad():
        pixels = numbers["input.pixels"][:, :, :height, :width]
        _, _, output = answers(model.network, numbers, pixels)
    last = output.details["masks_by_layer"][:, -1:]
    torch.testing.assert_close(last, numbers["output_odd.masks_stride4"].reshape(last.shape), **CLOSE)
    logits = enlarged(output.logits, (height, width))
    torch.testing.assert_close(logits, numbers["output_odd.logits"].reshape(logits.shape), **CLOSE)


def test_loss_and_the_norm_of_every_gradient(model, numbers):
    network = model.network.train()
    network.requires_grad_(True)
    for module in network.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    _, _, output = answers(network, numbers, details=False)
    loss = sum(network.loss(output, numbers["input.targets"].bool()).values())
    torch.testing.assert_close(loss, numbers["train.loss"].reshape(()), rtol=1e-4, atol=1e-5)
    loss.backward()
    from refseg.weights.convert.lgformer import RULES
    from refseg.weights.convert.published import renamed

    norms = {key.removeprefix("train.grad_norm."): value for key, value in numbers.items() if "grad_norm" in key}
    ours = renamed(norms, RULES, "numbers", "LGFormer")
    assert len(ours) == len(norms) == 6
    for name, norm in ours.items():
        found = network.get_parameter(name).grad.norm()
        torch.testing.assert_close(
            found, norm.reshape(()), rtol=2e-3, atol=2e-5, msg=lambda said, name=name: f"{name}: {said}"
        )


def test_what_the_file_says_is_taken_over(numbers, encoders, tmp_path):
    found = convert_lgformer(published(numbers, tmp_path, mha="1-2-2-4", img_size=96), tmp_path / "model", encoders)
    assert found["depths"] == (2, 2, 2, 1) and found["fusion_heads"] == (1, 2, 2, 4)
    model = load_model(str(tmp_path / "model"))
    assert model.input.size == (96, 96) and model.method == "lgformer" and model.input.max_tokens == 20
    assert found["parameters"] == sum(p.numel() for p in model.network.parameters())


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda m: m | {"backbone.extra.weight": torch.zeros(1)}, {}, "LGFormer does not have: backbone.extra.weight"),
        (lambda m: {k: v for k, v in m.items() if "sym_res_gate" not in k}, {}, "word_gate.0.weight is missing"),
        (lambda m: {k: v for k, v in m.items() if "pix_dec" in k}, {}, "not a checkpoint of LGFormer"),
        (lambda m: m, {"mha": "1-2"}, "args.mha '1-2': 4 numbers of heads"),
        (lambda m: m, {"mha": "a-b-c-d"}, "args.mha"),
        (lambda m: m, {"img_size": "large"}, "args.img_size 'large'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(numbers, encoders, tmp_path, change, arguments, message):
    with pytest.raises(ValueError, match=message):
        convert_lgformer(published(numbers, tmp_path, change, **arguments), tmp_path / "model", encoders)
    assert not (tmp_path / "model").exists()


def test_a_pooler_positions_and_prefixes_are_tolerated(numbers, encoders, tmp_path):
    more = {
        "text_encoder.pooler.dense.weight": torch.zeros(64, 64),
        "text_encoder.embeddings.position_ids": torch.zeros(1, 24),
    }
    checkpoint = published(numbers, tmp_path, lambda m: {f"module.{k}": v for k, v in (m | more).items()})
    convert_lgformer(checkpoint, tmp_path / "model", encoders)
    assert load_model(str(tmp_path / "model")).method == "lgformer"


def test_through_the_command_line_into_a_mask(numbers, encoders, tmp_path, monkeypatch, capsys):
    import sys

    from refseg.cli.main import main

    def run(*arguments, answer=True):
        monkeypatch.setattr(sys, "argv", ["refseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        said = capsys.readouterr().out
        return json.loads(said) if answer else None

    checkpoint, folder = published(numbers, tmp_path, img_size=64), tmp_path / "model"
    found = run("convert", "lgformer", checkpoint, folder, "--encoders", encoders, "--json")
    assert found["model"] == str(folder) and found["depths"] == [2, 2, 2, 1]
    scene = encoders.parents[0] / "scene.png"
    from PIL import Image

    Image.new("RGB", (90, 70), "red").save(scene)
    (answer,) = run("segment", scene, "red circle", "--model", folder, "--out", tmp_path, "--json")
    assert answer["rle"]["size"] == [70, 90]
    report = run("eval", folder, "--limit", "4", "--json")
    assert report["expressions"] == 4
    # On a data set of one's own: scored, and trained on.
    own = export_jsonl([RefShapes("refshapes", split) for split in ("train", "val")], tmp_path / "own", limit=3).parent
    report = run("eval", folder, "--data", own, "--split", "val", "--json")
    assert report["expressions"] == sum(len(RefShapes("refshapes", "val").expressions(i)) for i in range(3))
    stored = json.loads((folder / "config.json").read_text())
    same = [word for key, value in stored["model"].items() for word in ("--set", f"model.{key}={json.dumps(value)}")]
    small = ("--set", "input.size=[64, 64]", "--set", "recipe.images_per_batch=2", "--workers", 0, "--device", "cpu")
    run("train", "lgformer-released", "--init", folder, "--data", own, "--steps", 1, "--out", tmp_path / "run", *same,
        *small, answer=False)  # fmt: skip
    trained, start = (load_model(str(path)).network.state_dict() for path in (tmp_path / "run" / "last", folder))
    assert trained.keys() == start.keys()
    words = "text_encoder.model.embeddings.word_embeddings.weight"  # of which the vocabulary spells the first ones
    trained[words], start[words] = trained[words][: len(PIECES)], start[words][: len(PIECES)]
    moved = [key for key, value in start.items() if not torch.equal(trained[key], value)]
    assert moved and all((trained[key] - start[key]).abs().max() < 1e-3 for key in moved)  # one step from where it was
