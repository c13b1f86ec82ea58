"""Asks a model for the answer to an expression, to the same without each word, and for what it shows of its way."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from refseg.answers import Answerer, ImageLike, make_prediction
from refseg.data.expressions import check_expression
from refseg.data.formats.images import read_image
from refseg.data.transforms import logits_to_image
from refseg.explain.explanation import Explanation
from refseg.explain.importance import importance_of
from refseg.explain.panels import Panel, panels_of
from refseg.explain.words import Word, groups_of, without_each, words_of
from refseg.fields import shown
from refseg.prediction import Prediction
from refseg.predictor import Predictor
from refseg.weights.folders import DEFAULT_MODEL

AT_ONCE = 4  # expressions that a model whose inside is not known is asked in one call


def explain(
    image: ImageLike,
    expression: str,
    model: str | Path | Answerer = DEFAULT_MODEL,
    device: str | torch.device | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> Explanation:
    """Explains one answer: what every word changes, and what the method shows of its way.

    The image is encoded once, for the expression and for all that it is without one word.

    Args:
        image: A path, the bytes of a file, an open file, a PIL image, or an array (H, W, 3) uint8 in RGB.
        expression: What is asked.
        model: What `Predictor.from_pretrained` takes, or what it returned.
        device: Where a model that is loaded computes; CUDA where there is one by default.
        go_on: Called before every word; what it raises ends the work.

    Raises:
        ValueError: The image cannot be read, the expression is empty or too long, there is no such model, or a device
            is given for a model that is loaded already.
    """
    pixels = read_image(image)
    check_expression(expression)
    if isinstance(model, Answerer) and device is not None:
        raise ValueError(f"device {str(device)!r} with a model that is loaded: its own device is used; leave it out")
    answerer = model if isinstance(model, Answerer) else Predictor.from_pretrained(model, device)
    return (
        _of_method(answerer, pixels, expression, go_on)
        if isinstance(answerer, Predictor)
        else _of_other(answerer, pixels, expression, go_on)
    )


def _of_method(predictor: Predictor, pixels: np.ndarray, expression: str, go_on: Callable[[], None]) -> Explanation:
    """With one of our networks, whose tokens and inside are known."""
    model = predictor.model
    every = model.tokenizer.pieces(expression)
    kept = model.tokenizer.pieces(expression, model.input.max_tokens)
    if len(kept) < len(every):
        warnings.warn(f"expression {shown(expression)} is longer than the {model.input.max_tokens} tokens this model "
                      "reads: cut", stacklevel=4)  # fmt: skip
    words = words_of(expression, every, kept)
    without = without_each(words)
    texts = [expression, *(text for text in without if text is not None)]
    details, (logits,) = predictor.network_logits([pixels], [texts], details=True)
    found = {name: maps[0].float().cpu().numpy() for name, maps in details.items()}

    def answers() -> Iterator[Prediction]:
        for number, text in enumerate(texts):  # one after another: at the image's size they are large
            go_on()
            own = logits_to_image(logits[number][None], (pixels.shape[0], pixels.shape[1]), model.input)[0]
            yield make_prediction(text, own, {} if number else found, pixels)

    panels = panels_of(model.method, cast(Any, model.network).config, found, groups_of(words, kept))
    return _explanation(predictor, pixels, words, without, answers(), panels, model.method)


def _of_other(answerer: Answerer, pixels: np.ndarray, expression: str, go_on: Callable[[], None]) -> Explanation:
    """With a model whose inside is not known."""
    words = words_of(expression, None, None)
    without = without_each(words)
    texts = [expression, *(text for text in without if text is not None)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ((whole,),) = answerer.predict([pixels], [[expression]])
    for warning in said:
        warnings.warn(warning.message, stacklevel=4)

    def answers() -> Iterator[Prediction]:
        yield whole
        for first in range(1, len(texts), AT_ONCE):  # a few at a time: they are of the image's size
            go_on()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # without a word they would say the same again
                (found,) = answerer.predict([pixels], [texts[first : first + AT_ONCE]])
            yield from found

    return _explanation(answerer, pixels, words, without, answers(), (), "")


def _explanation(
    answerer: Answerer,
    pixels: np.ndarray,
    words: list[Word],
    without: list[str | None],
    answers: Iterator[Prediction],
    panels: tuple[Panel, ...],
    method: str,
) -> Explanation:
    whole = next(answers)
    importance = importance_of(whole, (None if text is None else next(answers) for text in without))
    about = answerer.about
    asked = hashlib.sha256(f"{pixels.shape} {about.name} {about.identity} {whole.expression}".encode())
    asked.update(np.ascontiguousarray(pixels).data)
    return Explanation(about.name, method, whole, tuple(words), importance, panels, about.input, asked.hexdigest())
