"""Answers of rows: what is written, held against what the model says by hand, and rows that fail alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from annotated import Known, asked, masks, shape, write
from refseg.annotate import answering
from refseg.annotate.answering import answered, check_threshold
from refseg.annotate.opening import open_source
from refseg.annotate.rows import Row
from served import picture

COLUMNS = ["source", "id", "image", "expression", "score", "box", "area", "rle", "width", "height", "model", "warning",
           "error"]  # fmt: skip


def rows_of(*texts, size=(20, 40)):
    return [Row(picture(*size), (text,) if isinstance(text, str) else text, f"row {n}", name=f"{n}.png", id=str(n))
            for n, text in enumerate(texts)]  # fmt: skip


def decoded(row):
    return coco.decode({"size": row["rle"]["size"], "counts": row["rle"]["counts"].encode()}).astype(bool)


@pytest.mark.parametrize("together", [True, False])
def test_every_expression_of_every_row_is_answered_in_order(tmp_path, together):
    source = open_source(write("list", tmp_path / "in", 20))
    stub = Known(together=together)
    (chunk,) = source.chunks(100)
    found = list(answered(stub, source.rows(chunk), "in"))
    wanted = [
        (number, text, mask) for number in range(20) for text, mask in zip(asked(number), masks(number), strict=True)
    ]
    assert len(found) == len(wanted)
    for row, (number, text, mask) in zip(found, wanted, strict=True):
        assert list(row) == COLUMNS
        assert (row["image"], row["expression"], row["error"], row["warning"]) == (
            f"p{number:03d}.png",
            text,
            None,
            None,
        )
        assert (row["height"], row["width"]) == shape(number) == mask.shape
        assert row["area"] == mask.sum() and row["box"] == [0, 0, int(mask[0].sum()), mask.shape[0]]
        assert row["model"] == "stub-1" and row["source"] == "in" and row["id"] == str(number + 1)
        np.testing.assert_array_equal(decoded(row), mask)
    images = [len(expressions) for expressions in stub.passes]
    assert images == ([8, 8, 4] if together else [1] * 20)


def test_a_threshold_takes_other_pixels():
    (row,) = answered(Known(), rows_of("left", size=(36, 40)), "in", 0.9)
    surer = np.linspace(0.5, 4, 36) > np.log(0.9 / 0.1)  # what the stub is surer of downwards
    assert row["area"] == 20 * surer.sum() and row["score"] > 0.9


def test_a_model_without_log_odds_has_no_score():
    (row,) = answered(Known(log_odds=False), rows_of("left"), "in")
    assert row["score"] is None and row["area"] == 20 * 20 and row["error"] is None
    with pytest.raises(ValueError, match="stub gives masks without log-odds; 0.5 is accepted"):
        check_threshold(Known(log_odds=False).about, 0.4)
    with pytest.raises(ValueError, match="a probability between 0 and 1"):
        check_threshold(Known().about, 1.0)


def test_a_row_that_fails_fails_alone():
    rows = [*rows_of("left", "fails", ("3", "fails"), "7"), Row(b"no image", ("a", "b"), "row 9", id="9"),
            Row(picture(4, 4), ("left",), "row 10", id="10"),
            Row(picture(), (), "row 11", "row 11: no question", id="11"), *rows_of("5")]  # fmt: skip
    found = list(answered(Known(), rows, "in"))
    assert [(row["id"], row["expression"], row["error"] is None) for row in found] == [
        ("0", "left", True), ("1", "fails", False), ("2", "3", False), ("2", "fails", False), ("3", "7", True),
        ("9", "a", False), ("9", "b", False), ("10", "left", False), ("11", None, False), ("0", "5", True),
    ]  # fmt: skip
    assert found[1]["error"] == "RuntimeError: a secret of the machine" and found[8]["error"] == "row 11: no question"
    assert "no image of a known format" in found[5]["error"] and "4x4 pixels" in found[7]["error"]
    for row in found:
        values = [row[name] for name in ("score", "box", "area", "rle", "width", "height")]
        assert all((value is None) == (row["error"] is not None) for value in values)
        assert row["error"] is None or "\n" not in row["error"]


def test_too_little_memory_for_several_images_is_enough_for_one():
    class Small(Known):
        def predict(self, images, expressions, details=False):
            if len(images) > 1:
                raise MemoryError
            return super().predict(images, expressions, details)

    assert [row["error"] for row in answered(Small(), rows_of(*"12345678"), "in")] == [None] * 8

    class Smaller(Known):
        def predict(self, images, expressions, details=False):
            raise MemoryError

    assert [row["error"] for row in answered(Smaller(), rows_of("1", "2"), "in")] == ["not enough memory"] * 2


def test_a_device_that_failed_ends_the_job():
    broken = Known(kills=RuntimeError("CUDA error: an illegal memory access was encountered\nmore"))
    with pytest.raises(OSError, match=r"^the device failed \(CUDA error: an illegal memory access was encountered\)"):
        list(answered(broken, rows_of("left", "kills"), "in"))


def test_many_pixels_go_through_in_parts(monkeypatch):
    monkeypatch.setattr(answering, "PIXELS", 2 * 20 * 40)
    stub = Known()
    found = list(answered(stub, rows_of(("1", "2", "3", "4", "5"), "6", "7", "8"), "in"))
    assert [(row["expression"], row["area"]) for row in found] == [(str(n), 20 * n) for n in range(1, 9)]
    assert stub.passes == [[["1", "2"]], [["3", "4"]], [["5"], ["6"]], [["7"], ["8"]]]


def test_what_a_user_should_know_of_an_answer_stands_beside_it(tmp_path):
    Image.fromarray(np.linspace(0, 4000, 1600).reshape(40, 40).astype(np.uint16)).save(tmp_path / "a.png")
    row = Row(tmp_path / "a.png", ("left", "qwerty left"), "row 1")
    one, other = answered(Known(words={"left"}), [row], "in")
    assert one["error"] is None and "a.png" in one["warning"] and "never read" not in one["warning"]
    assert other["warning"] == f"{one['warning']}; never read: qwerty; stub knows drawn shapes only"


def test_names_that_are_no_text_can_be_written():
    (row,) = answered(Known(), [Row(picture(), ("left",), "x", name="a\udcff.png", id="\ud800")], "in")
    assert (row["image"], row["id"]) == ("a?.png", "?")
