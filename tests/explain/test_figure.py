"""Files of figures: what they show alike, and that nobody's are replaced."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from refseg.explain import Explanation, explain
from refseg.explain.layout import page_of
from refseg.explain.png import to_picture
from refseg.explain.shapes import Box, Page, Picture, Text, drawable, fitted, signed, width_of, wrapped
from refseg.explain.stamp import question_of
from refseg.explain.svg import to_svg
from refseg.fields import printable
from refseg.predictor import Predictor
from tiny import tiny_model

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 70, 3), np.uint8)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(), "cpu")


@pytest.fixture(scope="module")
def found(predictor):
    return explain(IMAGE, "the red circle", predictor)


def test_both_kinds_show_the_same_page(found):
    page = page_of(found)
    root = ElementTree.fromstring(found.svg())
    said = [node.text for node in root.iter(f"{SVG}text")]
    assert said == [shape.text for shape in page.shapes if isinstance(shape, Text)]
    assert {"the", "red", "circle", "[CLS] [SEP]", "stage 4", "mask change"} <= set(said)
    pictures = [shape for shape in page.shapes if isinstance(shape, Picture)]
    nodes = list(root.iter(f"{SVG}image"))
    assert len(nodes) == len(pictures) > 20
    for node, picture in zip(nodes, pictures, strict=True):
        code = node.get("href").removeprefix("data:image/png;base64,")
        inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
        assert np.array_equal(inside, picture.pixels) and float(node.get("width")) == pytest.approx(
            picture.width, abs=0.01
        )
    drawn = np.asarray(found.figure(3))
    assert drawn.shape == (round(page.height * 3), round(page.width * 3), 3)
    first = pictures[0]
    top, left = round(first.y * 3), round(first.x * 3)
    rows, columns = first.pixels.shape[:2]
    assert np.array_equal(drawn[top : top + rows, left : left + columns], first.pixels)


def test_shapes_are_where_they_should_be():
    page = Page(20, 10, (Box(2, 3, 4, 5, "#ff0000"), Picture(10, 1, 2, 2, np.full((1, 1, 3), 7, np.uint8))))
    pixels = np.asarray(to_picture(page, 2))
    assert pixels.shape == (20, 40, 3)
    red = (pixels == [255, 0, 0]).all(2)
    assert red[6:16, 4:12].all() and red.sum() == 80
    assert (pixels == 7).all(2).sum() == 16 and (pixels[2:6, 20:24] == 7).all()
    root = ElementTree.fromstring(to_svg(page, "a & b"))
    assert root.find(f"{SVG}title").text == "a & b"
    box = root.findall(f"{SVG}rect")[1]
    assert [box.get(name) for name in ("x", "y", "width", "height")] == ["2", "3", "4", "5"]


def test_texts_fit():
    assert fitted("circle", 8, 1000) == "circle"
    short = fitted("a very long word of many letters", 8, 60)
    assert short.endswith("...") and width_of(short, 8) <= 60
    lines = wrapped("one two three four five six", 8, 50, 2)
    assert len(lines) == 2 and lines[1].endswith("...") and all(width_of(line, 8) <= 50 for line in lines)
    assert wrapped("", 8, 50, 2) == [""] and fitted("w", 8, 0) == ""
    assert printable(" a\t\nb\x00\u202e ") == "a b\\x00\\u202e"
    assert drawable("Fläche \u2212 é 树") == "Flache - e \\u6811"
    assert (signed(-0.5, 2), signed(-0.001, 2, True), signed(0.25, 2, True)) == ("\u22120.50", "0.00", "+0.25")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_file_knows_whose_it_is(found, predictor, tmp_path, ending):
    path = tmp_path / "folder" / f"a.{ending}"
    assert found.save(path) == path and question_of(path) == found.question
    before = path.read_bytes()
    found.save(path)  # the same again
    assert path.read_bytes() == before and [each.name for each in path.parent.iterdir()] == [f"a.{ending}"]
    other = explain(IMAGE, "the red square", predictor)
    assert other.question != found.question
    assert explain(IMAGE[:, ::-1], "the red circle", predictor).question != found.question
    with pytest.raises(ValueError, match="explains another image, expression or model"):
        other.save(path)
    assert path.read_bytes() == before
    other.save(path, overwrite=True)
    assert question_of(path) == other.question


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_file_that_somebody_worked_on_stays(found, tmp_path, ending):
    path = found.save(tmp_path / f"a.{ending}")
    if ending == "svg":
        path.write_text(path.read_text().replace("mask change", "change of the mask"))
    else:
        with Image.open(path) as picture:
            edited, kept = picture.copy(), PngInfo()
            kept.add_text("refseg explain", picture.info["refseg explain"])
        edited.putpixel((3, 3), (1, 2, 3))
        edited.save(path, pnginfo=kept)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="was changed since"):
        found.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"precious", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"\xff\xfe<svg>"])
@pytest.mark.parametrize("ending", ["png", "SVG"])
def test_other_files_stay(found, tmp_path, content, ending):
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a figure of this command"):
        found.save(path)
    assert path.read_bytes() == content
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="not a figure of this command"):
        found.save(tmp_path / "photo.png")
    found.save(path, overwrite=True)
    assert question_of(path) == found.question


def test_names_that_are_no_figures(found, tmp_path):
    (tmp_path / "a.png").mkdir()
    for name, match in (
        ("a.png", "is a folder"),
        ("b.jpg", ".png or .svg"),
        ("b", ".png or .svg"),
        ("", ".png or .svg"),
    ):
        with pytest.raises(ValueError, match=match):
            found.save(tmp_path / name, overwrite=True)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="not a figure"):
        found.save(tmp_path / "link.png")


def test_a_huge_picture_is_not_ours_and_not_read(tmp_path, monkeypatch):
    Image.new("1", (3000, 3000)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert question_of(tmp_path / "large.png") is None


def test_what_a_killed_process_left_is_taken_away(found, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".a.svg.{ended.pid}.part").write_text("half")
    found.save(tmp_path / "a.svg")
    assert [each.name for each in tmp_path.iterdir()] == ["a.svg"]


def test_what_another_process_writes_meanwhile_stays(found, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    draw = Explanation.figure

    def slowly(self, *scale):
        path.write_text("precious")
        return draw(self, *scale)

    monkeypatch.setattr(Explanation, "figure", slowly)
    with pytest.raises(ValueError, match="not a figure of this command"):
        found.save(path)
    assert path.read_text() == "precious"


def test_an_error_in_the_middle_leaves_what_was_there(found, tmp_path, monkeypatch):
    path = found.save(tmp_path / "a.png")
    before = path.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="a.png: cannot be written .No space left"):
        found.save(path, overwrite=True)
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["a.png"]
