"""What numpy makes of images and log-odds is what torch makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data.inputs import InputConfig, array_to_image, image_to_array
from refseg.data.transforms import image_to_pixels, logits_to_image

SQUASH = InputConfig((48, 64), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 8)
side = st.integers(1, 90)


@settings(deadline=None, max_examples=60)
@given(own=st.tuples(side, side), seed=st.integers(0, 2**32 - 1), resize=st.sampled_from(["squash", "letterbox"]))
def test_pixels_are_the_same(own, seed, resize):
    image = np.random.default_rng(seed).integers(0, 256, (*own, 3), dtype=np.uint8)
    config = replace(SQUASH, resize=resize)
    assert np.array_equal(image_to_array(image, config), image_to_pixels(image, config).numpy())


@settings(deadline=None, max_examples=150)
@given(
    own=st.tuples(side, side),
    seen=st.tuples(st.integers(4, 70), st.integers(4, 70)),
    stride=st.sampled_from([1, 2, 4, 8]),
    count=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    resize=st.sampled_from(["squash", "letterbox"]),
)
def test_log_odds_come_to_the_image_as_by_torch(own, seen, stride, count, seed, resize):
    config = InputConfig(seen, SQUASH.mean, SQUASH.std, 8, resize)
    cells = [-(-side // stride) for side in seen]  # with whole strides that reach beyond the input
    # Between -0.5 and 0.5: torch rounds the place of a pixel to 1e-5 of a cell, by which a steep map differs more.
    logits = torch.rand(count, 1, *cells, generator=torch.Generator().manual_seed(seed)) - 0.5
    found = array_to_image(logits.numpy(), own, config)
    assert found.dtype == np.float32 and found.shape == (count, *own)
    np.testing.assert_allclose(found, logits_to_image(logits, own, config).numpy(), atol=1e-5)


@pytest.mark.parametrize("own", [(480, 640), (1, 3000), (2000, 7)])
def test_large_images_too(own):
    config = replace(SQUASH, size=(128, 128))
    logits = torch.randn(2, 1, 128, 128)
    np.testing.assert_allclose(
        array_to_image(logits.numpy(), own, config), logits_to_image(logits, own, config).numpy(), atol=1e-4
    )


def test_nothing_of_the_callers_is_changed():
    logits = np.random.default_rng(0).normal(size=(1, 1, 6, 8)).astype(np.float32)
    kept = logits.copy()
    array_to_image(logits, (6, 8), SQUASH)[:] = 0
    array_to_image(logits, (12, 16), SQUASH)[:] = 0
    assert np.array_equal(logits, kept)
