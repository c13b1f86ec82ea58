"""What the commands need of a model, whoever made it: images and expressions in, masks out."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np
from PIL import Image

from refseg.data.expressions import check_expression
from refseg.data.formats.images import read_image
from refseg.data.inputs import InputConfig
from refseg.data.shapes import SETS
from refseg.prediction import Prediction, mean_probability
from refseg.protocols import Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from refseg.encoders.tokenizer import Tokenizer

AT_ONCE = 64  # expressions in one pass of a network
ImageLike = str | Path | bytes | BinaryIO | Image.Image | np.ndarray
FLOATS = 2**23  # numbers of one full-size map, or of several small ones: 32 MiB


@dataclass(frozen=True)
class About:
    """What is said of a model beside its answers.

    Attributes:
        name: Its name, for messages.
        sha256: Hash of its weights; empty without a file.
        identity: Hash of all that decides an answer, the preprocessing among it; empty without a file.
        training: How it was trained, as far as known: `data`, `loss` and others.
        input: What its network sees; None where answers are made at the image's own size alone.
        words: The words it has read; None where it reads any.
        log_odds: Whether its answers have log-odds, and so other thresholds than 0.5.
        precision: In which its large products are made: "fp32", "bf16" or "int8".
    """

    name: str
    sha256: str
    identity: str
    training: Mapping[str, Any]
    input: InputConfig | None
    words: Collection[str] | None
    log_odds: bool = True
    precision: str = "fp32"

    def unread(self, expressions: Sequence[str]) -> str:
        """Which words of expressions a model that learned from drawn shapes alone has never read; empty if none."""
        if self.words is None:
            return ""
        said = dict.fromkeys(word for text in expressions for word in re.findall(r"[^\W_]+", text.lower()))
        missing = [word for word in said if word not in self.words]
        if not missing:
            return ""
        some = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        return f"never read: {some}; {self.name} knows drawn shapes only"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says to the T expressions about an image.

    Attributes:
        masks: (T, H, W) bool at the size of the protocol.
        scores: T mean foreground probabilities over the masks, 0 for an empty one; None where a model has none.
        logits: (T, 1, h, w) log-odds as the network gave them; None where it gives none at its own size.
    """

    masks: np.ndarray
    scores: list[float | None]
    logits: Tensor | None


class Answerer(ABC):
    """A model that `segment`, `eval`, `compare` and whatever else can use.

    `refseg.predictor.Predictor` is one for the six methods, `refseg.hub_models` has others; who has a model of another
    kind writes the four methods that are abstract here.
    """

    @property
    @abstractmethod
    def about(self) -> About:
        """What is said of it."""

    @property
    def together(self) -> bool:
        """Whether several images go through it in one pass, faster than one after another."""
        return False

    def notes(self, expressions: Sequence[str]) -> list[str]:
        """What whoever asks with these expressions should know before: words and ends that are not read."""
        unread = self.about.unread(expressions)
        return [unread] if unread else []

    @abstractmethod
    def predict(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], details: bool = False
    ) -> list[list[Prediction]]:
        """Segments what expressions refer to: per image a prediction for each of its expressions.

        Args:
            images: B arrays (H_b, W_b, 3) uint8.
            expressions: B lists of T_b expressions, each with at least one, which were looked at.
            details: Also return what can be shown of the way there.
        """

    @abstractmethod
    def check_protocol(self, protocol: Protocol) -> None:
        """Refuses a protocol that needs what the model does not give.

        Raises:
            ValueError: Names both, and what is accepted.
        """

    @abstractmethod
    def answers(
        self,
        images: Sequence[np.ndarray],
        expressions: Sequence[Sequence[str]],
        protocol: Protocol,
        at_once: int = AT_ONCE,
    ) -> Iterator[Answer]:
        """Answers the expressions about several images as a protocol wants it, one image after another.

        Args:
            images: As in `predict`.
            expressions: As in `predict`.
            protocol: How log-odds become masks; one that `check_protocol` lets through.
            at_once: How many expressions go through a network in one pass, where that can be chosen.
        """

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
            details: Also return what can be shown of the way there: a method's maps as arrays at network resolution
                (`Prediction.details`).

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
        found = self.predict([pixels], [expressions], details)[0]
        return found[0] if isinstance(expression, str) else found

    def batch(
        self, images: Sequence[ImageLike], expressions: Sequence[str | Sequence[str]], images_at_once: int = 8
    ) -> list[list[Prediction]]:
        """Segments what expressions refer to in several images, some of which may go through a network together.

        Args:
            images: N images, as for a single call.
            expressions: For each of them an expression, or several.
            images_at_once: How many images are held, and seen by a network in one pass; fewer need less memory.

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
        found: list[list[Prediction]] = [[] for _ in images]
        wanted = [number for number, texts in enumerate(asked) if texts]
        for first in range(0, len(wanted), images_at_once):
            numbers = wanted[first : first + images_at_once]
            pixels = [read_image(images[number]) for number in numbers]
            answered = self.predict(pixels, [asked[number] for number in numbers])
            for number, predictions in zip(numbers, answered, strict=True):
                found[number] = predictions
        return found


class NetworkAnswerer(Answerer):
    """A network of one input size behind a tokenizer, in torch or as an export."""

    @abstractmethod
    def cut(self, expressions: Sequence[str]) -> tuple[Sequence[int], int]:
        """Numbers of the expressions that are longer than what is read, and how many tokens are read."""

    @property
    def together(self) -> bool:
        """Images of any size have one size for a network."""
        return True

    def notes(self, expressions: Sequence[str]) -> list[str]:
        """As `Answerer.notes`, with the expressions that are not read to their end."""
        return [*super().notes(expressions), *self._cut_notes(expressions)]

    def warn_of_cut(self, expressions: Sequence[Sequence[str]]) -> None:
        """Warns whoever called `predict` of every expression that is not read to its end."""
        for note in self._cut_notes([text for texts in expressions for text in texts]):
            warnings.warn(note, stacklevel=4)

    def _cut_notes(self, expressions: Sequence[str]) -> list[str]:
        if not expressions:
            return []
        found = []
        rows, limit = self.cut(expressions)
        for row in rows:
            start = expressions[row] if len(expressions[row]) <= 60 else expressions[row][:57] + "..."
            found.append(f"expression {start!r} is longer than the {limit} tokens this model reads: cut")
        return found

    def check_protocol(self, protocol: Protocol) -> None:
        """Every protocol can be made of log-odds at network size."""


def make_prediction(
    text: str, logits: Tensor | np.ndarray, details: dict[str, Any] | None = None, image: np.ndarray | None = None
) -> Prediction:
    """(H, W) log-odds to a prediction with threshold 0.5."""
    values = logits if isinstance(logits, np.ndarray) else logits.float().cpu().numpy()
    mask = values > 0
    return Prediction(text, mask, mean_probability(values, mask), values, details or {}, image)


def answer_of(logits: Tensor, own: tuple[int, int], config: InputConfig, protocol: Protocol) -> Answer:
    """(T, 1, h, w) log-odds of an image of `own` size (H, W) as masks of a protocol.

    Maps of full size are made of a few expressions at a time: as floats they take four times the masks, and several of
    them are needed for each.
    """
    from refseg.data.transforms import logits_to_masks

    height, width = config.size if protocol.resolution == "network" else own
    masks: list[np.ndarray] = []
    scores: list[float | None] = []
    for part in logits.split(max(1, FLOATS // (height * width))):
        found, probabilities = logits_to_masks(part, own, config, protocol)
        inside = (probabilities * found).flatten(1).sum(1) / found.flatten(1).sum(1).clamp(min=1)  # (T,)
        masks.append(found.cpu().numpy())
        scores += inside.tolist()
    return Answer(np.concatenate(masks), scores, logits)


def words_read(training: Mapping[str, Any], tokenizer: Tokenizer) -> Collection[str] | None:
    """The words that a model has read, where they are those of its tokenizer: it learned from drawn shapes alone."""
    drawn = set(str(training.get("data", "")).split(" + ")) <= set(SETS)
    return tokenizer.vocabulary if drawn else None
