"""A step of a pipeline of one's own gives the rows of the command."""

from __future__ import annotations

import pyarrow as pa
import pytest

from annotated import Known, asked, masks, shape
from refseg.annotate.batches import AnnotateBatch
from refseg.predictor import Predictor
from served import picture


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(Predictor, "from_pretrained", lambda name, device=None, precision=None: Known(name))


def test_a_table_becomes_a_table_with_a_row_for_every_expression():
    numbers = range(5)
    images = [{"bytes": picture(*shape(number)), "path": f"{number}.png"} for number in numbers]
    table = pa.table({"image": images, "expressions": [asked(number) for number in numbers], "id": [7, 7, 8, 9, 10]})
    found = AnnotateBatch("stub-1")(table)
    assert found.column("area").to_pylist() == [int(mask.sum()) for number in numbers for mask in masks(number)]
    assert found.column("id").to_pylist() == [id for id, n in zip("7 7 8 9 10".split(), numbers, strict=True)
                                              for _ in asked(n)]  # fmt: skip
    assert set(found.column("model").to_pylist()) == {"stub-1"} and found.column("error").null_count == len(found)


def test_tables_of_errors_alone_have_the_same_columns_and_paths_may_be_below_a_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    step = AnnotateBatch("stub-1", threshold=0.9, images=str(tmp_path))
    good, bad = (step(pa.table({"image": [name], "expression": ["left"]})) for name in ("a.png", "gone.png"))
    assert good.schema == bad.schema and good.column("error").to_pylist() == [None]
    assert "gone.png" in bad.column("error").to_pylist()[0] and bad.column("rle").to_pylist() == [None]
    with pytest.raises(ValueError, match="a probability between 0 and 1"):
        AnnotateBatch("stub-1", threshold=2)
