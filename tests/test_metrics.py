from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from refseg.data.rle import decode_rle, encode_rle
from refseg.metrics import Scores, score


def load():
    return json.loads((Path(__file__).parent / "reference" / "metrics.json").read_text())


def test_original_protocol_equals_the_reference():
    data = load()
    scores = Scores()
    for pair in data["pairs"]:
        scores.add(score(decode_rle(pair["prediction"]), decode_rle(pair["target"])))
    expected = data["expected"]["original"]  # in percent
    assert {key: 100 * value for key, value in scores.summary().items()} == pytest.approx(expected, abs=1e-9)


def test_by_hand():
    scores = Scores()
    target = np.zeros((4, 4), dtype=bool)
    target[:, :2] = True  # 8 pixels
    half = np.zeros((4, 4), dtype=bool)
    half[:2, :2] = True  # 4 of them
    empty = np.zeros((4, 4), dtype=bool)
    for prediction, truth in ((half, target), (target, target), (empty, target), (empty, empty)):
        scores.add(score(prediction, truth, "some" if truth.any() else None))
    summary = scores.summary()
    assert summary["mIoU"] == (0.5 + 1 + 0 + 1) / 4
    assert summary["oIoU"] == (4 + 8) / (8 + 8 + 8)
    assert summary["P@0.5"] == 0.75  # an IoU of exactly 0.5 counts
    assert summary["P@0.6"] == 0.5
    assert scores.by_kind() == {"some": {"expressions": 3, **Scores(scores.pairs[:3]).summary()}}


def test_parts_merge_to_the_same_bits_in_any_order():
    generator = np.random.default_rng(0)
    pairs = [score(generator.random((9, 9)) > 0.5, generator.random((9, 9)) > 0.5) for _ in range(50)]
    whole = Scores(pairs).summary()
    order = list(pairs)
    random.Random(1).shuffle(order)
    assert Scores(order[:20]).merge(Scores(order[20:])).summary() == whole


def test_nothing_scored_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="no expression"):
        Scores().summary()
    with pytest.raises(ValueError, match="must agree"):
        score(np.zeros((2, 2), dtype=bool), np.zeros((2, 3), dtype=bool))


def test_rle_round_trip():
    mask = np.random.default_rng(0).random((7, 12)) > 0.6
    code = encode_rle(mask)
    assert code["size"] == [7, 12] and isinstance(code["counts"], str)
    assert np.array_equal(decode_rle(json.loads(json.dumps(code))), mask)
    with pytest.raises(ValueError, match="run-length"):
        decode_rle({"size": [2, 2]})
