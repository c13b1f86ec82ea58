from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from refseg.data.transforms import (
    InputConfig,
    content_box,
    image_to_pixels,
    logits_to_image,
    logits_to_masks,
    mask_to_target,
)
from refseg.geometry import covered_by
from refseg.protocols import CRIS, LAVT

CONFIG = InputConfig((32, 48), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), 20)
LETTERBOX = replace(CONFIG, resize="letterbox")


def test_pixels_are_resized_and_normalised():
    image = np.full((100, 70, 3), 255, dtype=np.uint8)
    image[..., 2] = 51
    pixels = image_to_pixels(image, CONFIG)
    assert pixels.shape == (3, 32, 48) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([1.0, 3.0, 0.2]))


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 200), st.integers(8, 200), st.sampled_from([CONFIG, LETTERBOX]), st.data())
def test_a_mask_that_goes_to_network_size_and_back_covers_the_same_place(height, width, config, data):
    top, left = data.draw(st.integers(0, height // 2)), data.draw(st.integers(0, width // 2))
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + height // 2, left : left + width // 2] = True
    target = mask_to_target(mask, config)
    assert target.shape == (32, 48) and target.dtype == torch.bool
    if not target.any():
        return  # a sliver of a letterboxed strip can fall between the rows
    back = logits_to_image(torch.where(target, 5.0, -5.0)[None, None], (height, width), config)[0] > 0
    scale = 1.0 if config is CONFIG else max(1.0, max(height / 32, width / 48))
    centre, found = np.argwhere(mask).mean(0), np.argwhere(back.numpy()).mean(0)
    allowed = 0.04 * np.array([height, width]) if config is CONFIG else scale
    assert (np.abs(centre - found) <= allowed).all()


def test_logits_come_back_at_the_images_size():
    for config in (CONFIG, LETTERBOX):
        assert logits_to_image(torch.zeros(3, 1, 8, 12), (50, 31), config).shape == (3, 50, 31)


def test_a_letterbox_keeps_the_shape_between_borders_of_the_mean_colour():
    image = np.full((40, 20, 3), 200, dtype=np.uint8)
    pixels = image_to_pixels(image, LETTERBOX)
    assert content_box((40, 20), LETTERBOX) == (0, 16, 32, 16)  # 40 x 20 shrinks to 32 x 16, in the middle of 48
    assert not pixels[:, :, :16].any() and not pixels[:, :, 32:].any()
    torch.testing.assert_close(
        pixels[:, 5, 20], torch.tensor([(200 / 255 - m) / s for m, s in ((0.5, 0.5), (0.25, 0.25), (0.0, 1.0))])
    )
    target = mask_to_target(np.ones((40, 20), dtype=bool), LETTERBOX)
    assert target[:, 16:32].all() and int(target.sum()) == 32 * 16


def test_an_image_of_the_networks_shape_is_letterboxed_like_it_is_squashed():
    logits = torch.randn(2, 1, 8, 12)
    squashed, boxed = (logits_to_image(logits, (64, 96), config) for config in (CONFIG, LETTERBOX))
    torch.testing.assert_close(squashed, boxed, rtol=1e-4, atol=1e-5)


def test_letterboxed_logits_come_back_by_hand():
    # 4 x 8 in 8 x 8: rows 2 to 5 are the image, so its row r has its centre at 2.5 + r. A row of logits is two rows
    # high and row k has its centre at 2 k + 1, so that height y lies at (y - 1) / 2 = y / 2 - 0.5 in rows of logits.
    config = InputConfig((8, 8), (0.0,) * 3, (1.0,) * 3, 20, resize="letterbox")
    logits = torch.arange(4.0)[:, None].expand(4, 4)[None, None]
    back = logits_to_image(logits, (4, 8), config)
    torch.testing.assert_close(back[0, :, 0], torch.tensor([2.5, 3.5, 4.5, 5.5]) / 2 - 0.5)


def test_cells_that_reach_beyond_the_image_are_not_squeezed_into_it():
    # 50 rows under 13 cells of 4: the cells cover 52. A ramp by the cells' centres gives every row its own height.
    for config in (InputConfig((50, 92), (0.0,) * 3, (1.0,) * 3, 20), CONFIG):
        h, w = config.size
        ramp = (torch.arange(-(-h // 4)) * 4.0 + 2)[None, None, :, None].expand(1, 1, -1, -(-w // 4))
        back = logits_to_image(ramp, (h, w), config)[0, :, 5]
        torch.testing.assert_close(back[2:-4], torch.arange(h)[2:-4] + 0.5)
        assert covered_by((-(-h // 4), -(-w // 4)), (h, w)) == (52 if h == 50 else h, w)
    assert covered_by((16, 40), (20, 24)) == (20, 24)  # no whole stride: the map covers just the image


WARP = load_file(Path(__file__).parents[1] / "reference" / "cris_warp.safetensors")
WARPED = [((36, 48), (24, 24)), ((14, 20), (24, 24)), ((48, 36), (30, 30)), ((31, 45), (26, 26)), ((25, 60), (20, 32))]


def warped(case):
    """Probabilities at network size through the protocol `cris`: masks and probabilities at the image's size."""
    own, size = WARPED[case]
    config = InputConfig(size, (0.0,) * 3, (1.0,) * 3, 20, resize="letterbox")
    logits = torch.from_numpy(WARP[f"{case}.map"]).double().logit().float()[None, None]
    masks, probabilities = logits_to_masks(logits, own, config, CRIS)
    return masks[0].numpy(), probabilities[0].numpy()


@pytest.mark.parametrize("case", range(5))
def test_cris_maps_back_as_opencv_does(case):
    """Recorded from OpenCV's own cv2.warpAffine(map, M, (W, H), flags=INTER_CUBIC, borderValue=0).

    The maps are float32 in (0, 1) at network size: sigmoid of 4 times normal noise of 6 x 6, enlarged by cv2.resize
    (INTER_CUBIC); in case 3 the noise has network size. M takes the outer edges of the letterboxed image in the network
    input to those of the image: cv2.getAffineTransform of the corners (left, top), (left + w, top), (left, top + h)
    and (0, 0), (W, 0), (0, H), all minus 0.5, where OpenCV counts from the centres of pixels. `opencv5` is version
    5.0.0, which computes every place and weight, `opencv4` is 4.10.0, which rounds places to 1/32 of a pixel, as the
    versions of CRIS's time did.
    """
    (masks, found), new, old = warped(case), WARP[f"{case}.opencv5"], WARP[f"{case}.opencv4"]
    np.testing.assert_allclose(found, new.clip(0, 1), rtol=0, atol=1e-5)
    assert np.array_equal(masks, new > 0.35)
    # Rounding by at most 1/64 of a pixel in each direction: that much of the difference of two pixels, times the
    # steepest slope of a cubic through them.
    steps = np.pad(WARP[f"{case}.map"], 2)
    steepest = max(np.abs(np.diff(steps, axis=0)).max(), np.abs(np.diff(steps, axis=1)).max())
    assert np.abs(found - old.clip(0, 1)).max() <= 2 * steepest / 64 * 1.5
    assert np.abs(old - 0.35)[masks != (old > 0.35)].max(initial=0) < 0.03


def test_masks_of_cris_are_opencvs_but_for_7_pixels_of_6631():
    differ = [int((warped(case)[0] != (WARP[f"{case}.opencv4"] > 0.35)).sum()) for case in range(5)]
    assert differ == [0, 0, 0, 5, 2] and sum(WARP[f"{case}.opencv4"].size for case in range(5)) == 6631


def test_scores_fade_at_the_borders_of_the_input_only():
    # 40 x 20 in 20 x 20: the image is 20 x 10, its top and bottom are borders of the input, its left and right are not.
    config = InputConfig((20, 20), (0.0,) * 3, (1.0,) * 3, 20, resize="letterbox")
    ones = torch.full((1, 1, 20, 20), 1.0)
    back = logits_to_image(ones, (40, 20), config, "bicubic", "zero")[0]
    # The first row's centre is a quarter of a row above the input's first: the cubic of a = -0.75 at 0.25 and 1.25.
    weights = [1.25 * x**3 - 2.25 * x**2 + 1 for x in (0.25,)]
    weights += [-0.75 * x**3 + 3.75 * x**2 - 6 * x + 3 for x in (1.25,)]
    torch.testing.assert_close(back[[0, -1]], torch.full((2, 20), sum(weights)), rtol=1e-4, atol=1e-4)
    assert back[0, 0] < 0.9 and torch.allclose(back[5:-5], torch.ones(30, 20), atol=1e-5)
    squashed = logits_to_image(ones, (40, 20), replace(config, resize="squash"), "bicubic", "zero")[0]
    torch.testing.assert_close(squashed[0, 10], back[0, 10])
    assert torch.equal(logits_to_image(ones, (40, 20), config, "bicubic")[0].round(decimals=4), torch.ones(40, 20))


def test_lavt_aligns_corners_by_hand():
    # 3 x 3 to 5 x 5 with corner centres on corner centres: every second pixel is a cell, the others lie between two.
    config = InputConfig((5, 5), (0.0,) * 3, (1.0,) * 3, 20)
    cells = torch.tensor([[-3.0, 1.0, 5.0], [2.0, -2.0, 0.5], [4.0, 6.0, -7.0]])
    between = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]])
    expected = between @ cells @ between.T
    masks, probabilities = logits_to_masks(cells[None, None], (50, 70), config, LAVT)
    torch.testing.assert_close(probabilities[0], expected.sigmoid())
    assert torch.equal(masks[0], expected > 0)
