"""Predictions to files: what `refseg segment` writes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from refseg.data.expressions import check_expression
from refseg.data.formats.fields import parse_json, read_text
from refseg.data.formats.images import read_image
from refseg.data.formats.rle import encode_rle
from refseg.files import hash_of, write_beside
from refseg.prediction import Prediction

if TYPE_CHECKING:
    from refseg.predictor import Predictor


OWN = re.compile(r".+\.\d+\.(mask|overlay)\.png")  # what this command writes
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # what is taken of a folder


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


@dataclass(frozen=True)
class Writing:
    """What is made of an answer.

    Attributes:
        threshold: Probability above which a pixel is in the mask.
        overlays: Whether pictures are written beside the masks.
    """

    threshold: float = 0.5
    overlays: bool = True

    def __post_init__(self) -> None:
        """Refuses a threshold that is no probability.

        Raises:
            ValueError: It is not between 0 and 1.
        """
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold}: a probability between 0 and 1 is accepted")


def segment_image(
    predictor: Predictor,
    image: Path,
    pixels: np.ndarray,
    expressions: tuple[str, ...],
    numbers: tuple[int, ...],
    out: Path,
    how: Writing = Writing(),
) -> list[dict[str, Any]]:
    """Answers all expressions of one image and writes a mask and an overlay for each.

    Args:
        predictor: Who answers.
        image: Path of the image, for the names of the files.
        pixels: (H, W, 3) uint8, the image itself.
        expressions: What is asked.
        numbers: K of each expression's files.
        out: Folder of the files.
        how: Where masks begin, and which files are written.

    Returns:
        Per expression the object that `--json` prints.
    """
    results = []
    for number, prediction in zip(numbers, predictor(pixels, expressions), strict=True):
        at = prediction if how.threshold == prediction.threshold else prediction.at(how.threshold)
        results.append(write_prediction(image, pixels, at, number, out, how.overlays))
    return results


def write_prediction(
    image: Path, pixels: np.ndarray, prediction: Prediction, number: int, out: Path, overlays: bool = True
) -> dict[str, Any]:
    """Writes `STEM.K.mask.png` (0 and 255) and `STEM.K.overlay.png`, and describes the prediction."""
    mask, shown = out / f"{image.stem}.{number}.mask.png", out / f"{image.stem}.{number}.overlay.png"
    prediction.save(mask)
    if overlays:
        write_png(prediction.overlay(pixels), shown)
    return {
        "image": str(image),
        "expression": prediction.expression,
        "score": None if prediction.score is None else round(prediction.score, 6),
        "box": list(prediction.box) if prediction.box else None,
        "area": prediction.area,
        "rle": encode_rle(prediction.mask),
        "mask": str(mask),
        "overlay": str(shown) if overlays else None,
    }


def write_png(picture: Image.Image, path: Path) -> None:
    """Writes a picture beside its place and renames it."""
    write_beside(path, lambda beside: picture.save(beside, format="PNG"))


def read_list(path: Path, images: Path | None = None) -> list[Task]:
    """Reads a list of tasks: JSON lines with `image` and `expression` or `expressions`.

    Paths are relative to the list, or to the folder `images`. Images with the same stem continue each other's numbers.

    Raises:
        ValueError: The file is missing or a line is not of that form; the message names the line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a JSON-lines file with image and expression is accepted")
    if images is not None and not images.is_dir():
        raise ValueError(f"{images}: no such folder; the folder of the images is accepted")
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
        if "\0" in row["image"] or any("\ud800" <= sign <= "\udfff" for sign in row["image"]):
            raise ValueError(f"{path} line {line}: image {row['image']!r}; the name of a file is accepted")
        image = (path.parent if images is None else images) / row["image"]
        numbers = tuple(range(used[image.stem] + 1, used[image.stem] + len(texts) + 1))
        used[image.stem] += len(texts)
        tasks.append(Task(image, tuple(texts), numbers, line))
    if not tasks:
        raise ValueError(f"{path}: empty; JSON lines with image and expression are accepted")
    return tasks


def _rows(path: Path) -> Iterator[dict[str, Any] | None]:
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            yield None
            continue
        row = parse_json(text, f"{path} line {number}")
        if not isinstance(row, dict):
            raise ValueError(f"{path} line {number}: {text[:60]!r}; an object with image and expression is accepted")
        yield row


def folder_tasks(folder: Path, expressions: tuple[str, ...]) -> list[Task]:
    """The images of a folder, by name, each with all expressions.

    Left out are files that are no images by their name, and masks and overlays that this command wrote.

    Raises:
        ValueError: There is none.
    """
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGES and not OWN.fullmatch(file.name) and file.is_file()
    )
    if not files:
        raise ValueError(f"{folder}: holds no images; {', '.join(IMAGES)} are accepted")
    used: Counter[str] = Counter()
    tasks = []
    for line, image in enumerate(files, start=1):
        numbers = tuple(range(used[image.stem] + 1, used[image.stem] + len(expressions) + 1))
        used[image.stem] += len(expressions)
        tasks.append(Task(image, expressions, numbers, line))
    return tasks


def segment_list(
    predictor: Predictor, tasks: list[Task], out: Path, how: Writing = Writing(), again: bool = False
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Works through a list; what an earlier run has done is taken from its `segments.jsonl`.

    Args:
        predictor: Who answers.
        tasks: The list.
        out: Folder of the files and the log.
        how: Where masks begin, and which files are written.
        again: Whether everything is done again, and only written down.

    Yields:
        Per task the results and an empty string, or no results and what was wrong with the image.
    """
    log = out / "segments.jsonl"
    weights = predictor.model.identity  # a name may stand for another model the next time
    done = {} if again else _done(log, weights, how)
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
        results = segment_image(predictor, task.image, pixels, task.expressions, task.numbers, out, how)
        with log.open("a", encoding="utf-8") as file:
            for result, number in zip(results, task.numbers, strict=True):
                made = {"model": weights, "version": version, "number": number, "threshold": how.threshold}
                made["files"] = [hash_of(Path(file)) for file in _files(result)]
                entry = made | result
                file.write(json.dumps(entry) + "\n")
        yield results, ""


def _files(result: dict[str, Any]) -> list[str]:
    """The files of a result."""
    return [result["mask"], *([result["overlay"]] if result["overlay"] is not None else [])]


def _unchanged(entry: dict[str, Any], hashes: list[str]) -> bool:
    """Whether the files of a result are still what was written."""
    files = [Path(file) for file in _files(entry)]
    return len(files) == len(hashes) and all(
        file.is_file() and hash_of(file) == stated for file, stated in zip(files, hashes, strict=True)
    )


def _version(image: Path) -> str:
    """Changes when the file does; empty for a file that is not there."""
    try:
        state = image.stat()
    except (OSError, ValueError):
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"


def _done(log: Path, weights: str, how: Writing) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """Results of an earlier run whose files are still what it wrote; a half-written last line is left aside.

    Who wrote a file last is who it belongs to: other weights, or another threshold, may have written it over.
    """
    last: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    if not log.is_file():
        return {}
    for text in log.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            entry = json.loads(text)
            made = {name: entry.pop(name) for name in ("model", "version", "number")}
            made["threshold"], made["files"] = entry.pop("threshold", 0.5), entry.pop("files", [])
            last[entry["mask"]] = made, entry
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
            continue
    found: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    for made, entry in last.values():
        with suppress(KeyError, TypeError):
            fits = made["model"] == weights and made["threshold"] == how.threshold
            fits &= (entry["overlay"] is not None) == how.overlays
            if fits and _unchanged(entry, made["files"]):
                found[entry["image"], made["version"], entry["expression"], made["number"]] = entry
    return found
