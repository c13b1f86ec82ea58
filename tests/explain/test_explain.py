"""Explanations of tiny models: numbers held to single calls and to arithmetic written out."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from hub import tiny_hub
from refseg.explain import Explanation, Maps, Table, explain
from refseg.explain.layout import page_of
from refseg.explain.shapes import Text
from refseg.predictor import Predictor
from refseg.presets import presets
from tiny import tiny_model, wake

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 70, 3), np.uint8)
TEXT = "the red circle"


def answering(name="lgformer-shapes", awake=False):
    model = tiny_model(name)
    if awake:
        wake(model.network)
    return Predictor(model, "cpu")


def of(name="lgformer-shapes", text=TEXT, awake=False):
    return explain(IMAGE, text, answering(name, awake))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.mark.parametrize("name", ["lgformer-shapes", "eavl", "jmceln"])
def test_leaving_words_out_equals_single_calls(name):
    predictor = answering(name, awake=True)
    found = explain(IMAGE, TEXT, predictor)
    whole = predictor(IMAGE, TEXT)
    np.testing.assert_allclose(found.prediction.logits, whole.logits, rtol=1e-3, atol=1e-3)
    assert found.prediction.score == pytest.approx(whole.score, abs=1e-4)
    for i, text in enumerate(("red circle", "the circle", "the red")):
        other = predictor(IMAGE, text)
        both, either = (whole.mask & other.mask).sum(), (whole.mask | other.mask).sum()
        assert found.importance.mask_change[i] == pytest.approx(1 - both / either if either else 0, abs=1e-3)
        inside = whole.mask
        if inside.any():
            fall = float((sigmoid(whole.logits) - sigmoid(other.logits))[inside].mean())
            assert found.importance.probability_fall[i] == pytest.approx(fall, abs=1e-4)
            odds = float((whole.logits - other.logits)[inside].mean())
            assert found.importance.log_odds_fall[i] == pytest.approx(odds, rel=1e-3, abs=1e-4)
        else:
            assert math.isnan(found.importance.probability_fall[i])


def test_an_image_is_encoded_once(monkeypatch):
    predictor = answering()
    calls = []
    encode = predictor.network.encode_image
    monkeypatch.setattr(predictor.network, "encode_image", lambda x: calls.append(tuple(x.shape)) or encode(x))
    explain(IMAGE, TEXT, predictor)
    assert calls == [(1, 3, 64, 64)]


@pytest.mark.parametrize("name", list(presets()))
def test_every_row_has_the_panels_that_its_modules_make(name):
    found = of(name)
    method, config = found.method, tiny_model(name).network.config
    have = [panel.name for panel in found.panels]
    wanted = []
    if method == "lgformer" or (method == "alignformer" and config.head == "prototype"):
        wanted += ["masks_by_layer", "similarity"]
    if method == "jmceln":
        wanted += ["masks_by_stage"] + ["embedding_attention"] * (config.stages > 0)
    if method == "eavl":
        wanted += ["query_masks", "query_words"]
    if method == "lgformer" and config.num_queries > 1:
        wanted += ["query_masks"]
    if method == "lgformer" and config.pixel_decoder.l2va and config.pixel_decoder.l2va_input == "words":
        wanted += ["decoder_words"]
    if method == "crformer":
        made = 1 + (config.calibration and config.dec_layers - (config.recon_weight == 0))
        wanted += ["query_maps", *(f"query_words_{n}" for n in range(made))]
    if method in ("lavt", "lgformer", "alignformer", "crformer") and getattr(config, "fusion", "pwam") != "none":
        wanted += ["fusion_attention"]
    assert sorted(have) == sorted(wanted)
    for panel in found.panels:
        if isinstance(panel, Table):
            assert panel.values.shape == (len(panel.rows), len(panel.columns))
            np.testing.assert_allclose(panel.values.sum(0), 1, atol=1e-5)
            continue
        assert len(panel.maps) == len(panel.rows) and {len(row) for row in panel.maps} == {len(panel.columns)}
        if panel.name in ("fusion_attention", "decoder_words"):
            for row in panel.maps:
                np.testing.assert_allclose(sum(row), 1, atol=1e-5)
    page = page_of(found)
    for shape in page.shapes:
        if not isinstance(shape, Text):
            assert 0 <= shape.x and shape.x + shape.width <= page.width + 0.1
            assert 0 <= shape.y and shape.y + shape.height <= page.height + 0.1


def test_the_last_mask_is_the_answer_and_weighted_masks_add_up_to_it():
    for name, panel in (
        ("lgformer", "masks_by_layer"),
        ("alignformer", "masks_by_layer"),
        ("jmceln", "masks_by_stage"),
    ):
        found = of(name, awake=True)
        last = found.on_image(found.panel(panel).maps[0][-1])
        direct = found.on_image(sigmoid(found.prediction.details[panel][-1]))
        np.testing.assert_allclose(last, direct, atol=1e-6)
        np.testing.assert_allclose(
            found.on_image(found.prediction.details[panel][-1]), found.prediction.logits, rtol=1e-3, atol=1e-3
        )
    found = of("eavl", awake=True)
    masks, scores = found.panel("query_masks").maps[0], found.prediction.details["query_scores"]
    total = sum(float(score) * mask for score, mask in zip(scores, masks, strict=True))
    np.testing.assert_allclose(found.on_image(total), found.prediction.logits, rtol=1e-3, atol=1e-3)
    assert found.panel("query_masks").columns[2] == f"3: {scores[2]:.3f}"


def test_attention_is_added_up_over_the_pieces_of_a_word():
    found = of(text="redish circle")  # r e d ... are pieces
    details = found.prediction.details["fusion_attention_2"]
    panel = found.panel("fusion_attention")
    assert isinstance(panel, Maps) and panel.columns == ("redish", "circle", "[CLS] [SEP]")
    count = len(found.words[0].tokens)
    assert count > 1 and panel.rows == ("stage 1", "stage 2", "stage 3", "stage 4")
    np.testing.assert_allclose(panel.maps[1][0], details[1 : 1 + count].sum(0), atol=1e-6)
    np.testing.assert_allclose(panel.maps[1][1], details[1 + count], atol=1e-6)


def test_one_word_is_not_defined_and_is_drawn_so():
    found = of(text="circle")
    assert np.isnan(found.importance.mask_change).all() and found.numbers()["words"][0]["mask_change"] is None
    assert "not defined: no other word" in texts(found)


def texts(found):
    return [shape.text for shape in page_of(found).shapes if isinstance(shape, Text)]


def test_an_empty_mask_is_said():
    predictor = answering()
    with torch.no_grad():
        for parameter in predictor.network.head.parameters():
            parameter.zero_()
    found = explain(IMAGE, TEXT, predictor)  # all log-odds are 0
    assert found.prediction.area == 0 and found.importance.mask_change.tolist() == [0, 0, 0]
    assert np.isnan(found.importance.probability_fall).all()
    shown = texts(found)
    assert any("nothing found, the mask is empty" in text for text in shown) and shown.count("not defined") == 3
    assert found.figure(1).size[0] > 400


def test_words_that_were_cut_are_marked_and_do_not_move_in():
    long = "red circle " * 12
    predictor = answering(awake=True)
    with pytest.warns(UserWarning, match="longer than the 20 tokens"):
        found = explain(IMAGE, long, predictor)
    assert [word.read for word in found.words] == ["whole"] * 19 + ["no"] * 5
    assert np.isnan(found.importance.mask_change[19:]).all() and not np.isnan(found.importance.mask_change[:19]).any()
    read = long.split()[:19]
    other = predictor(IMAGE, " ".join(read[1:]))
    with pytest.warns(UserWarning):
        whole = predictor(IMAGE, long)
    union = (whole.mask | other.mask).sum()
    expected = 1 - (whole.mask & other.mask).sum() / union if union else 0
    assert found.importance.mask_change[0] == pytest.approx(expected, abs=2e-3)
    assert texts(found).count("not read: cut, or no token") == 5


@pytest.mark.parametrize(
    "text", ["Fläche 红色的圆 🙂", 'don\'t <b>&amp; "red"', "عربي red", "a\tred\u200b circle\x07", "e\u0301t\u00e9"]
)
def test_any_words_can_be_drawn(text):
    found = of(text=text)
    assert found.figure(1).size[0] > 400
    drawn = [node.text for node in ElementTree.fromstring(found.svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert any(word in said for word in text.split()[:1] for said in drawn if said)


@pytest.mark.parametrize("shape", [(8, 8), (8, 800), (790, 8), (1200, 1600)])
def test_images_of_any_size(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    for name in ("lgformer-shapes", "jmceln"):
        found = explain(image, TEXT, answering(name))
        assert found.prediction.mask.shape == shape
        width, height = found.figure(1).size
        assert width == 516 and 100 < height < 1500


def test_maps_are_laid_over_the_image_as_the_network_saw_it():
    """A letterbox has borders above and below a wide image, which are no part of it."""
    found = explain(np.zeros((32, 64, 3), np.uint8), TEXT, answering("jmceln"))
    assert found.input is not None and found.input.resize == "letterbox"
    rows = np.arange(64, dtype=np.float32)[:, None].repeat(64, 1)  # the image has the rows 16 to 48 of the input
    np.testing.assert_allclose(found.on_image(rows)[:, 5], np.arange(16, 48), atol=1e-4)
    assert found.on_image(rows, (4, 8), "nearest").shape == (4, 8)
    with pytest.raises(ValueError, match="one map"):
        found.on_image(np.zeros((2, 3, 4)))


@pytest.mark.parametrize("name", ["clipseg", "florence-2", "sam3"])
def test_models_of_the_hub_have_the_answer_and_the_words(name):
    predictor = Predictor.from_pretrained(str(tiny_hub(name)), "cpu")
    found = explain(IMAGE, "the red circle", predictor)
    assert found.panels == () and [word.text for word in found.words] == ["the", "red", "circle"]
    whole, *others = predictor(IMAGE, ["the red circle", "red circle", "the circle", "the red"])
    for i, other in enumerate(others):
        union = (whole.mask | other.mask).sum()
        expected = 1 - (whole.mask & other.mask).sum() / union if union else 0
        assert found.importance.mask_change[i] == pytest.approx(expected, abs=1e-3)
    if whole.logits is None:
        assert np.isnan(found.importance.probability_fall).all()
    assert found.figure(1).size[0] > 400


def test_a_hub_model_says_once_that_it_cuts():
    predictor = Predictor.from_pretrained(str(tiny_hub("owlv2")) + "+" + str(tiny_hub("sam2")), "cpu")
    with pytest.warns(UserWarning, match="cut") as said:
        explain(IMAGE, "red circle " * 15, predictor)
    assert len(said) == 1


def test_what_is_refused():
    predictor = answering()
    for given, match in (
        (("", predictor), "empty"),
        ((None, predictor), "expression None"),
        (("red", "nowhere"), "nowhere"),
    ):
        with pytest.raises(ValueError, match=match):
            explain(IMAGE, *given)
    with pytest.raises(ValueError, match="a model that is loaded"):
        explain(IMAGE, "red", predictor, "cpu")
    with pytest.raises(ValueError, match="image"):
        explain(b"", "red", predictor)
    found = of()
    with pytest.raises(ValueError, match="there are masks_by_layer, similarity"):
        found.panel("nothing")
    with pytest.raises(ValueError, match="scale 0"):
        found.figure(0)
    with pytest.raises(ValueError, match="is not known"):
        replace(found, input=None).on_image(np.zeros((2, 2)))


def test_it_says_what_it_is():
    found = of()
    assert isinstance(found, Explanation) and "panels=[masks_by_layer" in repr(found)
    numbers = found.numbers()
    assert set(numbers) == {"model", "expression", "score", "area", "words"}
    assert [row["word"] for row in numbers["words"]] == ["the", "red", "circle"]
    assert found._repr_png_().startswith(b"\x89PNG")
