from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from refseg.data.shapes import RefShapes
from refseg.predictor import Predictor
from refseg.training.inside import crowded, look_inside, spread
from refseg.types import Expression, Reference, Sample
from tiny import tiny_model


def scene(*texts: str) -> Sample:
    """Two objects, the left and the right half; every text is about one of them in turn."""
    masks = np.zeros((2, 32, 32), bool)
    masks[0, :, :16], masks[1, :, 16:] = True, True
    references = tuple(Reference(str(i), mask) for i, mask in enumerate(masks))
    expressions = tuple(Expression(str(i), text, i % 2) for i, text in enumerate(texts))
    return Sample("scene", np.zeros((32, 32, 3), np.uint8), references, expressions)


class Scripted(Predictor):
    """Answers with the half that a text names, as sure as it is told; queries as given."""

    def __init__(self, queries=None):
        super().__init__(tiny_model(), "cpu")
        self.queries = queries

    def network_logits(self, images, expressions, details=False, at_once=64):
        maps = {"left": [5.0, -5.0], "right": [-5.0, 5.0], "both": [5.0, 5.0], "none": [-5.0, -5.0]}
        logits = [
            torch.stack([torch.tensor(maps[text]).repeat_interleave(16).expand(1, 32, 32) for text in texts])
            for texts in expressions
        ]
        return ({} if self.queries is None else {"query_masks": self.queries}), logits


@pytest.mark.parametrize(
    ("texts", "words", "gap"),
    [
        (("left", "right"), 1.0, 1.0),
        (("right", "left"), 1.0, -1.0),  # it reads, and always takes the other one
        (("left", "left"), 0.0, 0.0),  # the same answer to everything
        (("left", "both"), 0.5 * 25 / 18.75, 0.5),  # variance 25 in one half of the pixels, of 100 - 25
    ],
)
def test_reading_is_measured(texts, words, gap):
    found = look_inside(Scripted(), [scene(*texts)])
    assert found == pytest.approx({"words": words, "gap": gap})


def test_the_same_answer_everywhere_is_no_reading():
    assert look_inside(Scripted(), [scene("none", "none")]) == {"words": 0.0, "gap": 0.0}
    assert look_inside(Scripted(), []) == {}


def test_queries_that_are_alike_have_no_spread():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert spread(torch.stack([one, 2 * one, 3 * one])[None]) == pytest.approx(0.0)
    assert spread(torch.stack([one, other])[None]) == pytest.approx(1.0)
    assert spread(torch.stack([one, one, other])[None]) == pytest.approx(2 / 3)
    queries = torch.stack([torch.stack([one, other]).view(2, 1, 2)] * 2)
    assert look_inside(Scripted(queries), [scene("left", "right")])["queries"] == pytest.approx(1.0)
    assert "queries" not in look_inside(Scripted(queries[:, :1]), [scene("left", "right")])


def test_images_with_several_objects_are_looked_at():
    found = crowded(RefShapes("refshapes", "val"))
    assert len(found) == 16
    assert all(len({e.reference for e in sample.expressions}) > 1 for sample in found)


def test_every_evaluation_is_in_the_log(tmp_path):
    from dataclasses import replace

    from refseg.presets import get_preset
    from refseg.presets.base import override
    from refseg.training.config import Run
    from refseg.training.loop import train
    from tiny import LGFORMER

    preset = get_preset("lgformer-shapes")
    recipe = replace(preset.recipe, images_per_batch=2, warmup=0)
    small = replace(preset, model=override(preset.model, LGFORMER), recipe=recipe, encoders=None)
    said = []
    train(Run(small, ("refshapes",), tmp_path / "run", steps=2, eval_limit=4, workers=0), say=said.append)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (found,) = [line["inside"] for line in lines if "inside" in line]
    assert set(found) == {"words", "gap"} and 0 <= found["words"] <= 1
    assert any("words " in line and "gap " in line for line in said)
