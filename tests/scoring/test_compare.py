from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from refseg.data.checks.identity import DataIdentity
from refseg.protocols import GRES, ORIGINAL
from refseg.scoring.compare import compare, comparison_table
from refseg.scoring.metrics import Scored, Scores
from refseg.scoring.report import Origin, make_report, with_results

ORIGIN = Origin("a", "refshapes", "val", "true", None, "model", {}, "refseg eval a")


def evaluation(path, pairs, protocol=ORIGINAL, **changes):
    scores = Scores(pairs, protocol)
    took = {"images": 1, "expressions": len(pairs), "seconds": 1.0, "rate": 1.0}
    report = with_results(make_report(scores, took, replace(ORIGIN, **changes), {}, resamples=20), scores)
    path.mkdir()
    (path / "report.json").write_text(json.dumps(report))
    return path


def some(gain=0, count=60):
    random = np.random.default_rng(3)
    return [
        Scored(f"s{i}", f"i{i // 3}", int(min(n + gain, 100)), 100, 100)
        for i, n in enumerate(random.integers(0, 90, count))
    ]


def test_the_paired_difference_by_hand(tmp_path):
    a = evaluation(tmp_path / "a", some())
    b = evaluation(tmp_path / "b", some(gain=5), model="b")
    found = compare(a, b / "report.json", resamples=300)
    iou = [[p.intersection / (200 - p.intersection) for p in some(gain)] for gain in (0, 5)]
    numbers = found["numbers"]["mIoU"]
    assert numbers["a"] == pytest.approx(np.mean(iou[0])) and numbers["b"] == pytest.approx(np.mean(iou[1]))
    assert numbers["difference"] == pytest.approx(np.mean(iou[1]) - np.mean(iou[0]))
    low, high = numbers["interval"]
    gains = (np.array(iou[1]) - np.array(iou[0])).reshape(20, 3).mean(1)
    width = 2 * 1.96 * gains.std() / np.sqrt(20)
    assert low < numbers["difference"] < high and high - low == pytest.approx(width, rel=0.25)
    assert low > 0  # B is better on every image: an interval of unpaired differences would include 0
    assert (found["wins"], found["losses"], found["ties"]) == (60, 0, 0)
    right = [np.array(some_iou) >= 0.5 for some_iou in iou]
    assert found["only_b_right"] == int((right[1] & ~right[0]).sum()) > 0 and found["only_a_right"] == 0
    assert found["models"] == ["a", "b"] and set(found["numbers"]) == {"mIoU", "oIoU", "P@0.5"}
    back = compare(b, a, resamples=300)["numbers"]["mIoU"]
    assert back["difference"] == -numbers["difference"] and back["interval"] == pytest.approx([-high, -low])
    assert "60 expressions of 20 images" in str(comparison_table(found).caption)


def test_an_evaluation_equals_itself(tmp_path):
    a = evaluation(tmp_path / "a", some())
    found = compare(a, a, resamples=50)
    assert found["ties"] == 60 and found["numbers"]["oIoU"]["interval"] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "protocol", "pairs", "message"),
    [
        ({"data": "refcoco"}, ORIGINAL, some(), "data 'refshapes' and 'refcoco'"),
        ({"split": "testA"}, ORIGINAL, some(), "split 'val' and 'testA'"),
        ({"words": "swapped"}, ORIGINAL, some(), "words 'true' and 'swapped'"),
        ({"limit": 3}, ORIGINAL, some(), "limit None and 3"),
        ({}, GRES, some(), "protocol name 'original', no_target 'plain', .* and name 'gres', no_target 'gres'"),
        ({}, replace(ORIGINAL, threshold=0.4), some(), "protocol threshold 0.5 and threshold 0.4"),
        ({}, ORIGINAL, some(count=57), "3 expressions are in one of them only .s57, s58, s59."),
        ({}, ORIGINAL, [replace(p, target=101) for p in some()], "'s0' has another image or target"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, protocol, pairs, message):
    a = evaluation(tmp_path / "a", some())
    b = tmp_path / "b"
    if protocol.name == "original" and protocol != ORIGINAL:
        protocol = replace(protocol, name="mine")
        message = message.replace(
            "protocol threshold 0.5 and", "protocol name 'original', threshold 0.5 and name 'mine',"
        )
    evaluation(b, pairs, protocol, **changes)
    with pytest.raises(ValueError, match=message) as refused:
        compare(a, b)
    assert "\n" not in str(refused.value)


def test_the_same_data_under_another_name(tmp_path):
    place = tmp_path / "birds"
    place.mkdir()
    (place / "data.jsonl").write_text("{}")
    here = DataIdentity("birds", "birds", str(place / "data.jsonl"))
    a = evaluation(tmp_path / "a", some(), data="birds", identity=here)
    b = evaluation(tmp_path / "b", some(), data=str(place), identity=replace(here, data=str(place)))
    assert compare(a, b, resamples=20)["ties"] == 60
    old = evaluation(tmp_path / "old", some())
    for path, spelled in ((a, None), (old, str(place))):  # as a report was before it said which file
        report = json.loads((path / "report.json").read_text())
        kept = {name: value for name, value in report.items() if name not in ("data_name", "data_file")}
        if spelled:
            (path / "report.json").write_text(json.dumps(kept | {"data": spelled}))
    assert compare(old, b, resamples=20)["ties"] == 60
    other = tmp_path / "cats"
    other.mkdir()
    (other / "data.jsonl").write_text("[]")
    there = DataIdentity(str(other), "cats", str(other / "data.jsonl"))
    c = evaluation(tmp_path / "c", some(), data=str(other), identity=there)
    with pytest.raises(ValueError, match="data 'birds' .*birds/data.jsonl. and '.*cats' .*cats/data.jsonl.; eval"):
        compare(a, c)


def test_what_is_no_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no report.json"):
        compare(tmp_path, tmp_path)
    (tmp_path / "report.json").write_text('{"model": "x"}')
    with pytest.raises(ValueError, match="not a report"):
        compare(tmp_path, tmp_path)


@pytest.mark.parametrize("change", [{"data": [[1, 2]]}, {"data_file": {}}])
def test_a_report_that_says_oddly_what_it_is_about_is_named(tmp_path, change):
    a, b = (evaluation(tmp_path / name, some()) for name in ("first", "second"))
    file = b / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=r"second/report\.json: not a report"):
        compare(a, b, resamples=5)
