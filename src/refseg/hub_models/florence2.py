"""Florence-2 (Xiao et al., CVPR 2024): an image and a task in words go in, a sequence of places comes out.

Its answer to an expression is a list of polygons in location tokens, which are rasterised here by the rules for COCO's
polygons. There is no probability in it, and so no score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, Florence2ForConditionalGeneration, Florence2Processor

from refseg.data.formats.outlines import fill_outline
from refseg.hub_models.base import OwnSizeAnswerer, loaded, processor_of, warn_of_cut
from refseg.hub_models.find import Found
from refseg.prediction import Prediction

TASK = "<REFERRING_EXPRESSION_SEGMENTATION>"
PLACES = 1000  # in each direction
LONGEST = 1024  # tokens of an answer; a polygon of the training data has up to some hundred


class Florence2(OwnSizeAnswerer):
    """Florence-2, asked for the mask of an expression; see the module's first lines."""

    gives_log_odds = False

    def __init__(self, found: Found, device: torch.device) -> None:
        super().__init__(found, device)
        part = found.parts[0]
        images, words = processor_of(part, CLIPImageProcessorPil), processor_of(part, AutoTokenizer)
        told: dict[str, Any] = Florence2Processor.get_processor_dict(part.folder, local_files_only=True)[0]
        self.processor: Any = Florence2Processor(images, words, told.get("num_additional_image_tokens", 0))
        self.network = loaded(part, Florence2ForConditionalGeneration, device)
        self.network.generation_config.max_length = None  # it would only be warned that ours is another
        self.longest = min(LONGEST, self.network.config.text_config.max_position_embeddings)

    def readable(self, text: str) -> str:
        """An expression as plain words, cut where the network has no more positions for it."""
        words = self.processor.tokenizer
        around = len(words(self.processor._construct_prompts(TASK)[0])["input_ids"])
        limit = self.network.config.text_config.max_position_embeddings - self.processor.num_image_tokens - around - 2
        ids = words(plain(text), add_special_tokens=False)["input_ids"]
        if len(ids) <= limit:
            return plain(text)
        warn_of_cut(text, limit)
        return str(words.decode(ids[:limit]))

    def ask(self, image: np.ndarray, texts: Sequence[str], details: bool) -> list[Prediction]:
        """As `OwnSizeAnswerer.ask`, one expression after another; details are `polygons`."""
        found = []
        for text in texts:
            asked = self.processor(images=image, text=TASK + self.readable(text), return_tensors="pt").to(self.device)
            sequence = self.network.generate(**asked, max_new_tokens=self.longest - 1, num_beams=3, do_sample=False)
            answer = self.processor.batch_decode(sequence, skip_special_tokens=False)[0]
            outlines = outlines_of(answer, (image.shape[0], image.shape[1]))
            shown = {"polygons": outlines} if details else {}
            found.append(Prediction(text, draw_outlines(outlines, image.shape[:2]), None, None, shown, image))
        return found


def plain(text: str) -> str:
    """An expression without anything that is a command to the model, as `<OCR>` or `<loc_5>`: the brackets go."""
    return re.sub(r"</?(\w*)>", r"\1", text)


def outlines_of(answer: str, size: tuple[int, int]) -> list[np.ndarray]:
    """The polygons of an answer: every unbroken run of places, which are x and y in turn.

    A place is one of a thousand equal parts of the width or height, and stands for its middle.

    Args:
        answer: As decoded, with `<loc_0>` to `<loc_999>`; anything else ends a polygon.
        size: (H, W) of the image.

    Returns:
        Arrays (N, 2) of (x, y) in pixels; a run of fewer than three points is none, a place without its partner is left
        out.
    """
    found = []
    for run in re.findall(r"(?:<loc_\d{1,3}>)+", answer):
        places = np.array([int(place) for place in re.findall(r"\d+", run)], dtype=float)
        points = (places[: len(places) // 2 * 2].reshape(-1, 2) + 0.5) * (size[1] / PLACES, size[0] / PLACES)
        if len(points) >= 3:
            found.append(points)
    return found


def draw_outlines(outlines: Sequence[np.ndarray], size: Sequence[int]) -> np.ndarray:
    """(H, W) bool of the pixels inside any of some polygons (N, 2)."""
    mask = np.zeros(tuple(size), dtype=bool)
    for points in outlines:
        mask |= fill_outline(points, (size[0], size[1]))
    return mask
