"""What a model wants to see of an image, and its answer at the image's own size again, in numpy alone.

`refseg.data.transforms` has the same for torch's tensors, and the ways of all protocols. T expressions, H and W own
size, h and w network size, a and b size of a map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from refseg.checked import Checked
from refseg.geometry import covered_by

Size = tuple[int, int]
LARGEST = 4096  # pixels of a network input's side; no model reads a tenth of the area


@dataclass(frozen=True)
class InputConfig(Checked):
    """What a model wants to see.

    Attributes:
        size: (height, width) of the network input.
        mean: Mean of each channel, for values in [0, 1].
        std: Standard deviation of each channel.
        max_tokens: Longest token sequence, special tokens included.
        resize: "squash" brings every image to `size` whatever its shape (LAVT and its heirs), bilinear; "letterbox"
            keeps its shape, centred between borders of the mean colour (CRIS and its heirs), bicubic.
    """

    least = {"mean": -math.inf}

    size: Size
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_tokens: int
    resize: Literal["squash", "letterbox"] = "squash"

    def __post_init__(self) -> None:
        """Refuses what no image can be brought to.

        Raises:
            ValueError: A side, a deviation or the number of tokens is not positive, or a side is beyond `LARGEST`.
        """
        super().__post_init__()
        if max(self.size) > LARGEST:
            raise ValueError(f"InputConfig: size {self.size}: sides of at most {LARGEST} pixels are accepted")
        if not min(self.std):
            raise ValueError(f"InputConfig: std {self.std}: a tuple with positive numbers is accepted")

    @classmethod
    def of_answers(cls, size: Size, resize: Literal["squash", "letterbox"]) -> InputConfig:
        """What saved answers tell of it: enough to bring masks from and to network size, not to ask a model."""
        return cls(size, (0.0,) * 3, (1.0,) * 3, 1, resize)


def content_box(own: Size, config: InputConfig) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the part of the network input that an image of `own` size (H, W) fills."""
    height, width = config.size
    if config.resize == "squash":
        return 0, 0, height, width
    scale = min(height / own[0], width / own[1])
    h, w = (max(1, min(full, round(side * scale))) for side, full in zip(own, config.size, strict=True))
    return (height - h) // 2, (width - w) // 2, h, w


def fitted(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """(H, W, 3) uint8 brought to the part of the network input that it fills (antialiased)."""
    _, _, h, w = content_box((image.shape[0], image.shape[1]), config)
    method = Image.Resampling.BILINEAR if config.resize == "squash" else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((w, h), method))


def image_to_array(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """(H, W, 3) uint8 to what a network reads, (3, h, w) float32; what an image does not fill has the mean colour."""
    top, left, h, w = content_box((image.shape[0], image.shape[1]), config)
    pixels = np.zeros((3, *config.size), np.float32)
    shares = fitted(image, config).astype(np.float32) / 255
    normalised = (shares - np.asarray(config.mean, np.float32)) / np.asarray(config.std, np.float32)
    pixels[:, top : top + h, left : left + w] = normalised.transpose(2, 0, 1)
    return pixels


def array_to_image(maps: np.ndarray, own: Size, config: InputConfig) -> np.ndarray:
    """(T, 1, a, b) log-odds (or any map) of the network input to (T, H, W) at the image's `own` size, bilinear.

    Beyond the network input its edge goes on. Rows and columns are brought there one after the other.
    """
    covered = covered_by((maps.shape[2], maps.shape[3]), config.size)
    top, left, h, w = content_box(own, config)
    found = maps[:, 0].astype(np.float32, copy=False)
    for axis, first, part, full in ((1, top, h, covered[0]), (2, left, w, covered[1])):
        cells, side = found.shape[axis], own[axis - 1]
        at = (
            first + (np.arange(side) + 0.5) * part / side
        ) / full * cells - 0.5  # in cells, 0 is the first one's centre
        at = at.clip(0, cells - 1)
        before = np.floor(at).astype(np.intp)
        share = (at - before).astype(np.float32)  # of the next cell
        share = share[:, None] if axis == 1 else share
        low, high = found.take(before, axis), found.take(np.minimum(before + 1, cells - 1), axis)
        high -= low
        high *= share
        high += low
        found = high
    return found
