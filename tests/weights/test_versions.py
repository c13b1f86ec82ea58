"""Models and checkpoints that were saved under earlier names compute what they did."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from refseg.predictor import Predictor
from refseg.presets import get_preset
from refseg.presets.base import shapes_tokenizer
from refseg.training.checkpoint import Checkpoint, RunState, load_checkpoint, save_checkpoint
from refseg.training.loop import describe
from refseg.weights.folders import PACKAGED
from refseg.weights.start import fresh_start
from refseg.weights.store import load_model, save_model
from refseg.weights.versions import FORMAT, upgraded_config

FOLDER = Path(__file__).parent / "format1"
SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
# Models of format 1, those that shipped and a tiny one of every method as printed then: their config, the names and
# shapes of their tensors, and what the version that wrote them answered about the scene with the weights that `filled`
# gives (every 24th pixel of the logits).
MODELS = sorted(path.stem for path in FOLDER.glob("*.json"))
OLD_FIELDS = {"lgformer": {"generator": "prototype"}, "alignformer": {"generator": "decoder"}, "lavt": {}}
OLD_TENSORS = {"alignformer": ("generator.", "decoder.")}


def filled(name: str, kind: str, shape: list[int], scale: float = 0.08) -> np.ndarray:
    """A tensor that its name decides."""
    if kind.startswith("I"):
        return np.zeros(shape, np.int64)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape) * scale
    positive = name.endswith(("running_var", "norm.weight", "LayerNorm.weight"))
    return (1 + abs(drawn) if positive else drawn).astype(np.float16)


def format_1(name: str, folder: Path) -> dict:
    """Writes a folder as the first format had it; returns what is known of it."""
    known = json.loads((FOLDER / f"{name}.json").read_text())
    folder.mkdir()
    weights = folder / "model.safetensors"
    scale = known.get("scale", 0.08)
    save_file({key: filled(key, *about, scale) for key, about in known["tensors"].items()}, weights)
    config = known["config"] | {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))
    shapes_tokenizer().save(folder / "tokenizer.json")
    return known


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_in_format_1_answers_as_it_did(name, tmp_path):
    known = format_1(name, tmp_path / "old")
    assert known["config"]["format"] == 1
    model = load_model(str(tmp_path / "old"))
    found = Predictor(model, "cpu")(SCENE, "the striped square").logits
    np.testing.assert_allclose(found[::24, ::24], known["logits"], rtol=1e-3, atol=1e-4)
    save_model(model, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["format"] == 4
    again = load_model(str(tmp_path / "new"))
    assert again.network.config == model.network.config
    assert np.array_equal(Predictor(again, "cpu")(SCENE, "the striped square").logits, found)


@pytest.mark.parametrize("name", MODELS)
def test_every_stored_bit_has_its_place(name, tmp_path):
    known = format_1(name, tmp_path / "old")
    own = load_model(str(tmp_path / "old")).network.state_dict()
    start, old = OLD_TENSORS.get(known["config"]["method"], ("", ""))
    for key, tensor in own.items():
        before = old + key.removeprefix(start) if start and key.startswith(start) else key
        stored = filled(before, *known["tensors"][before], known.get("scale", 0.08))
        assert torch.equal(tensor, torch.from_numpy(stored).to(tensor.dtype)), key
    assert len(own) == len(known["tensors"])


@pytest.mark.parametrize("method", sorted(OLD_FIELDS))
def test_a_checkpoint_in_format_1_goes_on(method, tmp_path):
    preset = get_preset(f"{method}-shapes")
    network = fresh_start(preset, 0, None, ()).model.network
    parts = {"network": network.state_dict(), "average": {f"module.{k}": v for k, v in network.state_dict().items()}}
    run = RunState(
        step=3, seed=0, steps=9, preset=describe(preset), data="refshapes", items=0, overlap="union", eval_limit=None,
        precision="fp32", ema=0.0, source="", tokenizer="",
    )  # fmt: skip
    save_checkpoint(tmp_path, Checkpoint(run, parts, []), keep=1)
    (path,) = (tmp_path / "checkpoints").iterdir()
    content = torch.load(path, weights_only=True)
    assert content.pop("format") == 4 and content.pop("hashes")
    described = json.loads(content["run"]["preset"])
    described["model"] = {OLD_FIELDS[method].get(key, key): value for key, value in described["model"].items()}
    content["run"]["preset"] = json.dumps(described, sort_keys=True)
    start, old = OLD_TENSORS.get(method, ("-", "-"))
    for part, prefix in (("network", ""), ("average", "module.")):
        tensors = content["parts"][part].items()
        content["parts"][part] = {key.replace(prefix + start, prefix + old, 1): value for key, value in tensors}
    if method == "alignformer":
        assert any(key.startswith("module.decoder.") for key in content["parts"]["average"])
    torch.save(content, path)
    found = load_checkpoint(path)
    assert found.run == run
    for part, tensors in parts.items():
        assert list(found.parts[part]) == list(tensors)
        assert all(torch.equal(found.parts[part][key], value) for key, value in tensors.items())


EAVL_WAS = {"neck_style": "cris", "matrix_bias": True, "finer_neck": False}
CRFORMER_WAS = {"fusion_heads": [1, 1, 1, 1], "padded_tokens": 0, "neck_style": "cris", "finer_neck": False}


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        (
            "crformer",
            {"qgm": "paper", "recon": "released"},
            {"qgm": "printed", "recon": "released"} | CRFORMER_WAS,
        ),
        ("eavl", {"upsampler": "paper", "estimator": "off"}, {"upsampler": "single", "estimator": "off"} | EAVL_WAS),
        ("eavl", {"estimator": "paper"}, {"estimator": "attention"} | EAVL_WAS),
        ("jmceln", {"qgm": "paper"}, {"qgm": "paper"}),
    ],
)
def test_values_of_format_1_have_their_names_of_today(method, old, new):
    assert upgraded_config(1, method, old) == new and upgraded_config(FORMAT, method, old) == old


@pytest.mark.parametrize("version", [0, FORMAT + 1, "1", None, 1.0, True])
def test_another_format_is_refused_by_its_number(version, tmp_path):
    shutil.copytree(PACKAGED / "lavt-shapes", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"format": version}))
    with pytest.raises(ValueError, match=f"this version reads the formats 1 to {FORMAT}"):
        load_model(str(tmp_path / "model"))
