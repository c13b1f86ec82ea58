"""Predictions to files: what `refseg segment` writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from refseg.annotate.answering import at_threshold, check_probability, check_threshold, described
from refseg.annotate.rows import IMAGES, Row, names_of_images, row_of_line
from refseg.data.formats.images import read_image
from refseg.fields import read_text
from refseg.files import hash_of, write_beside
from refseg.ledger import Key, Ledger, files_of
from refseg.prediction import Prediction

if TYPE_CHECKING:
    from refseg.answers import Answerer


@dataclass(frozen=True)
class Done:
    """What became of a task.

    Attributes:
        results: Per expression the object that `--json` prints; none where there is a problem.
        problem: What is wrong with the row or its image; empty if nothing is.
        notes: What a user should know: which file was not replaced.
    """

    results: list[dict[str, Any]]
    problem: str = ""
    notes: tuple[str, ...] = ()


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
        check_probability(self.threshold)


def write_prediction(
    image: Path, pixels: np.ndarray, prediction: Prediction, number: int, out: Path, overlays: bool = True
) -> dict[str, Any]:
    """Writes `STEM.K.mask.png` (0 and 255) and `STEM.K.overlay.png`, and describes the prediction."""
    mask, picture = files_of(out, image.stem, number)
    prediction.save(mask)
    if overlays:
        write_png(prediction.overlay(pixels), picture)
    return {
        "image": str(image),
        **described(prediction),
        "mask": str(mask),
        "overlay": str(picture) if overlays else None,
    }


def write_png(picture: Image.Image, path: Path) -> None:
    """Writes a picture beside its place and renames it."""
    write_beside(path, lambda beside: picture.save(beside, format="PNG"))


def read_list(path: Path, images: Path | None = None) -> list[Row]:
    """Reads a list of tasks: JSON lines with `image` and `expression` or `expressions`.

    Paths are relative to the list, or to the folder `images`. A row of another form becomes a task with a problem, so
    that the others are done.

    Raises:
        ValueError: The file is missing, empty, or no row of it can be used; the message names the first line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a JSON-lines file with image and expression is accepted")
    if images is not None and not images.is_dir():
        raise ValueError(f"{images}: no such folder; the folder of the images is accepted")
    tasks = []
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            tasks.append(row_of_line(text, path.parent if images is None else images, line))
        except ValueError as error:
            tasks.append(Row(Path(), (), f"line {line}", str(error)))
    if not tasks:
        raise ValueError(f"{path}: empty; JSON lines with image and expression are accepted")
    if all(task.problem for task in tasks):
        raise ValueError(f"{path} {tasks[0].problem}")
    return tasks


def folder_tasks(folder: Path, expressions: tuple[str, ...]) -> list[Row]:
    """The images of a folder, by name, each with all expressions.

    Left out are files that are no images by their name, and masks and overlays that this command wrote.

    Raises:
        ValueError: There is none.
    """
    names = names_of_images([file.name for file in folder.iterdir() if file.is_file()])
    if not names:
        raise ValueError(f"{folder}: holds no images; {', '.join(IMAGES)} are accepted")
    return [Row(folder / name, expressions, f"line {line}") for line, name in enumerate(names, start=1)]


def segment_list(
    predictor: Answerer,
    tasks: list[Row],
    out: Path,
    how: Writing = Writing(),
    again: bool = False,
    overwrite: bool = False,
) -> Iterator[Done]:
    """Works through a list; what an earlier run has done is taken from what it wrote down.

    Args:
        predictor: Who answers.
        tasks: The list.
        out: Folder of the files and of `segments.jsonl`; see `refseg.ledger`.
        how: Where masks begin, and which files are written.
        again: Whether everything is done again, and only written down.
        overwrite: Whether files that are not this command's are replaced.

    Yields:
        What became of each task.
    """
    about = predictor.about
    check_threshold(about, how.threshold)
    ledger = Ledger(out, about.identity, about.precision, how.threshold, how.overlays, overwrite)
    for task in tasks:
        if task.problem:
            yield Done([], task.problem)
            continue
        try:
            yield _segment(predictor, task, ledger, how, again)
        except ValueError as error:
            yield Done([], f"{task.place}: {error}")


def _segment(predictor: Answerer, task: Row, ledger: Ledger, how: Writing, again: bool) -> Done:
    """Answers the expressions of an image that were not answered before.

    Raises:
        ValueError: The image cannot be read.
    """
    image = task.image
    assert isinstance(image, Path)
    content = _content(image)
    keys = [Key(image.stem, content, text) for text in task.expressions]
    known = [None if again or not content else ledger.known(key) for key in keys]
    if all(entry is not None for entry in known):
        return Done([entry for entry in known if entry is not None])
    pixels = read_image(image)
    open_ = [place for place, entry in enumerate(known) if entry is None]
    predictions = predictor(pixels, [task.expressions[place] for place in open_])
    results: list[Any] = list(known)
    notes = []
    for place, prediction in zip(open_, predictions, strict=True):
        number, other = ledger.place(keys[place])
        mask, _ = files_of(ledger.out, image.stem, number)
        if other is not None:
            notes.append(f"{other}: is not of this image, expression and model, and was kept; {mask} is this answer "
                         "(--overwrite replaces)")  # fmt: skip
        ledger.begin(keys[place], number)
        at = at_threshold(prediction, how.threshold)
        results[place] = write_prediction(image, pixels, at, number, ledger.out, how.overlays)
        ledger.note(keys[place], results[place])
    return Done(results, "", tuple(notes))


def _content(image: Path) -> str:
    """Hash of an image file; empty for what is no file, of which reading it says why."""
    try:
        return hash_of(image) if image.is_file() else ""
    except (OSError, ValueError):
        return ""
