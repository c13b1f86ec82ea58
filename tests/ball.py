"""A small photo with one ball and one box, and the mask of the ball in every way in which people keep masks."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

H, W = 48, 64
PIXELS = 193
OUTLINE = [8, 16, 12, 9, 20, 9, 24, 16, 20, 23, 12, 23]
BOX = [36, 20, 54, 20, 54, 40, 36, 40]
ORIENTATION = 0x0112


def ball():
    """(H, W) bool, the ball: a disc of 193 pixels."""
    y, x = np.mgrid[:H, :W]
    return (x - 16) ** 2 + (y - 16) ** 2 <= 61


def photo():
    """(H, W, 3) uint8: a red ball and a blue box on a ground that brightens to the right."""
    image = np.empty((H, W, 3), np.uint8)
    image[:] = (120, 140, 110)
    image[..., 2] += np.arange(W, dtype=np.uint8)
    image[ball()] = (220, 30, 30)
    image[20:40, 36:54] = (30, 30, 220)
    return image


def own_data(folder, mask, name="data.jsonl", **columns):
    """One row about the ball with a photo beside it; the path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "a.png").exists():
        Image.fromarray(photo()).save(folder / "a.png")
    row = {"image": "a.png", "expression": "the ball", "mask": mask, **columns}
    (folder / name).write_text(json.dumps(row) + "\n")
    return folder / name


def coco_data(folder, segmentation, file="a.png", size=(H, W), **annotation):
    """The same as COCO's instances with expressions; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if file == "a.png":
        Image.fromarray(photo()).save(folder / file)
    content = {
        "images": [{"id": 1, "file_name": file, "height": size[0], "width": size[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": segmentation,
                         **annotation}],
        "categories": [{"id": 1, "name": "ball"}],
    }  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "expressions.jsonl").write_text(json.dumps({"ann_id": 1, "expression": "the ball"}) + "\n")
    return folder
