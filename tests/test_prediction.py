from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from refseg.prediction import Prediction


def prediction(**changes) -> Prediction:
    """A block of 2 x 3 pixels that is sure, a speck that is not."""
    logits = np.full((8, 10), -4.0, dtype=np.float32)
    logits[2:4, 3:6] = 3.0
    logits[7, 9] = 0.2
    picture = np.full((8, 10, 3), 90, dtype=np.uint8)
    given = {"expression": "x", "mask": logits > 0, "score": 0.9, "logits": logits, "image": picture}
    return Prediction(**(given | changes))


def test_repr_is_one_short_line():
    assert repr(prediction()) == "Prediction('x', score=0.900, area=7, box=(3, 2, 7, 6), size=10x8)"
    assert len(repr(prediction(expression="red " * 500))) < 150
    assert "score=None" in repr(prediction(score=None, logits=None))


def test_another_threshold_by_hand():
    high, low = prediction().at(0.9), prediction().at(0.01)
    assert high.area == 6 and high.threshold == 0.9 and low.area == 80
    assert high.score == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert prediction().at(0.999).score == 0.0 and prediction().at(0.999).box is None


@pytest.mark.parametrize("threshold", [0, 1, -1, 2.5, float("nan"), "0.5", None])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match="a probability between 0 and 1 is accepted"):
        prediction().at(threshold)


def test_a_model_without_log_odds_has_no_other_threshold():
    with pytest.raises(ValueError, match="without log-odds"):
        prediction(logits=None, score=None).at(0.3)


def test_the_largest_part_has_no_speck():
    found = prediction().largest()
    assert found.box == (3, 2, 3, 2) and found.area == 6
    assert found.score == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert prediction(logits=None, score=None).largest().score is None
    nothing = prediction(mask=np.zeros((8, 10), dtype=bool)).largest()
    assert nothing.area == 0 and nothing.box is None and nothing.score == 0.0


def test_a_saved_mask_is_the_mask(tmp_path):
    path = prediction().save(tmp_path / "new" / "mask.png")
    with Image.open(path) as stored:
        assert np.array_equal(np.asarray(stored) == 255, prediction().mask) and stored.mode == "L"
    with pytest.raises(ValueError, match=r"mask.jpg: a name that ends in \.png"):
        prediction().save(tmp_path / "mask.jpg")
    assert [each.name for each in path.parent.iterdir()] == ["mask.png"]


def test_coco_is_json_and_gives_the_mask_again():
    from pycocotools import mask as coco

    found = json.loads(json.dumps(prediction(score=None, logits=None).to_coco()))
    assert np.array_equal(coco.decode(found["segmentation"]).astype(bool), prediction().mask)
    assert found["bbox"] == [3, 2, 7, 6] and found["area"] == 7 and found["score"] is None
    assert prediction(mask=np.zeros((8, 10), dtype=bool)).to_coco()["bbox"] == [0, 0, 0, 0]


def test_a_notebook_shows_a_picture():
    with Image.open(io.BytesIO(prediction()._repr_png_())) as shown:
        assert shown.size == (10, 8) and shown.mode == "RGB"
    with Image.open(io.BytesIO(prediction(image=None)._repr_png_())) as shown:
        assert shown.size == (10, 8) and shown.mode == "L"


def test_an_overlay_needs_an_image_of_the_same_size():
    assert prediction().overlay().size == (10, 8)
    assert prediction(image=None).overlay(np.zeros((8, 10, 3), np.uint8)).size == (10, 8)
    with pytest.raises(ValueError, match="was not kept"):
        prediction(image=None).overlay()
    with pytest.raises(ValueError, match=r"shape \(10, 8, 3\)"):
        prediction().overlay(np.zeros((10, 8, 3), np.uint8))


def test_supervision_gets_what_its_detections_take(monkeypatch):
    from types import ModuleType

    made = []

    class Detections:
        def __init__(self, **given):
            made.append(given)

        @classmethod
        def empty(cls):
            return "none"

    library = ModuleType("supervision")
    library.Detections = Detections
    monkeypatch.setitem(sys.modules, "supervision", library)
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    Prediction("the dog", mask, 0.75, None).to_supervision()
    (given,) = made
    assert given["xyxy"].tolist() == [[3, 2, 7, 4]] and given["mask"].shape == (1, 6, 8) and given["mask"].dtype == bool
    assert given["confidence"].tolist() == [0.75] and given["data"]["expression"].tolist() == ["the dog"]
    Prediction("the dog", mask, None, None).to_supervision()
    assert made[1]["confidence"] is None
    assert Prediction("the dog", np.zeros((6, 8), bool), 0.0, None).to_supervision() == "none"
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        Prediction("the dog", mask, 0.5, None).to_supervision()
