from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import refseg
from refseg.answers import make_prediction
from refseg.predictor import Predictor
from tiny import tiny_model


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(), "cpu")


def image(height=70, width=110):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def test_one_expression_gives_one_prediction_at_the_images_size(predictor):
    found = predictor(image(), "the red circle")
    assert found.mask.shape == (70, 110) and found.mask.dtype == bool
    assert found.logits.shape == (70, 110) and found.logits.dtype == np.float32
    assert 0 <= found.score <= 1
    assert np.array_equal(found.mask, found.logits > 0)
    assert not found.details


def test_a_list_gives_a_list_and_equals_single_calls(predictor):
    texts = ["the red circle", "a big blue square on the left", "red"]
    together = predictor(image(), texts)
    assert [p.expression for p in together] == texts
    for text, found in zip(texts, together, strict=True):
        np.testing.assert_allclose(found.logits, predictor(image(), text).logits, rtol=1e-3, atol=1e-5)
    assert predictor(image(), []) == []


def test_the_image_is_encoded_once_for_all_expressions(predictor, monkeypatch):
    calls = []
    encode = predictor.network.encode_image
    monkeypatch.setattr(predictor.network, "encode_image", lambda pixels: calls.append(pixels.shape) or encode(pixels))
    predictor(image(71), ["red", "blue", "left"])
    assert [tuple(shape) for shape in calls] == [(1, 3, 64, 64)]


def test_an_image_is_kept_for_the_next_call_about_it_and_for_no_other(predictor, monkeypatch):
    calls = []
    encode = predictor.network.encode_image
    monkeypatch.setattr(predictor.network, "encode_image", lambda pixels: calls.append(1) or encode(pixels))
    pixels = image(72)
    first = predictor(pixels, "red")
    again = predictor(pixels.copy(), ["red", "blue"])
    assert len(calls) == 1
    np.testing.assert_allclose(again[0].logits, first.logits, rtol=1e-3, atol=1e-5)
    pixels[:] = 255 - pixels  # the caller's array, not a copy of it
    other = predictor(pixels, "red")
    assert len(calls) == 2 and np.abs(other.logits - first.logits).max() > 1e-4
    predictor.batch([pixels, image(72)], ["red", "red"])
    assert len(calls) == 3
    assert np.allclose(predictor(pixels, "red").logits, other.logits, rtol=1e-3, atol=1e-5) and len(calls) == 3


def test_precision_is_said_and_part_of_what_decides_an_answer(tmp_path):
    from refseg.weights.store import load_model, save_model

    save_model(tiny_model(), tmp_path / "model")
    model = load_model(tmp_path / "model")
    exact, half = Predictor(model, "cpu"), Predictor(model, "cpu", "bf16")
    assert (exact.about.precision, half.about.precision) == ("fp32", "bf16")
    assert exact.about.identity == model.identity != half.about.identity
    assert "precision='fp32'" in repr(exact) and "precision='bf16'" in repr(half)
    assert Predictor.from_pretrained(tmp_path / "model", precision="bf16").about == half.about
    with pytest.raises(ValueError, match="precision 'half': unknown; accepted are auto, fp32, bf16, int8"):
        Predictor.from_pretrained(tmp_path / "model", precision="half")


def test_a_model_of_one_precision_refuses_another():
    from refseg.predictor import with_own_precision
    from served import Stub

    stub = Stub()
    assert with_own_precision(stub, "auto") is stub and with_own_precision(stub, "fp32") is stub
    with pytest.raises(ValueError, match="precision 'int8': stub answers in fp32; auto or fp32 is accepted"):
        with_own_precision(stub, "int8")


def test_details_on_request(predictor):
    found = predictor(image(), "red", details=True)
    assert found.details["masks_by_layer"].ndim == 3


def test_other_images_than_rgb(predictor, tmp_path):
    Image.fromarray(image()).convert("L").save(tmp_path / "grey.png")
    for given in (tmp_path / "grey.png", str(tmp_path / "grey.png"), Image.fromarray(image()).convert("RGBA")):
        assert predictor(given, "red").mask.shape == (70, 110)


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u200b", None, 3])
def test_an_empty_expression_is_refused(predictor, text):
    message = (
        "empty"
        if isinstance(text, str)
        else "expression None: a string"
        if text is None
        else f"type {type(text).__name__}: a string"
    )
    for given in (text, [text]):
        with pytest.raises(ValueError, match=message):
            predictor(image(), given)


def test_broken_unicode_is_refused(predictor):
    with pytest.raises(ValueError, match="not valid Unicode"):
        predictor(image(), "red \ud83d")


def test_many_expressions_are_answered_in_parts(predictor, monkeypatch):
    texts = ["red", "blue", "left", "big", "small"]
    shown, (whole,) = predictor.network_logits([image()], [texts], details=True)
    passes = []
    encode = predictor.network.encode_text
    monkeypatch.setattr(
        predictor.network, "encode_text", lambda ids, mask: passes.append(len(ids)) or encode(ids, mask)
    )
    again, (parts,) = predictor.network_logits([image()], [texts], details=True, at_once=2)
    assert passes == [2, 2, 1]
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)
    assert {name: x.shape for name, x in again.items()} == {name: x.shape for name, x in shown.items()}


def test_a_long_expression_is_cut_with_a_warning(predictor):
    with pytest.warns(UserWarning, match="longer than the 20 tokens"):
        predictor(image(), "red " * 40)


def test_unicode_expressions_work(predictor):
    assert predictor(image(), "红色的圆 🙂 Fläche").mask.shape == (70, 110)


def test_score_box_and_area_by_hand():
    logits = torch.full((6, 8), -3.0)
    logits[2:4, 3:7] = 0.5
    found = make_prediction("x", logits)
    assert found.box == (3, 2, 4, 2) and found.area == 8
    assert found.score == pytest.approx(1 / (1 + np.exp(-0.5)))
    nothing = make_prediction("x", torch.full((6, 8), -3.0))
    assert nothing.box is None and nothing.area == 0 and nothing.score == 0.0


def test_public_names():
    assert refseg.Predictor is Predictor
    assert "lgformer-shapes" in refseg.list_models()
    assert set(dir(refseg)) >= {"Predictor", "Prediction", "list_models"}
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        refseg.Predicter  # noqa: B018


def test_the_lines_of_the_readme_work(monkeypatch):
    root = Path(__file__).parents[1]
    lines = (root / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(root)
    names: dict[str, object] = {}
    exec(lines, names)
    with Image.open(root / "examples" / "scene.png") as scene:
        assert names["mask"].shape == scene.size[::-1] and names["mask"].any()


def test_bytes_and_open_files_are_images_too(predictor, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image()).save(path)
    expected = predictor(path, "red").mask
    assert np.array_equal(predictor(path.read_bytes(), "red").mask, expected)
    with path.open("rb") as file:
        assert np.array_equal(predictor(file, "red").mask, expected)
    for given in (b"", b"no image", 3, None, object()):
        with pytest.raises(ValueError, match="^image"):
            predictor(given, "red")


def test_a_predictor_and_its_answers_say_what_they_are(predictor):
    assert repr(predictor).startswith("Predictor('") and "device='cpu'" in repr(predictor)
    found = predictor(image(), "red")
    assert np.array_equal(found.image, image()) and found.threshold == 0.5
    assert np.array_equal(found.at(0.5).mask, found.mask) and found.at(0.5).score == found.score


def test_a_batch_gives_what_single_calls_give(predictor, tmp_path):
    Image.fromarray(image(40, 50)).save(tmp_path / "a.png")
    images = [image(), tmp_path / "a.png", image(90, 30), image(33, 44)]
    asked = ["red", ["blue", "left"], [], ("small",)]
    found = predictor.batch(images, asked, images_at_once=2)
    assert [[p.expression for p in part] for part in found] == [["red"], ["blue", "left"], [], ["small"]]
    for given, part in zip(images, found, strict=True):
        for each in part:
            np.testing.assert_allclose(each.logits, predictor(given, each.expression).logits, rtol=1e-3, atol=1e-5)
    assert predictor.batch([], []) == []


def test_a_batch_of_unequal_length_is_refused(predictor):
    with pytest.raises(ValueError, match="1 images and expressions for 2"):
        predictor.batch([image()], ["red", "blue"])
    with pytest.raises(ValueError, match="3 images and one expression"):
        predictor.batch([image()] * 3, "red")
    with pytest.raises(ValueError, match="empty"):
        predictor.batch([image()], [["red", " "]])
    with pytest.raises(ValueError, match="0 images at once"):
        predictor.batch([image()], ["red"], images_at_once=0)


def test_a_large_network_answers_one_expression_at_a_time_and_the_same(monkeypatch):
    model = tiny_model()
    texts = ["the red circle on the left", "red", "a big blue square", "circle"]
    together = Predictor(model, "cpu")(image(), texts)
    monkeypatch.setattr("refseg.fast.choice.LARGE", 1)
    alone = Predictor(model, "cpu", "fp32")
    calls = []
    forward = alone.network.forward
    monkeypatch.setattr(
        alone.network, "forward", lambda *a, **b: calls.append(a[1].words.shape[:2]) or forward(*a, **b)
    )
    for found, expected in zip(alone(image(), texts), together, strict=True):
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-3, atol=1e-5)
    assert [count for count, _ in calls] == [1] * 4 and len({length for _, length in calls}) > 1
    shown = alone(image(), texts, details=True)
    assert len({found.details["word_attention"].shape for found in shown}) == 1
