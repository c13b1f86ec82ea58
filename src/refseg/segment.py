"""Predictions to files: what `refseg segment` writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refseg.data.formats.images import read_image
from refseg.data.formats.rle import encode_rle
from refseg.files import write_beside
from refseg.predictor import Predictor, check_expression
from refseg.types import Prediction
from refseg.visualize import overlay


@dataclass(frozen=True)
class Task:
    """One image of a list with its expressions, numbered so that no two files get the same name.

    Attributes:
        image: Path of the image.
        expressions: What is asked.
        numbers: The K of each expression's files STEM.K.mask.png.
        line: Line of the list, for messages.
    """

    image: Path
    expressions: tuple[str, ...]
    numbers: tuple[int, ...]
    line: int


def segment_image(
    predictor: Predictor,
    image: Path,
    pixels: np.ndarray,
    expressions: tuple[str, ...],
    numbers: tuple[int, ...],
    out: Path,
) -> list[dict[str, Any]]:
    """Answers all expressions of one image and writes a mask and an overlay for each.

    Args:
        predictor: Who answers.
        image: Path of the image, for the names of the files.
        pixels: (H, W, 3) uint8, the image itself.
        expressions: What is asked.
        numbers: K of each expression's files.
        out: Folder of the files.

    Returns:
        Per expression the object that `--json` prints.
    """
    results = []
    for number, prediction in zip(numbers, predictor(pixels, expressions), strict=True):
        results.append(write_prediction(image, pixels, prediction, number, out))
    return results


def write_prediction(image: Path, pixels: np.ndarray, prediction: Prediction, number: int, out: Path) -> dict[str, Any]:
    """Writes `STEM.K.mask.png` (0 and 255) and `STEM.K.overlay.png`, and describes the prediction."""
    mask, shown = out / f"{image.stem}.{number}.mask.png", out / f"{image.stem}.{number}.overlay.png"
    write_png(Image.fromarray(prediction.mask.astype(np.uint8) * 255), mask)
    write_png(overlay(pixels, prediction.mask), shown)
    return {
        "image": str(image),
        "expression": prediction.expression,
        "score": round(prediction.score, 6),
        "box": list(prediction.box) if prediction.box else None,
        "area": prediction.area,
        "rle": encode_rle(prediction.mask),
        "mask": str(mask),
        "overlay": str(shown),
    }


def write_png(picture: Image.Image, path: Path) -> None:
    """Writes a picture beside its place and renames it."""
    write_beside(path, lambda beside: picture.save(beside, format="PNG"))


def read_list(path: Path) -> list[Task]:
    """Reads a list of tasks: JSON lines with `image` and `expression` or `expressions`.

    Paths are relative to the list. Images with the same stem continue each other's numbers.

    Raises:
        ValueError: The file is missing or a line is not of that form; the message names the line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a JSON-lines file with image and expression is accepted")
    tasks: list[Task] = []
    used: Counter[str] = Counter()
    for line, row in enumerate(_rows(path), start=1):
        if row is None:
            continue
        texts = row.get("expressions", [row.get("expression")])
        both = "expression" in row and "expressions" in row
        if both or not isinstance(row.get("image"), str) or not isinstance(texts, list) or not texts:
            raise ValueError(f'{path} line {line}: needs "image" and either "expression" or a list "expressions"')
        for text in texts:
            try:
                check_expression(text)
            except ValueError as error:
                raise ValueError(f"{path} line {line}: {error}") from error
        image = path.parent / row["image"]
        numbers = tuple(range(used[image.stem] + 1, used[image.stem] + len(texts) + 1))
        used[image.stem] += len(texts)
        tasks.append(Task(image, tuple(texts), numbers, line))
    if not tasks:
        raise ValueError(f"{path}: empty; JSON lines with image and expression are accepted")
    return tasks


def _rows(path: Path) -> Iterator[dict[str, Any] | None]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason})") from error
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            yield None
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path} line {number}: {text[:60]!r}; an object with image and expression is accepted")
        yield row


def segment_list(predictor: Predictor, tasks: list[Task], out: Path) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Works through a list; what an earlier run has done is taken from its `segments.jsonl`.

    Yields:
        Per task the results and an empty string, or no results and what was wrong with the image.
    """
    log = out / "segments.jsonl"
    weights = predictor.model.sha256  # a name may stand for other weights the next time
    done = _done(log, weights)
    if log.is_file() and not log.read_bytes().endswith(b"\n"):  # an earlier run was stopped in the middle of a line
        with log.open("a", encoding="utf-8") as file:
            file.write("\n")
    for task in tasks:
        version = _version(task.image)
        pairs = zip(task.expressions, task.numbers, strict=True)
        keys = [(str(task.image), version, text, number) for text, number in pairs]
        if all(key in done for key in keys):
            yield [done[key] for key in keys], ""
            continue
        try:
            pixels = read_image(task.image)
        except ValueError as error:
            yield [], f"line {task.line}: {error}"
            continue
        results = segment_image(predictor, task.image, pixels, task.expressions, task.numbers, out)
        with log.open("a", encoding="utf-8") as file:
            for result, number in zip(results, task.numbers, strict=True):
                entry = {"model": weights, "version": version, "number": number, **result}
                file.write(json.dumps(entry) + "\n")
        yield results, ""


def _version(image: Path) -> str:
    """Changes when the file does; empty for a file that is not there."""
    try:
        state = image.stat()
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"


def _done(log: Path, weights: str) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """Results of an earlier run whose files are still there; a half-written last line is left aside."""
    found: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    if not log.is_file():
        return found
    for text in log.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            entry = json.loads(text)
            number, version, same = entry.pop("number"), entry.pop("version"), entry.pop("model") == weights
            if same and Path(entry["mask"]).is_file() and Path(entry["overlay"]).is_file():
                found[entry["image"], version, entry["expression"], number] = entry
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
            continue
    return found
