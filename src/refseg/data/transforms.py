"""From an image to what a model reads, and from a model's logits back to the image's own size.

B images, T expressions, H and W own size, h and w network size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from refseg.data.inputs import InputConfig, Size, content_box, fitted
from refseg.geometry import covered_by
from refseg.protocols import ORIGINAL, Protocol


def image_to_bytes(image: np.ndarray, config: InputConfig) -> Tensor:
    """(H, W, 3) uint8 to (3, h, w) uint8, brought to the network size (antialiased); what it does not fill is black."""
    top, left, h, w = content_box((image.shape[0], image.shape[1]), config)
    found = np.zeros((3, *config.size), np.uint8)
    found[:, top : top + h, left : left + w] = fitted(image, config).transpose(2, 0, 1)
    return torch.from_numpy(found)


@dataclass(frozen=True)
class Normalise:
    """What `image_to_bytes` made, to what a network reads, where it is: a quarter of the bytes go to a device.

    Attributes:
        own: (H, W) of each of B images itself.
        config: What the model wants to see.
    """

    own: tuple[Size, ...]
    config: InputConfig

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 to float32; what an image does not fill has the mean colour, 0."""
        config = self.config
        mean, std = (torch.tensor(of, device=images.device)[:, None, None] for of in (config.mean, config.std))
        pixels = images.float().div_(255).sub_(mean).div_(std)
        for image, size in zip(pixels, self.own, strict=True):
            top, left, h, w = content_box(size, config)
            image[:, :top], image[:, top + h :], image[..., :left], image[..., left + w :] = 0, 0, 0, 0
        return pixels


def sizes_of(images: Sequence[np.ndarray]) -> tuple[Size, ...]:
    """(H, W) of each image."""
    return tuple((image.shape[0], image.shape[1]) for image in images)


def images_to_pixels(images: Sequence[np.ndarray], config: InputConfig, device: torch.device | str = "cpu") -> Tensor:
    """B images (H, W, 3) uint8 to (B, 3, h, w) float32 on a device: brought to the network size and normalised."""
    read = torch.stack([image_to_bytes(image, config) for image in images]).to(device)
    return Normalise(sizes_of(images), config)(read)


def image_to_pixels(image: np.ndarray, config: InputConfig) -> Tensor:
    """(H, W, 3) uint8 to (3, h, w) float32: brought to the network size (antialiased) and normalised."""
    return images_to_pixels([image], config)[0]


def mask_to_target(mask: np.ndarray, config: InputConfig) -> Tensor:
    """(H, W) bool to (h, w) bool at network size by nearest neighbour; the borders of a letterbox are background."""
    top, left, h, w = content_box((mask.shape[0], mask.shape[1]), config)
    resized = Image.fromarray(mask.view(np.uint8)).resize((w, h), Image.Resampling.NEAREST)
    found = np.zeros(config.size, bool)
    found[top : top + h, left : left + w] = np.asarray(resized)
    return torch.from_numpy(found)


def logits_to_image(
    logits: Tensor,
    own: Size,
    config: InputConfig,
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    beyond: Literal["edge", "zero"] = "edge",
) -> Tensor:
    """(T, 1, a, b) log-odds (or any map) of the network input to (T, H, W) at the image's `own` size.

    Prediction and evaluation both come through here, so that what is scored is what a user sees. Beyond the network
    input its edge goes on, or everything is zero; a pixel of the image whose centre lies within a few pixels of the
    input's border is made of both.
    """
    covered = covered_by((logits.shape[2], logits.shape[3]), config.size)
    if config.resize == "squash" and covered == config.size and beyond == "edge":
        return _resize(logits.float(), own, interpolation)[:, 0]
    top, left, h, w = content_box(own, config)
    # Where each pixel's centre lies in the network input, in grid_sample's units: -1 and 1 are its outer edges.
    rows, columns = (
        (first + (torch.arange(side, device=logits.device) + 0.5) * part / side) / full * 2 - 1
        for first, side, part, full in zip((top, left), own, (h, w), covered, strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (H, W, 2) as (x, y)
    grid = grid.expand(logits.shape[0], -1, -1, -1)
    padding = "border" if beyond == "edge" else "zeros"
    return F.grid_sample(logits.float(), grid, mode=interpolation, padding_mode=padding, align_corners=False)[:, 0]


def logits_to_masks(
    logits: Tensor, own: Size, config: InputConfig, protocol: Protocol = ORIGINAL
) -> tuple[Tensor, Tensor]:
    """What a model answers, as masks in the way of a protocol.

    Args:
        logits: (T, 1, a, b) log-odds of the network input.
        own: (H, W) of the image.
        config: What the model saw.
        protocol: What is resized, how, and which threshold is applied before or after.

    Returns:
        Masks (T, H, W) bool and foreground probabilities (T, H, W), at network size if the protocol compares there.
    """
    likely = protocol.resized == "probabilities"
    maps = logits.float().sigmoid() if likely else logits.float()
    level = protocol.threshold if likely else math.log(protocol.threshold / (1 - protocol.threshold))
    resized = _resize_by(protocol, maps, own, config)
    probabilities = resized.clamp(0, 1) if likely else resized.sigmoid()
    if protocol.order == "resize first":
        return _cut(resized, level, protocol), probabilities
    masks = _resize_by(protocol, _cut(maps, level, protocol).float(), own, config)
    return masks > 0.5, probabilities


def target_of(mask: np.ndarray, config: InputConfig, protocol: Protocol = ORIGINAL) -> np.ndarray:
    """The (H, W) bool mask of a reference at the size at which the protocol compares."""
    return mask if protocol.resolution == "original" else mask_to_target(mask, config).numpy()


def _cut(maps: Tensor, level: float, protocol: Protocol) -> Tensor:
    return maps > level if protocol.comparison == ">" else maps >= level


def _resize_by(protocol: Protocol, maps: Tensor, own: Size, config: InputConfig) -> Tensor:
    """(T, 1, a, b) to (T, H, W), own size or network size."""
    network = protocol.resolution == "network"
    if network or protocol.steps == "through network size":
        if protocol.align_corners and protocol.interpolation != "nearest":
            maps = F.interpolate(maps, config.size, mode=protocol.interpolation, align_corners=True)
        else:
            covered = covered_by((maps.shape[2], maps.shape[3]), config.size)
            maps = _resize(maps, covered, protocol.interpolation)[..., : config.size[0], : config.size[1]]
    return maps[:, 0] if network else logits_to_image(maps, own, config, protocol.interpolation, protocol.beyond)


def _resize(maps: Tensor, size: Size, interpolation: str) -> Tensor:
    """(T, 1, a, b) to another size with aligned pixel centres."""
    if interpolation == "nearest":
        return F.interpolate(maps, size, mode="nearest-exact")
    return F.interpolate(maps, size, mode=interpolation, align_corners=False)
