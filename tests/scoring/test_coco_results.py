from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from refseg.data.formats.rle import encode_rle
from refseg.data.questions import ask
from refseg.data.sets import open_data
from refseg.scoring.coco_results import coco_results, write_coco_results
from refseg.scoring.guessers import can_be_guessed, evaluate_baselines, guess_objects
from refseg.scoring.predictions import PredictionFile


def written(folder, *rows, **header):
    head = {"size": "original", "threshold": 0.5, "model": "m", **header}
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (head, *rows)))
    return path


def square(top, left, side, shape=(20, 30)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def row(number, mask, **more):
    return {"sent_id": f"s{number}", "image_id": "7", "expression": f"e{number}", "rle": encode_rle(mask)} | more


def test_pycocotools_loads_the_answers(tmp_path):
    masks = [square(2, 3, 5), square(10, 10, 4), np.zeros((20, 30), bool)]
    path = written(tmp_path, *(row(i, mask, score=(0.9, None, 0.0)[i]) for i, mask in enumerate(masks)))
    out = tmp_path / "results.json"
    assert write_coco_results(path, out) == 3
    truth = COCO()
    truth.dataset = {"images": [{"id": 7, "height": 20, "width": 30}], "categories": [{"id": 1}], "annotations": []}
    truth.createIndex()
    found = truth.loadRes(str(out))
    assert [found.anns[i]["score"] for i in (1, 2, 3)] == [0.9, 1.0, 0.0]
    for annotation, mask in zip(found.loadAnns(found.getAnnIds(imgIds=7)), masks, strict=True):
        assert np.array_equal(coco_mask.decode(annotation["segmentation"]).astype(bool), mask)
    first = json.loads(out.read_text())[0]
    assert first["bbox"] == [3, 2, 5, 5] and first["area"] == 25 and first["expression"] == "e0"
    assert first["image_id"] == 7 and first["category_id"] == 1 and first["sent_id"] == "s0"


def test_what_is_no_answer_of_an_image_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"masks of a network's size"):
        coco_results(PredictionFile(written(tmp_path, size=[20, 30])))
    nameless = row(0, square(0, 0, 2))
    del nameless["image_id"]
    with pytest.raises(ValueError, match=r"'s0': without image_id"):
        coco_results(PredictionFile(written(tmp_path, nameless)))
    with pytest.raises(ValueError, match=r"predictions.jsonl: expression 's0': "):
        coco_results(PredictionFile(written(tmp_path, row(0, square(0, 0, 2), rle={"size": [2, 2], "counts": "!"}))))
    out = tmp_path / "out.json"
    out.write_text("mine")
    path = written(tmp_path, row(0, square(0, 0, 2), image_id="img_7"))
    with pytest.raises(ValueError, match="is there already"):
        write_coco_results(path, out)
    assert out.read_text() == "mine"
    assert write_coco_results(path, out, overwrite=True) == 1
    answers = path.read_bytes()
    with pytest.raises(ValueError, match="is read and would be replaced"):
        write_coco_results(path, path, overwrite=True)
    assert path.read_bytes() == answers
    assert json.loads(out.read_text())[0]["image_id"] == "img_7"


@pytest.fixture
def crowded(tmp_path):
    """One photo with two dogs and a cat, of which two are referred to."""
    boxes = {"1": [2, 3, 5, 5], "2": [10, 10, 4, 4], "3": [0, 14, 9, 6]}
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    annotations = [
        {"id": int(name), "image_id": 7, "category_id": 1 + (name == "3"), "bbox": box, "area": box[2] * box[3],
         "segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2], box[1] + box[3],
                           box[0], box[1] + box[3]]], "iscrowd": 0}
        for name, box in boxes.items()
    ]  # fmt: skip
    content = {"images": [{"id": 7, "file_name": "a.png", "height": 20, "width": 30}], "annotations": annotations,
               "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}  # fmt: skip
    (tmp_path / "instances.json").write_text(json.dumps(content))
    asked = [{"ann_id": 1, "expression": "the dog"}, {"ann_id": 3, "expression": "the cat"}]
    (tmp_path / "expressions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    return open_data(str(tmp_path), "all")


def test_annotated_objects_are_guessed(crowded):
    assert can_be_guessed(crowded)
    (question,) = list(ask(crowded))
    guesses = guess_objects(question, crowded)
    assert set(guesses) == {"random object", "largest object", "its category"}
    objects = [square(3, 2, 5), square(10, 10, 4)]
    cat = np.zeros((20, 30), bool)
    cat[14:20, 0:9] = True
    assert all(np.array_equal(mask, cat) for mask in guesses["largest object"])
    dog, only = guesses["its category"]
    assert any(np.array_equal(dog, mask) for mask in objects) and np.array_equal(only, cat)
    assert all(any(np.array_equal(mask, one) for one in (*objects, cat)) for mask in guesses["random object"])
    again = guess_objects(question, crowded)
    assert all(np.array_equal(a, b) for name in guesses for a, b in zip(guesses[name], again[name], strict=True))
    scores = evaluate_baselines(crowded)
    assert scores["largest object"].summary()["mIoU"] == 0.5 and len(scores["its category"].pairs) == 2


def test_annotations_of_something_else_are_named(crowded, tmp_path):
    content = json.loads((tmp_path / "instances.json").read_text())
    content["annotations"] = content["annotations"][1:]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances.json: has no annotation 1 of image 7"):
        evaluate_baselines(crowded)


@pytest.mark.parametrize("score", ["1e400", '"high"', "[1]", "true"])
def test_a_score_that_is_no_number_is_named(tmp_path, score):
    path = written(tmp_path, row(0, square(0, 0, 2), score="HERE"))
    path.write_text(path.read_text().replace('"HERE"', score))
    with pytest.raises(ValueError, match="'s0': score .*; a number, or null, is accepted"):
        coco_results(PredictionFile(path))


@pytest.mark.parametrize(
    ("image_id", "told"), [("00000123", "00000123"), ("123", 123), (123, 123), ("9" * 40, "9" * 40)]
)
def test_images_are_not_merged(tmp_path, image_id, told):
    path = written(tmp_path, row(0, square(0, 0, 2), image_id=image_id))
    assert coco_results(PredictionFile(path))[0]["image_id"] == told


def test_data_without_objects_is_not_guessed(tmp_path):
    from ball import OUTLINE, own_data

    assert not can_be_guessed(open_data(str(own_data(tmp_path, [OUTLINE])), "all"))
