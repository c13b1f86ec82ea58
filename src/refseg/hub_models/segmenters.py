"""From boxes to masks: SAM (Kirillov et al., ICCV 2023) and SAM 2 (Ravi et al., 2024).

N boxes (left, top, right, bottom) in pixels of an image of size (H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2Model, SamImageProcessorPil, SamModel

from refseg.data.transforms import InputConfig, images_to_pixels
from refseg.hub_models.base import loaded, processor_of
from refseg.hub_models.find import Part

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter(ABC):
    """Finds the mask of what is in a box."""

    @abstractmethod
    def masks(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """(H, W, 3) uint8 and boxes (N, 4) to log-odds (N, H, W); the image is embedded once."""


class Sam(Segmenter):
    """SAM: the longer side becomes 1024 pixels, and the picture is padded to a square at the right and the bottom."""

    def __init__(self, part: Part, device: torch.device) -> None:
        self.device, self.images = device, processor_of(part, SamImageProcessorPil)
        self.model = loaded(part, SamModel, device)

    def masks(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """As `Segmenter.masks`."""
        seen = self.images(images=image, return_tensors="pt")
        resized = tuple(seen["reshaped_input_sizes"][0].tolist())
        scaled = scale_boxes(boxes, image.shape[:2], resized)
        embedded = self.model.get_image_embeddings(seen["pixel_values"].to(self.device))
        found = self.model(image_embeddings=embedded, input_boxes=scaled[None].to(self.device), multimask_output=False)
        side = self.images.pad_size["height"], self.images.pad_size["width"]
        return to_image(found.pred_masks[0, :, 0], side, resized, image.shape[:2])


class Sam2(Segmenter):
    """SAM 2: the picture is squashed to a square; its own processor would need torchvision."""

    def __init__(self, part: Part, device: torch.device) -> None:
        self.device, self.model = device, loaded(part, Sam2Model, device)
        side = self.model.config.vision_config.backbone_config.image_size
        height, width = (side, side) if isinstance(side, int) else side
        self.input = InputConfig((height, width), *IMAGENET, max_tokens=1)

    def masks(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """As `Segmenter.masks`."""
        pixels = images_to_pixels([image], self.input, self.device)
        scaled = scale_boxes(boxes, image.shape[:2], self.input.size)
        embedded: Any = self.model.get_image_embeddings(pixels)
        found = self.model(image_embeddings=embedded, input_boxes=scaled[None].to(self.device), multimask_output=False)
        small = found.pred_masks[0].float()  # (N, 1, h, w); SAM 2 enlarges at once
        return F.interpolate(small, image.shape[:2], mode="bilinear", align_corners=False)[:, 0]


def scale_boxes(boxes: Tensor, size: tuple[int, ...], resized: tuple[int, ...]) -> Tensor:
    """Boxes (N, 4) of an image of `size` (H, W) in pixels of the same image when it is `resized` (h, w)."""
    down, across = resized[0] / size[0], resized[1] / size[1]
    return boxes.float() * torch.tensor([across, down, across, down])


def to_image(logits: Tensor, side: tuple[int, ...], resized: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Log-odds (N, h, w) of a network's input of size `side` to (N, H, W) of the image.

    Args:
        logits: (N, h, w).
        side: (height, width) of the input.
        resized: (height, width) of its upper left part that the image fills.
        size: (H, W).
    """
    large = F.interpolate(logits[:, None].float(), tuple(side), mode="bilinear", align_corners=False)
    seen = large[..., : resized[0], : resized[1]]
    return F.interpolate(seen, tuple(size), mode="bilinear", align_corners=False)[:, 0]


def load_segmenter(part: Part, device: torch.device) -> Segmenter:
    """The segmenter in a folder.

    Raises:
        ValueError: Its files are damaged.
    """
    return Sam(part, device) if part.kind == "sam" else Sam2(part, device)
