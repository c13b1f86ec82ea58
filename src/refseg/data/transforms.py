"""From an image to what a model reads, and from a model's logits back to the image's own size.

B images, T expressions, H and W own size, h and w network size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class InputConfig:
    """What a model wants to see.

    Attributes:
        size: (height, width) of the network input.
        mean: Mean of each channel, for values in [0, 1].
        std: Standard deviation of each channel.
        max_tokens: Longest token sequence, special tokens included.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_tokens: int

    def __post_init__(self) -> None:
        """Refuses what no image can be brought to.

        Raises:
            ValueError: A side, a deviation or the number of tokens is not positive.
        """
        if min(self.size) < 1 or min(self.std) <= 0 or self.max_tokens < 1:
            raise ValueError(f"{self}: size, std and max_tokens must be positive")


def image_to_pixels(image: np.ndarray, config: InputConfig) -> Tensor:
    """(H, W, 3) uint8 to (3, h, w) float32: squashed to the network size (bilinear, antialiased) and normalised."""
    h, w = config.size
    resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR), dtype=np.float32)
    scaled = (resized / 255 - np.asarray(config.mean, np.float32)) / np.asarray(config.std, np.float32)
    return torch.from_numpy(scaled).permute(2, 0, 1)


def mask_to_target(mask: np.ndarray, config: InputConfig) -> Tensor:
    """(H, W) bool to (h, w) bool at network size by nearest neighbour."""
    h, w = config.size
    resized = Image.fromarray(mask).resize((w, h), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized, dtype=bool))


def logits_to_image(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 1, a, b) log-odds of the squashed image to (T, H, W) at the image's own `size` (bilinear).

    Prediction and evaluation both come through here, so that what is scored is what a user sees.
    """
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)[:, 0]
