"""What the benchmarks share: versions that do not mix, contestants in turn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.side_by_side import ROOT, Version, compared, in_process, in_turn, told


def test_a_version_is_that_of_its_checkout_and_leaves_ours_alone(tmp_path):
    other = tmp_path / "src" / "refseg"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("from refseg.more import NAME\n")
    (other / "more.py").write_text("NAME = 'other'\n")
    import refseg

    version = Version(tmp_path)
    for _ in range(2):
        with version:
            import refseg as its

            assert its.NAME == "other" and Path(its.__file__).is_relative_to(tmp_path)
        assert sys.modules["refseg"] is refseg and "refseg.more" not in sys.modules
    assert str(tmp_path / "src") not in sys.path
    network, config = Version(ROOT).network("lgformer-shapes", 0)
    assert config.size == (128, 128) and not network.training
    with pytest.raises(SystemExit, match="no checkout of refseg"):
        Version(tmp_path / "nowhere")


def test_contestants_run_in_turn_and_the_first_round_does_not_count():
    order: list[str] = []
    seconds = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, "cpu")
    assert order == ["a", "b"] * 4 and {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    found = told([1.0, 2.0, 4.0], [4.0, 4.0])
    assert found == {"median": 2.0, "least": 1.0, "most": 4.0, "times_faster": 2.0}


def test_a_program_runs_with_the_package_of_a_checkout():
    code = "import json, sys, refseg; print(json.dumps([refseg.__file__, sys.argv[1:], most_memory()]))"
    file, given, memory = in_process(ROOT, code, 3, "x")
    assert Path(file).parent == ROOT / "src/refseg" and given == ["3", "x"] and memory > 1000
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        in_process(ROOT, "1 / 0")


def test_this_checkout_is_compared_with_another_or_alone():
    assert compared(None) == ({"now": ROOT}, {})
    versions, against = compared(ROOT)
    assert list(versions) == ["before", "now"] and against == {"against": Version(ROOT).commit}
