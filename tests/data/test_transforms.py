from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data.transforms import InputConfig, image_to_pixels, logits_to_image, mask_to_target

CONFIG = InputConfig((32, 48), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), 20)


def test_pixels_are_resized_and_normalised():
    image = np.full((100, 70, 3), 255, dtype=np.uint8)
    image[..., 2] = 51
    pixels = image_to_pixels(image, CONFIG)
    assert pixels.shape == (3, 32, 48) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([1.0, 3.0, 0.2]))


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 200), st.integers(8, 200), st.data())
def test_a_mask_that_goes_to_network_size_and_back_covers_the_same_place(height, width, data):
    top, left = data.draw(st.integers(0, height // 2)), data.draw(st.integers(0, width // 2))
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + height // 2, left : left + width // 2] = True
    target = mask_to_target(mask, CONFIG)
    assert target.shape == (32, 48) and target.dtype == torch.bool
    back = logits_to_image(torch.where(target, 5.0, -5.0)[None, None], (height, width))[0] > 0
    centre = np.argwhere(mask).mean(0) / (height, width)
    found = np.argwhere(back.numpy()).mean(0) / (height, width)
    assert np.abs(centre - found).max() < 0.04


def test_logits_come_back_at_the_images_size():
    assert logits_to_image(torch.zeros(3, 1, 8, 12), (50, 31)).shape == (3, 50, 31)
