"""What hub models share: answers at the image's own size, and what is said of them."""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as hf_logging

from refseg.answers import AT_ONCE, About, Answer, Answerer
from refseg.fields import shown
from refseg.files import first_line, hash_of
from refseg.hub_models.find import Found, Part
from refseg.prediction import Prediction, mean_probability
from refseg.protocols import PROTOCOLS, Protocol

RULES = "1"  # changes with our own part of an answer: preprocessing, choice of the box, rasterising


class OwnSizeAnswerer(Answerer):
    """A model whose masks are made at the image's own size, with log-odds or without.

    Args:
        found: The model's files.
        device: Where it computes.
    """

    gives_log_odds = True

    def __init__(self, found: Found, device: torch.device) -> None:
        self.found, self.device = found, device

    def __repr__(self) -> str:
        """One line: which model, and where it computes."""
        return f"{type(self).__name__}({self.found.name!r}, device={str(self.device)!r})"

    @cached_property
    def about(self) -> About:
        """What is said of the model; its files are hashed when this is first asked for."""
        return About(
            self.found.name, *identity_of(self.found), training_of(self.found), None, None, self.gives_log_odds
        )

    @abstractmethod
    def ask(self, image: np.ndarray, texts: Sequence[str], details: bool) -> list[Prediction]:
        """Answers the expressions about one image (H, W, 3) uint8."""

    @torch.inference_mode()
    def predict(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], details: bool = False
    ) -> list[list[Prediction]]:
        """As `Answerer.predict`, image by image.

        Raises:
            ValueError: The model's files do not fit each other.
        """
        found = []
        for image, texts in zip(images, expressions, strict=True):
            try:
                found.append(self.ask(image, texts, details))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a library raises for settings of another network
                asked = ", ".join(map(shown, texts[:3])) + (", ..." if len(texts) > 3 else "")
                raise ValueError(f"{self.found.name}: cannot answer {asked} ({first_line(error)})") from error
        return found

    def check_protocol(self, protocol: Protocol) -> None:
        """Refuses what needs log-odds at a network's size, and a threshold where there are none.

        Raises:
            ValueError: Names the protocol and the model.
        """
        if not _at_own_size(protocol):
            others = ", ".join(name for name, known in PROTOCOLS.items() if _at_own_size(known))
            raise ValueError(f"protocol {protocol.name!r}: needs log-odds at a network's size, and {self.found.name} "
                             f"answers at the image's own; {others} are accepted")  # fmt: skip
        if not self.gives_log_odds and protocol.threshold != 0.5:
            raise ValueError(f"protocol {protocol.name!r}: has the threshold {protocol.threshold:g}, and "
                             f"{self.found.name} gives masks without log-odds; 0.5 is accepted")  # fmt: skip

    def answers(
        self,
        images: Sequence[np.ndarray],
        expressions: Sequence[Sequence[str]],
        protocol: Protocol,
        at_once: int = AT_ONCE,
    ) -> Iterator[Answer]:
        """As `Answerer.answers`; `at_once` has no effect."""
        self.check_protocol(protocol)
        for image, texts in zip(images, expressions, strict=True):
            found = self.predict([image], [texts])[0]
            masks = [_mask_of(prediction, protocol) for prediction in found]
            scores = [
                prediction.score if prediction.logits is None else mean_probability(prediction.logits, mask)
                for prediction, mask in zip(found, masks, strict=True)
            ]
            yield Answer(np.stack(masks), scores, None)


def _at_own_size(protocol: Protocol) -> bool:
    """Whether a protocol's masks can be made of log-odds at the image's own size."""
    return (protocol.resolution, protocol.steps, protocol.resized) == ("original", "direct", "logits")


def _mask_of(prediction: Prediction, protocol: Protocol) -> np.ndarray:
    if prediction.logits is None:
        return prediction.mask
    cut = np.log(protocol.threshold / (1 - protocol.threshold))
    return prediction.logits > cut if protocol.comparison == ">" else prediction.logits >= cut


def identity_of(found: Found) -> tuple[str, str]:
    """Hashes of the weights of all parts, and of all that decides an answer."""
    weights, everything = hashlib.sha256(), hashlib.sha256(f"rules {RULES}\n".encode())
    for part in found.parts:
        for file in sorted(part.folder.glob("*")):
            if file.suffix in (".json", ".txt", ".safetensors", ".bin"):
                line = f"{file.name} {_hash(file)}\n".encode()
                everything.update(line)
                if file.suffix in (".safetensors", ".bin"):
                    weights.update(line)
    return weights.hexdigest(), everything.hexdigest()


def _hash(file: Path) -> str:
    """The SHA-256 of a file; the hub's cache names large files by it."""
    target = file.resolve()
    cached = target.parent.name == "blobs" and len(target.name) == 64
    return target.name if cached else hash_of(file)


def training_of(found: Found) -> dict[str, Any]:
    """What is known of how it was trained."""
    told = found.about.trained_on if found.about is not None else "unknown"
    return {"data": told, "source": " + ".join(part.name for part in found.parts)}


def warn_of_cut(text: str, limit: int) -> None:
    """Says that the end of an expression is not read."""
    warnings.warn(f"expression {shown(text)} is longer than the {limit} tokens this model reads: cut", stacklevel=2)


def loaded(part: Part, kind: Any, device: torch.device) -> Any:
    """A network of transformers, from the files of a part, in evaluation.

    Raises:
        ValueError: They are damaged or not of that kind.
    """
    bars, loud = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity(hf_logging.CRITICAL)  # what is wrong is said below, in one line
    try:
        network, told = kind.from_pretrained(part.folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # transformers raises many kinds
        raise ValueError(f"{part.folder}: not a {part.kind} ({first_line(error)})") from error
    finally:
        hf_logging.set_verbosity(loud)
        if bars:
            hf_logging.enable_progress_bar()
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"{part.folder}: weights are missing, the first {missing[0]}; a whole {part.kind} is accepted")
    return network.to(device).eval()


def processor_of(part: Part, kind: Any) -> Any:
    """An image processor or tokenizer of transformers, from the files of a part.

    Raises:
        ValueError: They are missing or damaged.
    """
    try:
        return kind.from_pretrained(part.folder, local_files_only=True)
    except Exception as error:
        raise ValueError(f"{part.folder}: no {kind.__name__} can be read there ({first_line(error)})") from error
