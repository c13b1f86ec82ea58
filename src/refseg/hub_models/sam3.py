"""SAM 3 (2025): finds all instances of what a short phrase names. The best instance is the answer here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, Sam3Model

from refseg.answers import make_prediction
from refseg.data.transforms import InputConfig, images_to_pixels
from refseg.hub_models.base import OwnSizeAnswerer, loaded, processor_of, warn_of_cut
from refseg.hub_models.find import Found
from refseg.prediction import Prediction

HALF = (0.5, 0.5, 0.5)


class Sam3(OwnSizeAnswerer):
    """SAM 3; see the module's first line. Its own processor would need torchvision: squash, then -1 to 1."""

    def __init__(self, found: Found, device: torch.device) -> None:
        super().__init__(found, device)
        part = found.parts[0]
        self.words = processor_of(part, AutoTokenizer)
        self.model = loaded(part, Sam3Model, device)
        side = self.model.config.vision_config.backbone_config.image_size
        self.input = InputConfig((side, side), HALF, HALF, max_tokens=1)
        self.longest = self.model.config.text_config.max_position_embeddings

    def ask(self, image: np.ndarray, texts: Sequence[str], details: bool) -> list[Prediction]:
        """As `OwnSizeAnswerer.ask`: the image is encoded once; details are the instance's `instance_score`."""
        seen = self.model.get_vision_features(images_to_pixels([image], self.input, self.device))
        predictions = []
        for text in texts:
            if len(self.words(text)["input_ids"]) > self.longest:
                warn_of_cut(text, self.longest)
            asked = self.words([text], return_tensors="pt", padding="max_length", truncation=True,
                               max_length=self.longest).to(self.device)  # fmt: skip
            found = self.model(vision_embeds=seen, **asked)
            scores = found.pred_logits[0].sigmoid()
            if found.presence_logits is not None:
                scores = scores * found.presence_logits[0].sigmoid()
            best = int(scores.argmax())
            logits = F.interpolate(found.pred_masks[:, best, None].float(), image.shape[:2], mode="bilinear",
                                   align_corners=False)[0, 0]  # fmt: skip
            shown = {"instance_score": float(scores[best])} if details else {}
            predictions.append(make_prediction(text, logits, shown, image))
        return predictions
