"""Rows answered: a mask for every expression, or what is wrong with it.

What is said of a mask is the same here and in `refseg segment`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from refseg.annotate.rows import Row
from refseg.data.formats.images import read_image
from refseg.data.formats.rle import encode_rle
from refseg.files import first_line
from refseg.prediction import Prediction

if TYPE_CHECKING:
    from refseg.answers import About, Answerer

IMAGES_AT_ONCE = 8  # in one pass of a network
PIXELS = 2**26  # of all masks of a pass; their log-odds are floats of full size: 256 MiB


def check_probability(threshold: float) -> None:
    """Refuses a threshold that is no probability.

    Raises:
        ValueError: It is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold {threshold}: a probability between 0 and 1 is accepted")


def check_threshold(about: About, threshold: float) -> None:
    """Refuses a threshold that is no probability, or that a model's answers do not have.

    Raises:
        ValueError: It is such a one.
    """
    check_probability(threshold)
    if not about.log_odds and threshold != 0.5:
        raise ValueError(f"threshold {threshold:g}: {about.name} gives masks without log-odds; 0.5 is accepted")


def at_threshold(prediction: Prediction, threshold: float) -> Prediction:
    """The same answer at a threshold."""
    return prediction if threshold == prediction.threshold else prediction.at(threshold)


def described(prediction: Prediction) -> dict[str, Any]:
    """What is written of an answer: `expression`, `score`, `box`, `area` and `rle`."""
    return {
        "expression": prediction.expression,
        "score": None if prediction.score is None else round(prediction.score, 6),
        "box": list(prediction.box) if prediction.box else None,
        "area": prediction.area,
        "rle": encode_rle(prediction.mask),
    }


@dataclass(frozen=True)
class _Seen:
    """A row whose image was read; `pixels` (H, W, 3) uint8, or None with the reason in `error`."""

    row: Row
    pixels: np.ndarray | None
    error: str
    warning: str


def answered(predictor: Answerer, rows: Iterable[Row], source: str, threshold: float = 0.5) -> Iterator[dict[str, Any]]:
    """Answers rows one after another, images of a model that takes several together.

    A row that cannot be answered says why, and the others are done.

    Args:
        predictor: Who answers.
        rows: What is asked.
        source: What the rows were read from, for the output.
        threshold: Probability above which a pixel is in the mask.

    Yields:
        For every expression of every row, in order, an object with `source`, `id`, `image`, `expression`, `score`,
        `box`, `area`, `rle`, `width`, `height`, `model`, `warning` and `error`. A row without an expression gives one.

    Raises:
        OSError: The device failed, and nothing can be answered any more.
    """
    about = predictor.about
    model = about.identity or about.sha256
    for group in _groups(rows, IMAGES_AT_ONCE if predictor.together else 1):
        found = iter(_predicted(predictor, [seen for seen in group if seen.pixels is not None]))
        for seen in group:
            if seen.pixels is None:
                yield from failed(seen.row, source, model, seen.error)
                continue
            answer = next(found)
            if isinstance(answer, str):
                yield from failed(seen.row, source, model, answer)
                continue
            height, width = seen.pixels.shape[:2]
            for prediction in answer:
                said = [seen.warning, *predictor.notes([prediction.expression])]
                yield _output(seen.row, source, model, {
                    **described(at_threshold(prediction, threshold)), "width": width, "height": height,
                    "warning": "; ".join(filter(None, said)) or None,
                })  # fmt: skip


def failed(row: Row, source: str, model: str, error: str) -> list[dict[str, Any]]:
    """What is written of a row without an answer: for each of its expressions, or once if it has none, the reason."""
    return [_output(row, source, model, {"expression": text, "error": error}) for text in row.expressions or [None]]


def _output(row: Row, source: str, model: str, found: dict[str, Any]) -> dict[str, Any]:
    output = {
        "source": source,
        "id": row.id,
        "image": row.name,
        "expression": None,
        "score": None,
        "box": None,
        "area": None,
        "rle": None,
        "width": None,
        "height": None,
        "model": model,
        "warning": None,
        "error": None,
    }
    output |= found  # fmt: skip
    # Names of files may hold bytes that are no text.
    return {name: _writable(value) if isinstance(value, str) else value for name, value in output.items()}


def _writable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _groups(rows: Iterable[Row], most: int) -> Iterator[list[_Seen]]:
    """Rows that go through a network together; one with many pixels and expressions goes alone, in several parts."""
    group: list[_Seen] = []
    filled = 0
    for seen in map(_look, rows):
        for part in _parts(seen):
            size = 0 if part.pixels is None else _mask_pixels(part)
            if group and (len(group) == most or filled + size > PIXELS):
                yield group
                group, filled = [], 0
            group.append(part)
            filled += size
    if group:
        yield group


def _parts(seen: _Seen) -> Iterator[_Seen]:
    """A row with no more expressions at a time than there is memory for."""
    texts = seen.row.expressions
    if seen.pixels is None or _mask_pixels(seen) <= PIXELS:
        yield seen
        return
    at_once = max(1, PIXELS // (seen.pixels.shape[0] * seen.pixels.shape[1]))
    for first in range(0, len(texts), at_once):
        yield replace(seen, row=replace(seen.row, expressions=texts[first : first + at_once]))


def _mask_pixels(seen: _Seen) -> int:
    assert seen.pixels is not None
    return seen.pixels.shape[0] * seen.pixels.shape[1] * len(seen.row.expressions)


def _look(row: Row) -> _Seen:
    """Reads the image of a row; whatever is wrong with it is said."""
    if row.problem:
        return _Seen(row, None, row.problem, "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            pixels, error = read_image(row.image), ""
        except Exception as problem:  # no image ends a job
            pixels, error = None, said_of(problem)
    told = [" ".join(str(each.message).split()) for each in caught if issubclass(each.category, UserWarning)]
    return _Seen(row, pixels, error, "; ".join(dict.fromkeys(told)))


def said_of(error: Exception) -> str:
    """What an error says, in one line; one that is not about the input with its class."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    told = first_line(error)
    return told if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {told}"


def _predicted(predictor: Answerer, group: list[_Seen]) -> list[list[Prediction] | str]:
    """The predictions of every row, or why there are none; rows that fail together are asked alone.

    Raises:
        OSError: The device failed.
    """
    if not group:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of expressions that are cut, which the output says
            images = [seen.pixels for seen in group if seen.pixels is not None]
            return list(predictor.predict(images, [seen.row.expressions for seen in group]))
    except Exception as error:
        if "CUDA error" in str(error):  # it stays so for the whole process
            raise OSError(f"the device failed ({first_line(error)}); what was written is kept") from error
        if len(group) == 1:
            return [said_of(error)]
    return [answer for seen in group for answer in _predicted(predictor, [seen])]
