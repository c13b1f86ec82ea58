"""The packaged weights do what the README says of them, and the paper's size runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refseg.data.formats.images import read_image
from refseg.data.shapes import RefShapes
from refseg.data.transforms import image_to_pixels
from refseg.methods import METHODS
from refseg.predictor import Predictor
from refseg.presets import get_preset
from refseg.scoring.evaluation import evaluate
from refseg.scoring.guessers import evaluate_baselines
from refseg.weights.folders import packaged_models

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "coco_photos" / "images"


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged_models())
def test_packaged_weights_find_objects_because_they_read(name):
    predictor, data = Predictor.from_pretrained(name, "cpu"), RefShapes("refshapes", "val")
    found = {
        words: evaluate(predictor, data, 600, words)[0].summary()["mIoU"] for words in ("true", "shuffled", "swapped")
    }
    guessed = {guesser: scores.summary()["mIoU"] for guesser, scores in evaluate_baselines(data, 600).items()}
    assert found["true"] >= 0.5
    assert found["true"] > max(guessed.values()) + 0.1
    assert max(found["shuffled"], found["swapped"]) < 0.35


@pytest.mark.slow
def test_paper_size_runs_forward_and_backward_on_a_photo():
    photo = PHOTOS / "000000000036.jpg"  # a drawn scene stands in where the photos are not at hand
    image = read_image(photo) if photo.is_file() else RefShapes("refshapes", "val").draw(0, 640, 480).image
    preset = get_preset("lgformer")
    network = METHODS[preset.method][0](preset.model).train()
    pixels = image_to_pixels(image, preset.input)[None]
    tokens, mask = torch.tensor([[101, 1996, 2158, 1999, 2304, 102]]), torch.ones(1, 6, dtype=torch.bool)
    target = torch.zeros(1, 480, 480, dtype=torch.bool)
    target[:, 100:300, 100:300] = True
    output = network(network.encode_image(pixels), network.encode_text(tokens, mask), torch.zeros(1, dtype=torch.long))
    assert output.logits.shape == (1, 1, 120, 120)
    sum(network.loss(output, target).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
