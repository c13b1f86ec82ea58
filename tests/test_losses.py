from __future__ import annotations

import math

import pytest
import torch

from refseg.losses import dice, pixel_text, resize_target


def test_pixel_text_by_hand():
    logits, target = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[True, False]]])
    low = math.log(1 + math.exp(2.0))
    assert float(pixel_text(logits, target)) == pytest.approx((math.log(2) + low) / 2)
    assert float(pixel_text(logits, target, pos_weight=1.1)) == pytest.approx((1.1 * math.log(2) + low) / 2)


def test_dice_by_hand():
    logits, target = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]]), torch.tensor([[[True, True, False, False]]])
    assert float(dice(logits, target)) == pytest.approx(1 - (2 * 1.0 + 1) / (2 + 2 + 1))


def test_dice_of_a_perfect_and_of_an_empty_pair_is_zero():
    target = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert float(dice(torch.full((1, 4, 4), -40.0), target)) == pytest.approx(0.0, abs=1e-6)
    target[0, 1:3, 1:3] = True
    assert float(dice(torch.where(target, 40.0, -40.0), target)) == pytest.approx(0.0, abs=1e-6)


def test_losses_of_half_precision_logits_are_float32_and_finite():
    logits, target = torch.full((2, 3, 3), 300.0, dtype=torch.float16), torch.zeros(2, 3, 3, dtype=torch.bool)
    for loss in (pixel_text(logits, target), dice(logits, target)):
        assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_nearest_target_takes_the_middle_of_each_cell():
    target = torch.zeros(1, 8, 8, dtype=torch.bool)
    target[0, 2, 6] = True
    assert resize_target(target, (2, 2)).tolist() == [[[False, True], [False, False]]]
    assert resize_target(target, (8, 8)) is target
