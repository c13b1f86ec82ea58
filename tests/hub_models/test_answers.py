"""From a network's numbers to a mask: hand-written sequences, boxes and maps, and what they should become."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf

from hub import tiny_hub
from refseg.data.transforms import image_to_pixels
from refseg.hub_models.detectors import GroundingDino, Owlv2, corners, sentence
from refseg.hub_models.find import find_hub_model
from refseg.hub_models.florence2 import draw_outlines, outlines_of, plain
from refseg.hub_models.segmenters import Sam2, scale_boxes, to_image
from refseg.predictor import Predictor

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
TEXTS = ["red circle", "the square"]


def places(*numbers: int) -> str:
    return "".join(f"<loc_{number}>" for number in numbers)


def test_places_become_polygons():
    answer = f"</s><s>{places(0, 0, 999, 0, 999, 499)}<sep>{places(100, 200, 300, 400, 500, 600, 700)}</s><pad>"
    one, other = outlines_of(answer, (100, 200))  # a place is 0.2 wide and 0.1 high, and stands for its middle
    np.testing.assert_allclose(one, [[0.1, 0.05], [199.9, 0.05], [199.9, 49.95]])
    np.testing.assert_allclose(other, [[20.1, 20.05], [60.1, 40.05], [100.1, 60.05]])  # the last has no partner


@pytest.mark.parametrize(
    "answer",
    ["", "</s><s></s>", "the red circle", f"<poly>{places(1, 2, 3, 4)}</poly>", "<loc_1000><loc_5><loc_6>", "<loc_>"],
)
def test_what_is_no_polygon_is_an_empty_mask(answer):
    assert outlines_of(answer, (10, 10)) == []
    assert not draw_outlines([], (4, 5)).any() and draw_outlines([], (4, 5)).shape == (4, 5)


def test_polygons_are_filled_together():
    answer = f"{places(0, 0, 499, 0, 499, 999, 0, 999)}<sep>{places(750, 500, 999, 500, 999, 999, 750, 999)}"
    mask = draw_outlines(outlines_of(answer, (4, 8)), (4, 8))
    expected = np.zeros((4, 8), bool)
    expected[:, :4], expected[2:, 6:] = True, True
    assert np.array_equal(mask, expected)


def test_boxes_become_corners_inside_the_image():
    box = corners(torch.tensor([0.5, 0.5, 0.5, 1.5]), (60, 40), (40, 60))
    assert box.tolist() == [15.0, 0.0, 45.0, 40.0]
    square = corners(torch.tensor([0.25, 0.25, 0.5, 0.5]), (60, 60), (40, 60))  # of a picture padded to a square
    assert square.tolist() == [0.0, 0.0, 30.0, 30.0]


def test_boxes_follow_the_resized_image():
    boxes = torch.tensor([[15.0, 0.0, 45.0, 40.0], [0.0, 10.0, 60.0, 20.0]])
    assert scale_boxes(boxes, (40, 60), (20, 90)).tolist() == [[22.5, 0.0, 67.5, 20.0], [0.0, 5.0, 90.0, 10.0]]


def test_masks_come_back_without_the_padding():
    logits = torch.full((1, 4, 4), -3.0)
    logits[0, :2, 2:] = 3.0  # the right half of an image that fills the upper half of the network's square
    found = to_image(logits, (8, 8), (4, 8), (20, 40))[0] > 0
    assert found.shape == (20, 40) and found[:, 22:].all() and not found[:, :18].any()


def test_the_candidate_that_fits_the_whole_sentence_wins():
    detector = GroundingDino(find_hub_model(f"{tiny_hub('grounding-dino')}+{tiny_hub('sam')}").parts[0], CPU)
    words = detector.words(sentence("Red circle."), return_tensors="pt")["input_ids"][0].tolist()
    names = detector.words.convert_ids_to_tokens(words)
    assert names == ["[CLS]", "red", "circle", ".", "[SEP]"]
    logits = torch.full((1, 2, 5), -9.0)
    logits[0, 0] = torch.tensor([9.0, 4.0, -4.0, 9.0, 9.0])  # fits one word, and everything that is none
    logits[0, 1] = torch.tensor([-9.0, 1.0, 1.0, -9.0, -9.0])
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.5]]])
    seen = []

    def model(**inputs):
        seen.append(inputs["input_ids"][0].tolist())
        return SimpleNamespace(logits=logits, pred_boxes=boxes)

    config = detector.model.config
    detector.model = type("Model", (), {"config": config, "__call__": staticmethod(model)})()
    box, score = detector.best_box(IMAGE, "Red circle.")
    assert box.tolist() == [0.0, 10.0, 30.0, 30.0] and score == pytest.approx(float(torch.tensor(1.0).sigmoid()))
    assert seen == [words]
    logits = torch.zeros(1, 2, 64)
    with pytest.warns(UserWarning, match="longer than the 61 tokens this model reads: cut"):
        detector.best_box(IMAGE, "red " * 99)
    assert len(seen[1]) == 64 and seen[1][-2:] == words[-2:]  # the stop and the end stay


def test_owlv2_sees_the_image_in_the_corner_of_a_square():
    detector = Owlv2(find_hub_model(f"{tiny_hub('owlv2')}+{tiny_hub('sam')}").parts[0], CPU)
    seen = {}

    def model(**inputs):
        seen.update(inputs)
        boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0], [0.5, 1 / 3, 1.0, 2 / 3]]])
        return SimpleNamespace(logits=torch.tensor([[[-2.0], [2.0]]]), pred_boxes=boxes)

    config = detector.model.config
    detector.model = type("Model", (), {"config": config, "__call__": staticmethod(model)})()
    white = np.full((40, 60, 3), 255, np.uint8)
    box, score = detector.best_box(white, "red circle")
    assert torch.allclose(box, torch.tensor([0.0, 0.0, 60.0, 40.0])) and score == pytest.approx(0.8808, abs=1e-4)
    pixels = seen["pixel_values"][0]
    assert pixels.shape == (3, 32, 32)
    mean, std = torch.tensor(detector.input.mean), torch.tensor(detector.input.std)
    torch.testing.assert_close(pixels[:, 30, 3], (0 - mean) / std)  # below the image
    torch.testing.assert_close(pixels[:, 5, 3], (1 - mean) / std)


def test_sam2_sees_the_squashed_image():
    segmenter = Sam2(find_hub_model(f"{tiny_hub('owlv2')}+{tiny_hub('sam2')}").parts[1], CPU)
    assert segmenter.input.size == (64, 64)
    grey = image_to_pixels(np.full((40, 60, 3), 51, np.uint8), segmenter.input)
    expected = [(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert grey[:, 7, 9].tolist() == pytest.approx(expected)


def test_clipseg_equals_transformers_for_several_expressions_of_one_image():
    predictor = Predictor.from_pretrained(tiny_hub("clipseg"), "cpu")
    _, (logits,) = predictor.network_logits([IMAGE], [TEXTS])
    theirs = hf.CLIPSegForImageSegmentation.from_pretrained(tiny_hub("clipseg")).eval()
    words = hf.CLIPTokenizer.from_pretrained(tiny_hub("clipseg"))(TEXTS, padding=True, return_tensors="pt")
    pixels = hf.ViTImageProcessorPil.from_pretrained(tiny_hub("clipseg"))(images=IMAGE, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**words, pixel_values=pixels["pixel_values"].repeat(2, 1, 1, 1)).logits
    torch.testing.assert_close(logits[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_the_image_of_several_expressions_is_embedded_once(monkeypatch):
    name = f"{tiny_hub('grounding-dino')}+{tiny_hub('sam2')}"
    predictor = Predictor.from_pretrained(name, "cpu")
    calls = []
    plain = predictor.segmenter.model.get_image_embeddings
    monkeypatch.setattr(predictor.segmenter.model, "get_image_embeddings", lambda x: calls.append(1) or plain(x))
    both = predictor(IMAGE, TEXTS, details=True)
    assert calls == [1] and [prediction.expression for prediction in both] == TEXTS
    alone = predictor(IMAGE, TEXTS[1])
    np.testing.assert_allclose(both[1].logits, alone.logits, atol=1e-4)
    assert both[0].logits.shape == (40, 60) and set(both[0].details) == {"box", "box_score"} and not alone.details


def test_florence_reads_words_and_no_commands():
    assert plain("the <OCR> sign </s> at <loc_5>, 3 < 4 > 2") == "the OCR sign s at loc_5, 3 < 4 > 2"
    predictor = Predictor.from_pretrained(tiny_hub("florence-2"), "cpu")
    assert predictor(IMAGE, "the <image> on the <OCR>").mask.shape == (40, 60)
    with pytest.warns(UserWarning, match="tokens this model reads: cut"):
        predictor(IMAGE, "red " * 99)


def test_sam3_answers_with_its_surest_instance():
    predictor = Predictor.from_pretrained(tiny_hub("sam3"), "cpu")
    assert predictor.input.size == (56, 56)
    grey = image_to_pixels(np.full((40, 60, 3), 51, np.uint8), predictor.input)
    assert grey[:, 7, 9].tolist() == pytest.approx([-0.6] * 3)  # 0.2 of white, -1 to 1
    masks = torch.full((1, 2, 4, 4), -4.0)
    masks[0, 0], masks[0, 1, :, 2:] = 4.0, 4.0  # everything, and the right half
    found = SimpleNamespace(
        pred_logits=torch.tensor([[0.0, 2.0]]), presence_logits=torch.tensor([[0.0]]), pred_masks=masks
    )
    seen = []

    class Model:
        config = predictor.model.config

        def get_vision_features(self, pixels):
            seen.append(tuple(pixels.shape))
            return "features"

        def __call__(self, vision_embeds, **words):
            assert vision_embeds == "features" and words["input_ids"].shape == (1, 16)
            return found

    predictor.model = Model()
    answers = predictor(IMAGE, ["red box", "a box"], details=True)
    assert seen == [(1, 3, 56, 56)] and len(answers) == 2
    assert answers[0].mask[:, 40:].all() and not answers[0].mask[:, :20].any()
    assert answers[0].details["instance_score"] == pytest.approx(0.8808 * 0.5, abs=1e-4)
