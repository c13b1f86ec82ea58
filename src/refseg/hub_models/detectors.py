"""Detectors that are asked in words: Grounding DINO (Liu et al., ECCV 2024), MM Grounding DINO, OWLv2.

Q candidate boxes, L tokens of the sentence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    MMGroundingDinoForObjectDetection,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
)

from refseg.data.transforms import InputConfig, images_to_pixels
from refseg.hub_models.base import loaded, processor_of, warn_of_cut
from refseg.hub_models.find import Part

LONGEST = 256  # tokens of Grounding DINO


class Detector(ABC):
    """Finds the box of what a sentence refers to.

    Args:
        part: The detector's files.
        device: Where it computes.
    """

    image_processor: Any
    network: Any

    def __init__(self, part: Part, device: torch.device) -> None:
        self.device = device
        self.images = processor_of(part, self.image_processor)
        self.words = processor_of(part, AutoTokenizer)
        self.model = loaded(part, self.network, device)

    @abstractmethod
    def candidates(self, image: np.ndarray, text: str) -> tuple[Tensor, Tensor]:
        """Boxes (Q, 4) as centre, width and height, all from 0 to 1 of the picture's `extent`, and scores (Q,)."""

    def extent(self, image: np.ndarray) -> tuple[int, int]:
        """(width, height) that 1 stands for, in pixels of the image."""
        return image.shape[1], image.shape[0]

    def best_box(self, image: np.ndarray, text: str) -> tuple[Tensor, float]:
        """The box (4,) float32 with the highest score for the whole sentence, inside the image, and that score."""
        boxes, scores = self.candidates(image, text)
        best = int(scores.argmax())
        return corners(boxes[best].float().cpu(), self.extent(image), image.shape[:2]), float(scores[best])


def corners(box: Tensor, extent: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    """A relative box (4,) with its centre to (left, top, right, bottom) in pixels, cut at an image of size (H, W)."""
    (x, y, width, height), (across, down) = box, extent
    sides = torch.stack([(x - width / 2) * across, (y - height / 2) * down,
                         (x + width / 2) * across, (y + height / 2) * down])  # fmt: skip
    most = torch.tensor([size[1], size[0], size[1], size[0]], dtype=sides.dtype)
    return torch.minimum(sides.clamp(min=0), most)


class GroundingDino(Detector):
    """Grounding DINO: every candidate has a score for every token of the sentence, whose mean is the sentence's.

    Its authors take the largest one; a candidate that fits one word of "man in black on the left" well would then win
    over one that fits all.
    """

    image_processor: Any = GroundingDinoImageProcessorPil
    network: Any = GroundingDinoForObjectDetection

    def candidates(self, image: np.ndarray, text: str) -> tuple[Tensor, Tensor]:
        """As `Detector.candidates`; the sentence is in lower case and ends in a full stop, as in training."""
        stop = self.words.convert_tokens_to_ids(".")
        ids = self.words(sentence(text)[:-1], add_special_tokens=False)["input_ids"]
        limit = min(LONGEST, self.model.config.text_config.max_position_embeddings) - 3  # start, stop and end
        if len(ids) > limit:
            warn_of_cut(text, limit)
            ids = ids[:limit]
        whole = torch.tensor([[self.words.cls_token_id, *ids, stop, self.words.sep_token_id]], device=self.device)
        seen = self.images(images=image, return_tensors="pt").to(self.device)
        found = self.model(**seen, input_ids=whole, attention_mask=torch.ones_like(whole))
        words = [place for place, token in enumerate(ids, start=1) if token != stop] or [0]
        return found.pred_boxes[0], found.logits[0][:, words].sigmoid().mean(1)


class MMGroundingDino(GroundingDino):
    """MM Grounding DINO: the same network, trained on open data by others."""

    network = MMGroundingDinoForObjectDetection


class Owlv2(Detector):
    """OWLv2: the sentence is one query. The picture is padded to a square at the right and the bottom."""

    image_processor, network = Owlv2ImageProcessorPil, Owlv2ForObjectDetection

    def __init__(self, part: Part, device: torch.device) -> None:
        super().__init__(part, device)
        size = self.images.size["height"], self.images.size["width"]
        self.input = InputConfig(size, tuple(self.images.image_mean), tuple(self.images.image_std), max_tokens=1)

    def candidates(self, image: np.ndarray, text: str) -> tuple[Tensor, Tensor]:
        """As `Detector.candidates`; a sentence is cut at the 16 tokens that the network reads."""
        longest = self.model.config.text_config.max_position_embeddings
        if len(self.words(text)["input_ids"]) > longest:
            warn_of_cut(text, longest)
        asked = self.words([text], return_tensors="pt", padding="max_length", truncation=True, max_length=longest)
        side = max(image.shape[:2])
        square = np.zeros((side, side, 3), dtype=np.uint8)
        square[: image.shape[0], : image.shape[1]] = image
        pixels = images_to_pixels([square], self.input, self.device)  # transformers' own resizing needs scipy
        found = self.model(pixel_values=pixels, **asked.to(self.device))
        return found.pred_boxes[0], found.logits[0][:, 0].sigmoid()

    def extent(self, image: np.ndarray) -> tuple[int, int]:
        """As `Detector.extent`: both sides of the square."""
        side = max(image.shape[:2])
        return side, side


def sentence(text: str) -> str:
    """An expression as Grounding DINO was trained to read it."""
    return text.lower().strip().rstrip(".").rstrip() + "."


_KINDS = {"grounding-dino": GroundingDino, "mm-grounding-dino": MMGroundingDino, "owlv2": Owlv2}


def load_detector(part: Part, device: torch.device) -> Detector:
    """The detector in a folder.

    Raises:
        ValueError: Its files are damaged.
    """
    return _KINDS[part.kind](part, device)
