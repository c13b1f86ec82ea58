from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from refseg.files import write_beside
from refseg.presets import get_preset
from refseg.presets.base import override, shapes_tokenizer
from refseg.weights.folders import PACKAGED, find_model, packaged_models
from refseg.weights.start import bare
from refseg.weights.store import config_from_dict, load_model, save_model
from tiny import tiny, tiny_model

SQUASH = {"resize": "squash"}


@pytest.fixture
def folder(tmp_path):
    save_model(tiny_model(), tmp_path / "model")
    return tmp_path / "model"


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_packaged_models_load_are_small_and_say_how_they_were_trained():
    assert packaged_models()
    for name in packaged_models():
        model = load_model(name)
        assert (PACKAGED / name / "model.safetensors").stat().st_size <= 6_000_000
        assert {"data", "steps", "seed", "val"} <= set(model.training)
        stored = load_file(PACKAGED / name / "model.safetensors")
        large = {key for key, t in stored.items() if t.is_floating_point() and t.dtype != torch.float16}
        assert all(float(stored[key].abs().max()) > 65504 for key in large)
        assert all(p.dtype == torch.float32 for p in model.network.parameters())


def test_half_precision_is_stored_and_read_as_float32(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path, half=True)
    again = load_model(str(tmp_path))
    for ours, theirs in zip(model.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(ours.half().float(), theirs)


def test_numbers_beyond_half_precision_are_kept(tmp_path):
    model = tiny_model()
    name, parameter = next(iter(model.network.named_parameters()))
    with torch.no_grad():
        parameter.flatten()[0] = 70000.0
    save_model(model, tmp_path, half=True)
    again = dict(load_model(str(tmp_path)).network.named_parameters())
    assert torch.equal(again[name], parameter)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored[name].dtype == torch.float32
    assert {t.dtype for key, t in stored.items() if key != name and t.is_floating_point()} == {torch.float16}


def test_a_damaged_file_is_refused(folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        load_model(str(folder))


def test_weights_of_another_model_are_refused_by_name(folder):
    import hashlib

    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["head.0.weight"] = tensors["head.0.weight"][:3].contiguous()
    tensors["extra"] = tensors.pop("head.2.bias")
    save_file(tensors, weights)
    edit(folder, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"head.2.bias is missing; extra is unknown; head.0.weight is \(3, 24\)"):
        load_model(str(folder))
    weights.write_text("no weights")
    edit(folder, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "unet"}, "method 'unet' is unknown; known are alignformer, "),
        ({"model": {"swin": 3}}, "missing"),
        ({"format": 5}, "format 5; this version reads the formats 1 to 4"),
        (
            {"input": {"size": [0, 64], "mean": [0, 0, 0], "std": [1, 1, 1], "max_tokens": 9, **SQUASH}},
            r"size \(0, 64\): a tuple with a whole number from 1",
        ),
        (
            {"input": {"size": [64, 64], "mean": [0, 0, 0], "std": [1, 1, 1], "max_tokens": 99, **SQUASH}},
            "99 tokens; the method takes",
        ),
        ({"input": {"size": [64, 64], "mean": [0, 0, 0], "std": [1, 1, 1], "max_tokens": "many", **SQUASH}}, "'many'"),
    ],
)
def test_a_config_that_is_none_is_refused(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(str(folder))


def test_missing_files_and_unknown_names_are_refused(folder, tmp_path):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="tokenizer.json is missing"):
        load_model(str(folder))
    for name in ("lgformer-shape", "a/b/c", "./nowhere", ""):
        with pytest.raises(ValueError, match="not found; accepted is a packaged model .*lgformer-shapes"):
            load_model(name)
    (folder / "config.json").write_text("{")
    (folder / "tokenizer.json").write_text("")
    with pytest.raises(ValueError, match="not the config of a model"):
        load_model(str(folder))


def test_hub_names_go_to_the_hub(monkeypatch, tmp_path):
    asked = []

    def answer(repository, allow_patterns, revision):
        asked.append((repository, tuple(allow_patterns)))
        if repository == "some/absent":
            raise OSError("401 Client Error\nsecond line")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", answer)
    assert find_model("some/model") == tmp_path == find_model("hf:some/model")
    assert asked[0] == ("some/model", ("config.json", "model.safetensors", "tokenizer.json"))
    with pytest.raises(
        ValueError, match=r"no such folder, and some/absent: cannot be read from the .* hub \(401 Client Error\)$"
    ):
        find_model("some/absent")


def test_configs_are_checked_field_by_field():
    config = get_preset("lgformer").model
    kind = type(config)
    from dataclasses import asdict

    stored = json.loads(json.dumps(asdict(config)))
    for change, message in (
        ({"fusion": "magic"}, "config.fusion: 'magic'"),
        ({"v2la": 1}, "config.v2la: 1"),
        ({"num_queries": 1.5}, "config.num_queries: 1.5"),
        ({"swin": {**stored["swin"], "depths": [2, "2"]}}, r"config.swin.depths\[1\]: '2'"),
        ({"swin": {**stored["swin"], "deep": 1}}, r"unknown \['deep'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            config_from_dict(kind, stored | change)


def test_impossible_widths_are_refused(folder):
    for key, value in (("embed_dim", -8), ("heads", [1, 2, 2, 0])):
        file = folder / "config.json"
        config = json.loads(file.read_text())
        before = file.read_text()
        config["model"]["swin"][key] = value
        file.write_text(json.dumps(config))
        with pytest.raises(ValueError, match="not the config of a model"):
            load_model(str(folder))
        file.write_text(before)


def test_a_model_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("disk full\nand more")

    monkeypatch.setattr("refseg.weights.store.save_file", fail)
    with pytest.raises(OSError, match=r"cannot be written \(disk full\)$"):
        save_model(tiny_model(), folder)
    load_model(str(folder))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_model_that_cannot_be_swapped_in_leaves_the_old_one(folder, monkeypatch):
    rename = Path.rename

    def fail(self, target):
        if self.name.endswith(".part"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        save_model(tiny_model(), folder)
    load_model(str(folder))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(beside):
        beside.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(OSError, match="stopped"):
        write_beside(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_do_not_fit_each_other_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["tokenizer_sha256"]  # as in the first models
    (folder / "config.json").write_text(json.dumps(config))
    shapes_tokenizer().with_words(["giraffe zebra"]).save(folder / "tokenizer.json")
    with pytest.raises(ValueError, match=f"{folder}: its files do not fit each other .*entries"):
        load_model(str(folder))


def test_more_tokens_than_the_pixel_decoder_has_positions_are_refused_at_the_start():
    preset = get_preset("lgformer")
    model = tiny("lgformer").model
    longer = replace(preset, model=model, input=replace(preset.input, max_tokens=model.pixel_decoder.max_tokens + 2))
    with pytest.raises(
        ValueError, match=r"22 tokens; the method takes 20, and more with model.pixel_decoder.max_tokens"
    ):
        bare(longer, shapes_tokenizer())
    plain = override(model, {"pixel_decoder.l2va": False})
    assert bare(replace(longer, model=plain), shapes_tokenizer()).input.max_tokens == 22
