"""The config of a model is held against its weights before a network takes memory."""

from __future__ import annotations

import json
import resource

import pytest

from refseg.weights.store import load_model, save_model
from tiny import tiny_model


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "bert", "width"), 60_000),
        (("model", "swin", "embed_dim"), 40_000),
        (("model", "swin", "depths"), [900, 900, 900, 900]),
        (("model", "pixel_decoder", "layers"), 10**9),
        (("model", "pixel_decoder", "width"), 2**20),
        (("model", "bert", "vocab"), 10**9),
        (("input", "size"), [100_000, 100_000]),
        (("model", "generator", "heads"), 10**12),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_of_another_network_builds_nothing(tmp_path, path, value):
    save_model(tiny_model(), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    assert path[-1] in inner
    inner[path[-1]] = value
    file.write_text(json.dumps(config))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"config\.json: not the config of"):
        load_model(tmp_path / "model")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
