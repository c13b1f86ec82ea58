"""An export answers as its model does: every method, any number of images, expressions and words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from refseg.data.shapes import RefShapes
from refseg.export.int8 import quantise
from refseg.export.manifest import FILES, GRAPHS, read_manifest
from refseg.export.run import OnnxPredictor
from refseg.export.write import export_model
from refseg.files import hash_of
from refseg.predictor import Predictor
from refseg.weights.folders import packaged_models
from refseg.weights.store import load_model
from tiny import tiny_model

TEXTS = ["circle", "the red one", "the large blue square on the left", "a ring that is above the small green triangle",
         "zebra"]  # fmt: skip


def asked(count):
    """Scenes of RefShapes with 1 to 5 expressions of different lengths."""
    scenes = [RefShapes("refshapes", "val")[number] for number in range(count)]
    own = [[expression.text for expression in scene.expressions] for scene in scenes]
    texts = [(some + TEXTS)[: 1 + number % 5] for number, some in enumerate(own)]
    return [scene.image for scene in scenes], texts


def compare(model, folder, scenes, scores=2e-3):
    """Largest difference of the log-odds, and the mean IoU of the masks at the image's own size."""
    predictor, exported = Predictor(model, "cpu"), OnnxPredictor(folder)
    images, texts = asked(scenes)
    worst, ious = 0.0, []
    for first in range(0, scenes, 2):
        for some in (slice(first, first + 1), slice(first, first + 2)):  # one image, then two
            wanted = predictor.network_logits(images[some], texts[some])[1]
            found = exported.network_logits(images[some], texts[some])
            worst = max(worst, *(float(np.abs(a.numpy() - b).max()) for a, b in zip(wanted, found, strict=True)))
        pairs = zip(
            predictor.predict(images[some], texts[some]), exported.predict(images[some], texts[some]), strict=True
        )
        for wanted, found in ((w, f) for ours, theirs in pairs for w, f in zip(ours, theirs, strict=True)):
            union = (wanted.mask | found.mask).sum()
            ious.append((wanted.mask & found.mask).sum() / union if union else 1.0)
            assert found.score == pytest.approx(wanted.score, abs=scores)  # a pixel at the threshold is in one of them
    return worst, float(np.mean(ious))


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged_models())
def test_a_packaged_model_gives_the_same_masks_and_scores(name, tmp_path, refseg):
    model, out = load_model(name), tmp_path / "export"
    export_model(model, out)
    worst, iou = compare(model, out, 20)
    assert worst < 1e-3 and iou >= 0.999
    scores = [json.loads(refseg("eval", one, "--limit", 60, "--json")[1]) for one in (name, out)]
    for key in ("oIoU", "mIoU", "P@0.5", "P@0.9"):
        assert scores[1][key] == pytest.approx(scores[0][key], abs=1e-3)

    manifest = read_manifest(out)  # the same graphs, without tracing again
    for file in GRAPHS:
        quantise(out / file)
    replace(manifest, precision="int8", sha256={file: hash_of(out / file) for file in FILES}).write(out)
    assert compare(model, out, 20, scores=0.1)[1] >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["alignformer", "crformer", "crformer-released", "crformer-shapes", "eavl", "eavl-shapes", "eavl/vit-b16",
             "jmceln", "lavt", "lgformer", "lgformer-released"]
)  # fmt: skip
def test_every_method_gives_the_same_log_odds(name, tmp_path):
    torch.manual_seed(0)
    model = tiny_model(name)
    export_model(model, tmp_path / "export")
    worst, _ = compare(model, tmp_path / "export", 4)
    assert worst < 1e-3
