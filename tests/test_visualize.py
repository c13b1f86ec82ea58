from __future__ import annotations

import numpy as np
from PIL import Image

from refseg.visualize import captioned, contact_sheet, outline, overlay


def test_overlay_keeps_the_size_and_marks_the_mask():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 10:30] = True
    shown = np.asarray(overlay(image, mask))
    assert shown.shape == image.shape
    assert (shown[12:18, 12:28].sum(-1) > shown[30:, 40:].sum(-1).max()).all()
    assert tuple(shown[9, 15]) == (150, 255, 0)


def test_overlay_of_nothing_and_of_everything():
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    assert np.asarray(overlay(image, np.zeros((16, 16), bool))).mean() < image.mean()
    assert overlay(image, np.ones((16, 16), bool)).size == (16, 16)


def test_outline_surrounds_the_mask():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True
    ring = outline(mask, 2)
    assert not ring[4, 4] and ring.sum() == 12  # a diamond of radius 2 without its middle


def test_captions_and_sheets_do_not_cut_text_or_pictures():
    picture = Image.new("RGB", (80, 40))
    short, long = captioned(picture, "red"), captioned(picture, "a rather long expression that needs several lines")
    assert short.width == long.width == 80 and long.height > short.height > 40
    sheet = contact_sheet([short, long, short], columns=2)
    assert sheet.width >= 2 * 80 and sheet.height >= long.height + short.height
