"""What a model answered, before any protocol: 8-bit foreground probabilities, one file per image.

They are kept at the size of the network's own output, so that every protocol resizes them exactly as it resizes a fresh
answer. A probability is coded by its log-odds x, whose size decides where an outline runs between two pixels: a code is
asinh(x) in 255 equal steps from minus to plus the largest of the expression, so that steps are fine around 0 and
grow in proportion far from it. With half a step h, stored as `rounding`, x is off by at most
|x| (cosh h - 1) + sqrt(x^2 + 1) sinh h, which is about h sqrt(x^2 + 1), and a probability by at most 0.3 h. For
log-odds up to 75, h is 0.02. Where maps are resized bilinearly, weights are positive and sum to 1, so that the bound is
resized with them, and masks change only where the exact value is that near to the threshold. Bicubic weights amplify
it, at most 1.9 times in one step and 3.6 times in two.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from refseg.answers import Answer, answer_of
from refseg.data.questions import Question, Words, batches
from refseg.data.transforms import InputConfig
from refseg.fields import as_count, as_record, parse_json, read_text, shown
from refseg.files import first_line, write_beside, write_text_beside
from refseg.protocols import Protocol
from refseg.scoring.evaluation import score_answers
from refseg.scoring.metrics import Scores
from refseg.scoring.predictions import asks_for_more
from refseg.types import Samples

STEPS = 127


def encode_logits(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(T, 1, h, w) log-odds to codes (T, h, w) int8 and the largest asinh (T,) float32 of each expression."""
    values = np.arcsinh(logits[:, 0].float().cpu().numpy())
    largest = np.abs(values).max(axis=(1, 2), initial=0).astype(np.float32)
    scale = np.where(largest > 0, largest, 1)[:, None, None] / STEPS
    return np.rint(values / scale).astype(np.int8), largest


def decode_logits(codes: np.ndarray, largest: np.ndarray) -> Tensor:
    """The inverse, to within the rounding: (T, 1, h, w) log-odds."""
    return torch.from_numpy(np.sinh(codes.astype(np.float32) * (largest / STEPS)[:, None, None]))[:, None]


def rounding_of(largest: np.ndarray) -> float:
    """Half a step, the largest of some expressions."""
    return float(largest.max(initial=0)) / (2 * STEPS)


def _fits(place: Path, header: dict[str, Any]) -> bool:
    """Whether a folder's scores are those of the same question, or of a part of it."""
    try:
        there = parse_json(read_text(place), "the header")
    except ValueError:
        return False
    return there == header or (isinstance(there, dict) and asks_for_more(header, there))


def _check_scores(ids: Any, codes: Any, largest: Any) -> None:
    """Refuses arrays that `SavedScores.keep` does not write.

    Raises:
        ValueError: Names the first.
    """
    if not all(isinstance(array, np.ndarray) for array in (ids, codes, largest)):
        raise ValueError("sent_ids, codes or largest is no array")
    count = len(codes) if codes.ndim == 3 else -1
    for name, array, shape, kind in (("sent_ids", ids, (count,), "U"), ("largest", largest, (count,), "f"),
                                     ("codes", codes, codes.shape, "i")):  # fmt: skip
        if count < 0 or array.shape != shape or array.dtype.kind != kind:
            raise ValueError(f"{name} of shape {array.shape} and type {array.dtype}")
    if codes.dtype != np.int8 or not np.isfinite(largest).all() or (largest < 0).any() or not min(codes.shape[1:]):
        raise ValueError("codes or largest hold what no answer is")


class SavedScores:
    """A folder of saved scores.

    Args:
        folder: The folder.
        header: Written into a new folder; None reads one that is there.

    Raises:
        ValueError: The folder holds no saved scores.
    """

    def __init__(self, folder: Path, header: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.rounding = 0.0
        place = folder / "header.json"
        if header is not None:
            text = json.dumps(header, indent=1) + "\n"
            if not _fits(place, header) and (place.exists() or any(folder.glob("*.npz"))):
                raise ValueError(f"{folder}: holds the scores of another evaluation; a new folder is accepted")
            write_text_beside(place, text)
        try:
            self.header = as_record(parse_json(read_text(place), "the header"), "the header")
            (height, width), fit = self.header["input"]["size"], self.header["input"]["resize"]
            self.config = InputConfig.of_answers((as_count(height, "height"), as_count(width, "width")), fit)
            limit, words = self.header.get("limit"), self.header.get("words", "true")
            if (limit is not None and (type(limit) is not int or limit < 0)) or words not in typing.get_args(Words):
                raise ValueError(f"limit {shown(limit)} and words {shown(words)}")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{folder}: no saved scores; OUT/scores of eval --out OUT --save-scores is accepted"
            ) from error

    def has(self, question: Question) -> bool:
        """Whether the answer to a question is there already."""
        path = self._path(question)
        return path.is_file() and self._read(path)[0] == question.sent_ids

    def keep(self, question: Question, answer: Answer) -> None:
        """Writes the answer to a question."""
        assert answer.logits is not None, "only a network's own log-odds are saved"
        codes, largest = encode_logits(answer.logits)

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez_compressed(file, sent_ids=np.array(question.sent_ids), codes=codes, largest=largest)

        write_beside(self._path(question), write)

    def logits(self, question: Question) -> Tensor:
        """(T, 1, h, w) log-odds of the T expressions of a question; notes the rounding.

        Raises:
            ValueError: The image's file is missing, damaged, or about other expressions.
        """
        path = self._path(question)
        if not path.is_file():
            raise ValueError(f"{self.folder}: nothing saved for the image {question.sample.image_id!r}; scores of the "
                             "whole split are accepted")  # fmt: skip
        ids, codes, largest = self._read(path)
        if ids != question.sent_ids:
            raise ValueError(f"{path}: saved for other expressions than the split's; scores of this split are accepted")
        self.rounding = max(self.rounding, rounding_of(largest))
        return decode_logits(codes, largest)

    def masks(self, question: Question, protocol: Protocol) -> np.ndarray:
        """(T, H, W) bool masks of a question under a protocol."""
        return answer_of(self.logits(question), question.size, self.config, protocol).masks

    def _path(self, question: Question) -> Path:
        return self.folder / f"{quote(question.sample.image_id, safe='')}.npz"

    def _read(self, path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
                ids, codes, largest = parts["sent_ids"], parts["codes"], parts["largest"]
                _check_scores(ids, codes, largest)
                return ids.tolist(), codes, largest
        except Exception as error:  # a damaged archive makes the reader raise nearly anything
            raise ValueError(
                f"{path}: damaged ({first_line(error)}); a file that --save-scores wrote is accepted"
            ) from error


def score_saved(
    saved: SavedScores, data: Samples, protocol: Protocol, progress: Callable[[int], None] | None = None
) -> tuple[Scores, dict[str, float]]:
    """Scores saved probabilities on their split under any protocol, to within their rounding.

    Returns:
        The scores, and what it took with `rounding`, half a step of the codes.

    Raises:
        ValueError: An image of the split was not saved.
    """

    def answers(batch: list[Question]) -> Iterator[list[np.ndarray]]:
        for question in batch:
            yield list(saved.masks(question, protocol))

    asked = batches(data, saved.header.get("limit"), saved.header.get("words", "true"))
    scores, found = score_answers(asked, answers, saved.config, protocol, progress)
    return scores, found | {"rounding": saved.rounding}
