"""Image and sentences in, masks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from refseg.answers import AT_ONCE, About, Answer, Answerer, NetworkAnswerer, answer_of, make_prediction, words_read
from refseg.device import pick_device
from refseg.export import find_export, load_export
from refseg.hub_models import Found, find_hub_model
from refseg.prediction import Prediction
from refseg.protocols import Protocol
from refseg.types import ImageFeatures, Output
from refseg.weights.folders import DEFAULT_MODEL

if TYPE_CHECKING:  # torch is imported when a model needs it: an export does not
    import torch
    from torch import Tensor

    from refseg.weights.store import Model


class Predictor(NetworkAnswerer):
    """Answers expressions about images with one model.

    Several expressions about one image are answered together, and the image is encoded once, also for the next call
    about it. It answers with the weights that the model had when it was made.
    """

    def __init__(self, model: Model, device: str | torch.device | None = None, precision: str = "auto") -> None:
        """Takes a loaded model.

        Args:
            model: Who answers; its network goes to the device.
            device: CUDA where there is one by default.
            precision: "fp32", "bf16", "int8", or "auto" for `refseg.fast.choice.choose_precision`'s choice.

        Raises:
            ValueError: There is no such device, or it does not compute in that precision.
        """
        from refseg.fast.choice import answers_alone, choose_precision
        from refseg.fast.prepare import prepared

        self.model = model
        self.device = pick_device(device)
        network = model.network.to(self.device).eval()
        self.precision = choose_precision(precision, network, self.device)
        self.network = prepared(network, self.precision.name) if self.device.type == "cpu" else network
        self._alone = answers_alone(network, self.device)
        self._kept: tuple[Tensor, ImageFeatures] | None = None  # the last single image and what was made of it

    def __repr__(self) -> str:
        """One line: which model, and where it computes."""
        height, width = self.model.input.size
        about = f"method={self.model.method!r}, input={height}x{width}, device={str(self.device)!r}"
        about += f", precision={self.precision.name!r}"
        return f"Predictor({self.model.name!r}, {about})"

    @property
    def about(self) -> About:
        """What is said of the model beside its answers."""
        model = self.model
        words, precision = words_read(model.training, model.tokenizer), self.precision.name
        identity = model.identity if precision == "fp32" or not model.identity else f"{model.identity}:{precision}"
        return About(model.name, model.sha256, identity, model.training, model.input, words, precision=precision)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | Found = DEFAULT_MODEL,
        device: str | torch.device | None = None,
        precision: str | None = "auto",
    ) -> Answerer:
        """Loads a packaged model, a model folder, or one from the Hugging Face hub, and returns what answers with it.

        Args:
            name: A packaged name, the folder of a model, run or export, `user/name` on the hub, or one of
                `refseg.hub_models.CATALOGUE`, as `florence-2-base`; or what `find_hub_model` found of one.
            device: CUDA where there is one by default.
            precision: As for `Predictor`; an export has its own, and hub models but CLIPSeg answer in fp32. None is
                fp32, or what an export has.

        Returns:
            A `Predictor`, or what fits a model of another kind.

        Raises:
            ValueError: There is no such model, or it is damaged, or does not compute in that precision.
        """
        from refseg.fast.choice import check_precision

        if precision is not None:
            check_precision(precision)
        if not isinstance(name, Found) and (exported := find_export(name)) is not None:
            return with_own_precision(load_export(exported, device), precision)
        found = name if isinstance(name, Found) else find_hub_model(name)
        from refseg.hub_models.load import load_hub_model
        from refseg.weights.store import Model, load_model

        model = load_model(cast(str, name)) if found is None else load_hub_model(found, pick_device(device))
        if isinstance(model, Model):
            return cls(model, device, precision or "fp32")
        return with_own_precision(model, precision)

    def predict(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], details: bool = False
    ) -> list[list[Prediction]]:
        """As `Answerer.predict`; every image is encoded once."""
        self.warn_of_cut(expressions)
        shown, logits = self.answer(images, expressions, details)
        found: list[list[Prediction]] = []
        number = 0
        for image, texts, own in zip(images, expressions, logits, strict=True):
            found.append([])
            for text, each in zip(texts, own, strict=True):
                extra = {name: maps[number].float().cpu().numpy() for name, maps in shown.items()}
                found[-1].append(make_prediction(text, each, extra, image))
                number += 1
        return found

    def cut(self, expressions: Sequence[str]) -> tuple[Sequence[int], int]:
        """As `NetworkAnswerer.cut`."""
        limit = self.model.input.max_tokens
        return self.model.tokenizer(list(expressions), limit).cut, limit

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
        from refseg.data.transforms import logits_to_image

        shown, logits = self.network_logits(images, expressions, details)
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return shown, [logits_to_image(x, size, self.model.input) for x, size in zip(logits, sizes, strict=True)]

    def answers(
        self,
        images: Sequence[np.ndarray],
        expressions: Sequence[Sequence[str]],
        protocol: Protocol,
        at_once: int = AT_ONCE,
    ) -> Iterator[Answer]:
        """The same as masks of a protocol, one image after another; see `refseg.answers.Answerer`."""
        _, maps = self.network_logits(images, expressions, at_once=at_once)
        for image, logits in zip(images, maps, strict=True):
            yield answer_of(logits, (image.shape[0], image.shape[1]), self.model.input, protocol)

    def network_logits(
        self,
        images: Sequence[np.ndarray],
        expressions: Sequence[Sequence[str]],
        details: bool = False,
        at_once: int = AT_ONCE,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The same with the logits (T_b, 1, h, w) as the network gives them, for whoever resizes them otherwise.

        At most `at_once` expressions go through the network in one pass, of all images together; see
        `refseg.fast.choice.answers_alone`.

        Raises:
            ValueError: `at_once` is less than 1.
        """
        if at_once < 1:
            raise ValueError(f"{at_once} expressions at once: 1 or more is accepted")
        import torch

        half = self.device.type == "cuda" and self.precision.name == "bf16"
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            return self._network_logits(images, expressions, details, at_once)

    def _network_logits(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], details: bool, at_once: int
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        import torch

        from refseg.data.transforms import images_to_pixels

        config = self.model.input
        flat = [text for texts in expressions for text in texts]
        tokens = self.model.tokenizer(flat, config.max_tokens)
        pixels = images_to_pixels(images, config, self.device)
        index = torch.tensor([b for b, texts in enumerate(expressions) for _ in texts], device=self.device)
        encoded = self._encode(pixels)
        at_once = 1 if self._alone else at_once
        logits, shown = [], []
        for part in torch.arange(len(flat)).split(at_once):  # bounds the memory, however many expressions there are
            ids, mask = tokens.ids[part].to(self.device), tokens.mask[part].to(self.device)
            if not details:  # those of all expressions have one length
                longest = int(mask.sum(1).max())
                ids, mask = ids[:, :longest], mask[:, :longest]
            output: Output = self.network(encoded, self.network.encode_text(ids, mask), index[part], details=details)
            logits.append(output.logits)
            shown.append(output.details)
        every = {name: torch.cat([some[name] for some in shown]) for name in shown[0]}
        return every, list(torch.cat(logits).split([len(texts) for texts in expressions]))

    def _encode(self, pixels: Tensor) -> ImageFeatures:
        """What the network makes of (B, 3, H, W) pixels; of a single image it is kept for the next call about it."""
        import torch

        kept = self._kept
        if kept is not None and kept[0].shape == pixels.shape and torch.equal(kept[0], pixels):
            return kept[1]
        encoded = self.network.encode_image(pixels)
        if len(pixels) == 1:
            self._kept = pixels, encoded
        return encoded


def with_own_precision(answerer: Answerer, precision: str | None) -> Answerer:
    """A model that answers in one precision, if that is what is asked for.

    Raises:
        ValueError: Another one is.
    """
    own = answerer.about.precision
    if precision not in (None, "auto", own):
        raise ValueError(f"precision {precision!r}: {answerer.about.name} answers in {own}; auto or {own} is accepted")
    return answerer
