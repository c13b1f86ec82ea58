from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from hub import tiny_hub


def test_a_figure_and_its_numbers(refseg, model, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, _ = refseg("explain", photo, "the red circle", "--model", model)
    assert code == 0
    *words, last = said.splitlines()
    assert [line.split(":")[0].strip() for line in words] == ["the", "red", "circle"] and "mask change" in words[0]
    assert last.startswith("the red circle: ") and last.endswith("-> photo.explain.png")
    with Image.open(tmp_path / "photo.explain.png") as figure:
        assert figure.size[0] == 1548
    code, said, _ = refseg("explain", photo, "the red circle", "--model", model, "--out", "a/b.svg", "--json")
    found = json.loads(said)
    assert code == 0 and found["figure"] == "a/b.svg" and found["image"] == str(photo)
    assert [row["word"] for row in found["words"]] == ["the", "red", "circle"]
    assert (tmp_path / "a" / "b.svg").read_text().startswith("<svg ")


def test_another_figure_is_replaced_only_when_asked(refseg, model, photo, tmp_path):
    out = tmp_path / "f.png"
    given = ("explain", photo, "red", "--model", model, "--out", out)
    assert refseg(*given)[0] == 0 and refseg(*given)[0] == 0
    before = out.read_bytes()
    code, _, complaint = refseg("explain", photo, "the red circle", "--model", model, "--out", out)
    assert code == 2 and "explains another image, expression or model" in complaint and out.read_bytes() == before
    assert refseg("explain", photo, "the red circle", "--model", model, "--out", out, "--overwrite")[0] == 0
    assert out.read_bytes() != before
    out.write_text("precious")
    code, _, complaint = refseg(*given)
    assert code == 2 and "not a figure of this command" in complaint and out.read_text() == "precious"


def test_the_image_is_never_replaced(refseg, model, tmp_path):
    image = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(image)
    before = image.read_bytes()
    (tmp_path / "link.png").symlink_to(image)
    for out in (image, tmp_path / "." / "photo.png", tmp_path / "link.png"):
        code, _, complaint = refseg("explain", image, "red", "--model", model, "--out", out, "--overwrite")
        assert code == 2 and "is the image" in complaint and image.read_bytes() == before


def test_bad_input_is_one_line(refseg, model, photo, tmp_path):
    for given, part in (
        ((tmp_path / "no.png", "red"), "no such file"),
        ((photo, ""), "empty"),
        ((photo, "red", "--model", "nowhere"), "model 'nowhere'"),
        ((photo, "red", "--model", model, "--out", tmp_path / "a.jpg"), ".png or .svg"),
        ((photo, "red", "--model", model, "--out", tmp_path), ".png or .svg"),
        ((photo, "red", "--model", model, "--device", "quantum"), "quantum"),
        ((photo, "-red"), "put --"),
        ((photo,), "Missing argument"),
    ):
        code, said, complaint = refseg("explain", *given)
        assert code == 2 and not said and len(complaint.splitlines()) == 1 and part in complaint, complaint


def test_an_expression_that_begins_with_a_dash(refseg, model, photo, tmp_path):
    code, said, _ = refseg("explain", "--model", model, "--out", tmp_path / "a.png", photo, "--", "-red circle")
    assert code == 0 and "-red" in said


@pytest.mark.parametrize("name", ["clipseg", "florence-2"])
def test_a_model_of_the_hub(refseg, photo, tmp_path, name):
    out = tmp_path / "a.svg"
    code, said, complaint = refseg("explain", photo, "red circle", "--model", tiny_hub(name), "--out", out)
    assert code == 0 and "red: mask change" in said, complaint


def test_unread_words_are_said(refseg, model, photo, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # they are errors in tests, and lines for a user
        code, said, complaint = refseg("explain", photo, "red " * 25, "--model", model, "--out", tmp_path / "a.png")
    assert code == 0 and said.count("red: not read") == 6 and "longer than the 20 tokens" in complaint
    code, said, _ = refseg("explain", photo, "red", "--model", model, "--out", tmp_path / "b.png")
    assert code == 0 and "not defined, there is no other word" in said
