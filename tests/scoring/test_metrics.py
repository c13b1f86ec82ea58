from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data.formats.rle import decode_rle, encode_rle
from refseg.protocols import GRES, PROTOCOLS, Protocol
from refseg.scoring.metrics import Scored, Scores, count_pixels, iou_of

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "metrics.json").read_text())


def scored(i, prediction, target, kind=None):
    return Scored(f"s{i}", f"i{i // 3}", *count_pixels(prediction, target), kind)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_equals_the_reference(name):
    scores = Scores(protocol=PROTOCOLS[name])
    for i, pair in enumerate(REFERENCE["pairs"]):
        scores.add(scored(i, decode_rle(pair["prediction"]), decode_rle(pair["target"])))
    heir = "lavt" if name in ("lgformer", "crformer") else name  # their test scripts count as LAVT's does
    expected = REFERENCE["expected"][heir]  # in percent
    found = {key: 100 * value for key, value in scores.published().items()}
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-9)
    assert set(found) == set(expected)


def test_by_hand():
    target = np.zeros((4, 4), dtype=bool)
    target[:, :2] = True  # 8 pixels
    half = np.zeros((4, 4), dtype=bool)
    half[:2, :2] = True  # 4 of them
    empty = np.zeros((4, 4), dtype=bool)
    pairs = [
        scored(i, prediction, truth, "some" if truth.any() else None)
        for i, (prediction, truth) in enumerate(((half, target), (target, target), (empty, target), (empty, empty)))
    ]
    scores = Scores(pairs)
    summary = scores.summary()
    assert list(summary) == ["oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9"]
    assert summary["mIoU"] == (0.5 + 1 + 0 + 1) / 4
    assert summary["oIoU"] == (4 + 8) / (8 + 8 + 8)
    assert summary["P@0.5"] == 0.75  # an IoU of exactly 0.5 counts
    assert summary["P@0.6"] == 0.5
    assert scores.by_kind() == {"some": {"expressions": 3, **Scores(pairs[:3]).summary()}}
    strict = Scores(pairs, Protocol("strict", empty=0.25, precision_comparison=">", iou_epsilon=8.0)).summary()
    assert strict["mIoU"] == (4 / 16 + 8 / 16 + 0 + 0.25) / 4 and strict["oIoU"] == 0.5
    assert strict["P@0.5"] == 0.0  # the second is exactly 0.5


def test_gres_by_hand():
    pairs = [  # intersection, predicted, target
        Scored("hit", "a", 80, 100, 100),  # IoU 2/3
        Scored("rejected", "a", 30, 30, 100),  # 30 pixels are too few: a target that is rejected
        Scored("right rejection", "b", 0, 49, 0),
        Scored("missed rejection", "b", 0, 50, 0),
    ]
    rules = Protocol("g", no_target="gres", min_target_pixels=50, metrics=GRES.metrics)
    assert Scores(pairs, rules).published() == {
        "gIoU": pytest.approx((2 / 3 + 0 + 1 + 0) / 4),
        "cIoU": 80 / (120 + 100 + 0 + 50),
        "T_acc": 0.5,
        "N_acc": 0.5,
        "P@0.7": 0.0,
        "P@0.8": 0.0,
        "P@0.9": 0.0,
    }
    assert Scores(pairs, rules).summary()["P@0.6"] == 0.5  # of the two that have a target
    counted = Scores(pairs, GRES).published()  # here any pixel is a target
    assert counted["T_acc"] == 1.0 and counted["N_acc"] == 0.0 and counted["gIoU"] == pytest.approx((2 / 3 + 0.3) / 4)


def test_what_cannot_be_counted_is_left_out():
    assert "P@0.5" not in Scores([Scored("a", "b", 0, 0, 0)], GRES).summary()
    assert Scores([Scored("a", "b", 0, 0, 0)], GRES).published() == {"gIoU": 1.0, "cIoU": 1.0, "N_acc": 1.0}


COUNTS = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)).map(lambda t: (min(t), t[1], t[2]))


@settings(deadline=None, max_examples=80)
@given(st.lists(COUNTS, min_size=1, max_size=40), st.integers(1, 7), st.randoms(), st.sampled_from(list(PROTOCOLS)))
def test_any_sharding_gives_the_same_bits(counts, processes, order, name):
    pairs = [Scored(f"s{i}", f"i{i // 2}", *some) for i, some in enumerate(counts)]
    whole = Scores(pairs, PROTOCOLS[name])
    padded = pairs + [order.choice(pairs) for _ in range(-len(pairs) % processes)]  # as distributed samplers do
    order.shuffle(padded)
    parts = [Scores(padded[rank::processes], PROTOCOLS[name]) for rank in range(processes)]
    order.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.summary() == whole.summary() and merged.published() == whole.published()
    assert len(merged.pairs) == len(pairs)


def test_processes_that_disagree_by_rounding_still_merge_to_one_result():
    one, other = Scored("s", "i", 4, 6, 5), Scored("s", "i", 5, 6, 5)
    assert Scores([one, other]).summary() == Scores([other, one]).summary()
    for wrong in (Scored("s", "j", 4, 6, 5), Scored("s", "i", 4, 6, 7)):
        with pytest.raises(ValueError, match="'s' of the image .* was scored before with another image or target"):
            Scores([one, wrong])
    with pytest.raises(ValueError, match="one protocol is accepted"):
        Scores([one]).merge(Scores([one], GRES))


def test_nothing_scored_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="no expression"):
        Scores().summary()
    with pytest.raises(ValueError, match="must agree"):
        count_pixels(np.zeros((2, 2), dtype=bool), np.zeros((2, 3), dtype=bool))


def test_an_order_that_changes_sums_of_floats_changes_no_number():
    pairs = [Scored(f"s{i}", "i", 1, i + 1, 1) for i in range(300)]
    order = list(pairs)
    random.Random(1).shuffle(order)
    plain = [sum(iou_of(pair) for pair in some) for some in (pairs, order)]
    assert plain[0] != plain[1]  # so that this test can fail
    assert Scores(order).summary() == Scores(pairs).summary()


def test_rle_round_trip():
    mask = np.random.default_rng(0).random((7, 12)) > 0.6
    code = encode_rle(mask)
    assert code["size"] == [7, 12] and isinstance(code["counts"], str)
    assert np.array_equal(decode_rle(json.loads(json.dumps(code))), mask)
    with pytest.raises(ValueError, match="run-length"):
        decode_rle({"size": [2, 2]})
