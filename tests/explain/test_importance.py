from __future__ import annotations

import math

import numpy as np
import pytest

from refseg.explain.importance import importance_of
from refseg.prediction import Prediction


def answer(logits):
    values = np.array(logits, dtype=np.float32)
    return Prediction("x", values > 0, 0.0, values)


def p(z):
    return 1 / (1 + math.exp(-z))


def test_changes_by_hand():
    whole = answer([[2.0, 1.0, -1.0, -3.0]])
    without = answer([[1.0, -1.0, 4.0, -3.0]])
    found = importance_of(whole, [without, None, whole])
    assert found.mask_change == pytest.approx([1 - 1 / 3, math.nan, 0], nan_ok=True)
    fall = (p(2) - p(1) + p(1) - p(-1)) / 2
    assert found.probability_fall == pytest.approx([fall, math.nan, 0], nan_ok=True)
    assert found.log_odds_fall == pytest.approx([(1 + 2) / 2, math.nan, 0], nan_ok=True)


def test_a_word_that_speaks_against_the_mask_is_negative():
    found = importance_of(answer([[1.0, -1.0]]), [answer([[3.0, -1.0]])])
    assert found.probability_fall[0] == pytest.approx(p(1) - p(3)) and found.log_odds_fall[0] == -2
    assert found.mask_change[0] == 0


def test_empty_masks():
    nothing, something = answer([[-1.0, -1.0]]), answer([[1.0, -1.0]])
    found = importance_of(nothing, [nothing, something])
    assert found.mask_change.tolist() == [0, 1] and np.isnan(found.probability_fall).all()
    found = importance_of(something, [nothing])
    assert found.mask_change[0] == 1 and found.probability_fall[0] == pytest.approx(p(1) - p(-1))


def test_a_model_of_masks_alone_has_no_probabilities():
    one = Prediction("x", np.array([[True, False]]), None, None)
    found = importance_of(one, [one])
    assert found.mask_change[0] == 0 and math.isnan(found.log_odds_fall[0])


def test_many_rows_are_added_up_alike():
    r = np.random.default_rng(0)
    one, other = answer(r.normal(size=(600, 7))), answer(r.normal(size=(600, 7)))
    found = importance_of(one, [other])
    inside = one.logits > 0
    assert found.log_odds_fall[0] == pytest.approx(float((one.logits - other.logits)[inside].mean()), rel=1e-5)


def test_no_words_no_rows():
    assert importance_of(answer([[1.0]]), []).mask_change.shape == (0,)
