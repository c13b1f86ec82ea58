"""Image and sentences in, masks out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refseg.data.expressions import check_expression
from refseg.data.formats.images import read_image
from refseg.data.transforms import image_to_pixels, logits_to_image
from refseg.prediction import Prediction, mean_probability
from refseg.types import Output
from refseg.weights.folders import DEFAULT_MODEL
from refseg.weights.store import Model, load_model

AT_ONCE = 64  # expressions in one pass of the network
ImageLike = str | Path | bytes | BinaryIO | Image.Image | np.ndarray


class Predictor:
    """Answers expressions about images with one model.

    Several expressions about one image are answered together, and the image is encoded once.
    """

    def __init__(self, model: Model, device: str | torch.device | None = None) -> None:
        """Takes a loaded model; `device` is CUDA where there is one, unless given.

        Raises:
            ValueError: There is no such device.
        """
        self.model = model
        self.device = pick_device(device)
        self.network = model.network.to(self.device).eval()

    def __repr__(self) -> str:
        """One line: which model, and where it computes."""
        height, width = self.model.input.size
        about = f"method={self.model.method!r}, input={height}x{width}, device={str(self.device)!r}"
        return f"Predictor({self.model.name!r}, {about})"

    @classmethod
    def from_pretrained(cls, name: str | Path = DEFAULT_MODEL, device: str | torch.device | None = None) -> Predictor:
        """Loads a packaged model, a model folder, or `user/name` from the Hugging Face hub.

        Raises:
            ValueError: There is no such model, or it is damaged.
        """
        return cls(load_model(name), device)

    @overload
    def __call__(self, image: ImageLike, expression: str, *, details: bool = False) -> Prediction: ...

    @overload
    def __call__(
        self, image: ImageLike, expression: list[str] | tuple[str, ...], *, details: bool = False
    ) -> list[Prediction]: ...

    def __call__(
        self, image: ImageLike, expression: str | list[str] | tuple[str, ...], *, details: bool = False
    ) -> Prediction | list[Prediction]:
        """Segments what each expression refers to.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image, or an array (H, W, 3) uint8 in RGB; other
                modes are converted.
            expression: One expression, or a list of them.
            details: Also return the method's maps (`Prediction.details`, arrays at network resolution).

        Returns:
            One prediction, or one per expression of a list.

        Raises:
            ValueError: The image cannot be read, or an expression is empty.
        """
        pixels = read_image(image)
        expressions = list(expression) if isinstance(expression, list | tuple) else [expression]
        for text in expressions:
            check_expression(text)
        if not expressions:
            return []
        self._warn_of_cut(expressions)
        shown, logits = self.answer([pixels], [expressions], details)
        found = [
            make_prediction(text, logits[0][i], {k: v[i].float().cpu().numpy() for k, v in shown.items()}, pixels)
            for i, text in enumerate(expressions)
        ]
        return found[0] if isinstance(expression, str) else found

    def batch(
        self, images: Sequence[ImageLike], expressions: Sequence[str | Sequence[str]], images_at_once: int = 8
    ) -> list[list[Prediction]]:
        """Segments what expressions refer to in several images, some of which go through the network together.

        Args:
            images: N images, as for a single call.
            expressions: For each of them an expression, or several.
            images_at_once: How many images the network sees in one pass; fewer need less memory.

        Returns:
            N lists with a prediction per expression of the image.

        Raises:
            ValueError: There are not as many of both, an image cannot be read, or an expression is empty.
        """
        images = list(images)
        if isinstance(expressions, str) or len(images) != len(expressions):
            given = "one expression" if isinstance(expressions, str) else f"expressions for {len(expressions)}"
            raise ValueError(f"{len(images)} images and {given}: for every image an expression, or a list of them, is "
                             "accepted")  # fmt: skip
        if type(images_at_once) is not int or images_at_once < 1:
            raise ValueError(f"{images_at_once} images at once: 1 or more is accepted")
        for texts in expressions:
            if not isinstance(texts, Sequence):
                raise ValueError(f"expressions {texts!r}: one expression, or a list of them, is accepted for an image")
        asked = [[texts] if isinstance(texts, str) else list(texts) for texts in expressions]
        for text in (text for texts in asked for text in texts):
            check_expression(text)
        self._warn_of_cut([text for texts in asked for text in texts])
        found: list[list[Prediction]] = [[] for _ in images]
        wanted = [number for number, texts in enumerate(asked) if texts]
        for first in range(0, len(wanted), images_at_once):
            numbers = wanted[first : first + images_at_once]
            pixels = [read_image(images[number]) for number in numbers]
            _, logits = self.answer(pixels, [asked[number] for number in numbers])
            for number, image, maps in zip(numbers, pixels, logits, strict=True):
                pairs = zip(asked[number], maps, strict=True)
                found[number] = [make_prediction(text, each, image=image) for text, each in pairs]
        return found

    def _warn_of_cut(self, expressions: list[str]) -> None:
        limit = self.model.input.max_tokens
        for row in self.model.tokenizer(expressions, limit).cut if expressions else ():
            start = expressions[row] if len(expressions[row]) <= 60 else expressions[row][:57] + "..."
            message = f"expression {start!r} is longer than the {limit} tokens this model reads: cut"
            warnings.warn(message, stacklevel=3)

    def answer(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], details: bool = False
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Answers all expressions of several images; every image is encoded once.

        Args:
            images: B arrays (H_b, W_b, 3) uint8.
            expressions: B lists of expressions, each with at least one.
            details: Passed to the method.

        Returns:
            The method's details of all T expressions, and per image the logits (T_b, H_b, W_b) at its own size.
        """
        shown, logits = self.network_logits(images, expressions, details)
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return shown, [logits_to_image(x, size, self.model.input) for x, size in zip(logits, sizes, strict=True)]

    @torch.inference_mode()
    def network_logits(
        self,
        images: Sequence[np.ndarray],
        expressions: Sequence[Sequence[str]],
        details: bool = False,
        at_once: int = AT_ONCE,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The same with the logits (T_b, 1, h, w) as the network gives them, for whoever resizes them otherwise.

        `at_once` expressions go through the network in one pass, of all images together; fewer need less memory.

        Raises:
            ValueError: `at_once` is less than 1.
        """
        if at_once < 1:
            raise ValueError(f"{at_once} expressions at once: 1 or more is accepted")
        config = self.model.input
        flat = [text for texts in expressions for text in texts]
        tokens = self.model.tokenizer(flat, config.max_tokens)
        pixels = torch.stack([image_to_pixels(image, config) for image in images]).to(self.device)
        index = torch.tensor([b for b, texts in enumerate(expressions) for _ in texts], device=self.device)
        encoded = self.network.encode_image(pixels)
        logits, shown = [], []
        for part in torch.arange(len(flat)).split(at_once):  # bounds the memory, however many expressions there are
            ids, mask = tokens.ids[part].to(self.device), tokens.mask[part].to(self.device)
            output: Output = self.network(encoded, self.network.encode_text(ids, mask), index[part], details=details)
            logits.append(output.logits)
            shown.append(output.details)
        every = {name: torch.cat([some[name] for some in shown]) for name in shown[0]}
        return every, list(torch.cat(logits).split([len(texts) for texts in expressions]))


def pick_device(name: str | torch.device | None) -> torch.device:
    """The device of that name, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: There is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device {str(name)!r}: not available; cpu, cuda, cuda:N or mps is accepted") from error
    return device


def make_prediction(
    text: str, logits: Tensor, details: dict[str, np.ndarray] | None = None, image: np.ndarray | None = None
) -> Prediction:
    """(H, W) log-odds to a prediction with threshold 0.5."""
    values = logits.float().cpu().numpy()
    mask = values > 0
    return Prediction(text, mask, mean_probability(values, mask), values, details or {}, image)
