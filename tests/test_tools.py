"""The scripts beside the package still fit it: what they import exists."""

from __future__ import annotations

import json
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "tools").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_imported(path):
    runpy.run_path(str(path), run_name="imported")


@pytest.fixture
def results(tmp_path):
    """The tool with a store of its own, which has val of two models and swapped words of one."""
    tool = runpy.run_path(str(ROOT / "tools" / "results.py"), run_name="imported")
    for name in ("store_of", "entries"):
        tool[name].__globals__["STORE"] = tmp_path
    for model, words, miou in (
        ("lavt-shapes", "true", 0.5),
        ("jmceln-shapes", "true", 0.75),
        ("lavt-shapes", "swapped", 0.1),
    ):
        numbers = {metric: miou for metric in tool["METRICS"]}
        groups = {"attribute": {"mIoU": miou + 0.1}, "negation": {"mIoU": 0.25}}
        report = numbers | {
            "model": model, "data": "refshapes", "split": "val", "words": words, "images": 10, "seconds": 2.0,
            "intervals": {metric: [miou - 0.05, miou + 0.05] for metric in numbers}, "by_kind": groups,
            "by_length": {"1 to 2 words": {"mIoU": miou}}, "date": "2026-11-30T10:00", "command": "refseg",
            "baselines": {"noun and colour": {"mIoU": 0.4, "by_kind": groups}},
            "training": {"steps": 5000, "seed": 0, "source": "encoders of swin-shapes"},
        }  # fmt: skip
        entry = {"weights": "x", "commit": "abc", "machine": "an abacus", "report": report}
        tool["store_of"](model, "refshapes", "val", words).write_text(json.dumps(entry))
    return tool


def test_the_tables_are_made_of_what_was_measured(results):
    page = "before\n<!-- made: main -->old<!-- end -->\n<!-- made: words --><!-- end -->\nafter"
    found = results["written"](page, results["Results"]())
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.splitlines() if line.startswith("| ")]
    assert found.startswith("before\n<!-- made: main -->\n| mIoU") and found.endswith("after") and "old" not in found
    assert rows[1][:3] == ["jmceln-shapes", "75.0", "not measured"] and rows[2][:2] == ["lavt-shapes", "50.0"]
    assert rows[3][:2] == ["noun and colour", "40.0"]
    assert rows[-1] == ["lavt-shapes", "50.0", "not measured", "10.0"]
    assert results["written"](found, results["Results"]()) == found
    with pytest.raises(ValueError, match="a mark 'nothing'"):
        results["written"]("<!-- made: nothing --><!-- end -->", results["Results"]())


def test_every_part_and_plot_can_be_made(results):
    made = results["Results"]()
    for part in ("metrics", "kinds", "lengths", "cost"):
        assert "jmceln-shapes" in getattr(made, part)()
    assert made.machines() == "Measured on: an abacus."
    for name, figure in made.plots():
        drawn = ET.fromstring(results["picture_of"](figure))
        assert drawn.tag.endswith("svg") and name.endswith(".svg")


def test_the_page_of_performance_is_what_the_tool_makes():
    tool = runpy.run_path(str(ROOT / "tools" / "performance.py"), run_name="imported")
    for path in tool["PAGES"]:
        page = path.read_text(encoding="utf-8")
        assert tool["written"](page) == page and "<!-- made: " in page, path.name
    with pytest.raises(ValueError, match="a mark 'nothing'"):
        tool["written"]("<!-- made: nothing --><!-- end -->")


def test_the_page_of_results_is_what_the_tool_makes():
    tool = runpy.run_path(str(ROOT / "tools" / "results.py"), run_name="imported")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert tool["written"](page, tool["Results"]()) == page
