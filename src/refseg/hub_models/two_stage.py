"""A detector finds the box for the whole sentence, a segmenter the mask of what is in it.

Boxes are (left, top, right, bottom) in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from refseg.answers import make_prediction
from refseg.hub_models.base import OwnSizeAnswerer
from refseg.hub_models.detectors import load_detector
from refseg.hub_models.find import Found
from refseg.hub_models.segmenters import load_segmenter
from refseg.prediction import Prediction


class TwoStage(OwnSizeAnswerer):
    """The best box, then its mask; see the module's first lines."""

    def __init__(self, found: Found, device: torch.device) -> None:
        super().__init__(found, device)
        first, second = found.parts
        self.detector, self.segmenter = load_detector(first, device), load_segmenter(second, device)

    def ask(self, image: np.ndarray, texts: Sequence[str], details: bool) -> list[Prediction]:
        """As `OwnSizeAnswerer.ask`: the image is embedded once; details are `box` and the detector's `box_score`."""
        boxes = [self.detector.best_box(image, text) for text in texts]
        masks = self.segmenter.masks(image, torch.stack([box for box, _ in boxes]))
        shown = [{"box": box.numpy(), "box_score": score} if details else {} for box, score in boxes]
        return [
            make_prediction(text, logits, extra, image) for text, logits, extra in zip(texts, masks, shown, strict=True)
        ]
