"""A few answers about `val` as pictures, at every evaluation: what the scores mean to look at.

`RUN/pictures/STEP/` holds a picture of every answer and `pictures.json`, which says what was asked;
`RUN/pictures/target/` holds what was meant. Nothing is drawn at random: the same run has the same pictures, however
often it was stopped.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.fields import printable_json
from refseg.files import write_beside, write_text_beside
from refseg.protocols import ORIGINAL

if TYPE_CHECKING:
    from refseg.predictor import Predictor
    from refseg.types import Sample, Samples

SHOWN, LOOKED_THROUGH = 6, 60
SIDE, BYTES = 256, 40_000  # pixels and bytes of a picture at most
FOLDER, ABOUT, TARGET = "pictures", "pictures.json", "target"
_STEP = re.compile(r"\d{8,12}")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Asked:
    """An expression whose answers are shown.

    Attributes:
        sample: Its image.
        number: Its number among the image's expressions.
    """

    sample: Sample
    number: int


@dataclass(frozen=True)
class Picture:
    """A picture as a page shows it.

    Attributes:
        expression: What was asked.
        image_id: About which image.
        iou: Of answer and target.
        png: The answer.
        target: What was meant; None where its file is gone.
    """

    expression: str
    image_id: str
    iou: float
    png: bytes
    target: bytes | None


def choose_asked(data: Samples) -> list[Asked]:
    """Expressions of images from the whole of a split, one of each; of an image that cannot be read, of the next."""
    found: list[Asked] = []
    count = len(data)
    for place in range(min(SHOWN, count)):
        first, end = place * count // min(SHOWN, count), (place + 1) * count // min(SHOWN, count)
        for index in range(first, min(end, first + LOOKED_THROUGH // SHOWN)):
            try:
                sample = data[index]
            except ValueError:  # scoring says so, if it gets there; this ends no run
                continue
            if sample.expressions:
                found.append(Asked(sample, place % len(sample.expressions)))
                break
    return found


def draw_pictures(predictor: Predictor, asked: Sequence[Asked]) -> list[tuple[Picture, dict[str, Any]]]:
    """Asks, one image at a time, and draws what is answered.

    Returns:
        Per expression the picture, and what `pictures.json` says of it.
    """
    from refseg.scoring.metrics import count_pixels
    from refseg.visualize import overlay

    found = []
    for number, one in enumerate(asked, 1):
        image, expression = one.sample.image, one.sample.expressions[one.number]
        (answer,) = predictor.answers([image], [[expression.text]], ORIGINAL)
        mask, target = answer.masks[0], one.sample.mask(one.number)
        shared, predicted, wanted = count_pixels(mask, target)
        union = predicted + wanted - shared
        iou = shared / union if union else 1.0
        shown, meant = (_png(overlay(image, some)) for some in (mask, target))
        about = {"file": f"{number}.png", "expression": expression.text, "image_id": one.sample.image_id,
                 "iou": round(iou, 4)}  # fmt: skip
        found.append((Picture(expression.text, one.sample.image_id, iou, shown, meant), about))
    return found


def write_pictures(out: Path, step: int, drawn: Sequence[tuple[Picture, dict[str, Any]]]) -> None:
    """Writes what was drawn after so many steps; whatever else is in the folder stays.

    Raises:
        OSError: It cannot be written.
    """
    folder = folder_of(out, step)
    for picture, about in drawn:
        for place, content in ((folder, picture.png), (out / FOLDER / TARGET, picture.target)):
            if content is not None:
                write_beside(place / about["file"], partial(_put, content))
    write_text_beside(folder / ABOUT, json.dumps([about for _, about in drawn], indent=1) + "\n")


def _put(content: bytes, beside: Path) -> None:
    beside.write_bytes(content)


def folder_of(out: Path, step: int) -> Path:
    """The folder of the pictures of an evaluation."""
    return out / FOLDER / f"{step:08d}"


def read_pictures(out: Path, step: int) -> list[Picture]:
    """The pictures of an evaluation, those left out that are gone or damaged."""
    folder, found = folder_of(out, step), []
    try:
        listed = printable_json(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return []
    for about in listed[:SHOWN] if isinstance(listed, list) else ():
        name, iou = (about.get("file"), about.get("iou")) if isinstance(about, dict) else (None, None)
        if not isinstance(name, str) or not re.fullmatch(r"\d{1,3}\.png", name) or not isinstance(iou, int | float):
            continue
        if not 0 <= iou <= 1:
            continue
        png = _read_png(folder / name)
        if png is not None:
            words, image = (str(about.get(key, ""))[:500] for key in ("expression", "image_id"))
            found.append(Picture(words, image, float(iou), png, _read_png(out / FOLDER / TARGET / name)))
    return found


def clear_pictures(out: Path) -> None:
    """Takes away what `write_pictures` wrote, and nothing else."""
    folder = out / FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return
    own = [path for path in folder.iterdir() if _STEP.fullmatch(path.name) and (path / ABOUT).is_file()]
    for path in own:
        shutil.rmtree(path)
    if own:
        shutil.rmtree(folder / TARGET, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _png(picture: Any) -> bytes:
    """A picture as a PNG of at most `SIDE` pixels and `BYTES` bytes; one that is too large is made smaller."""
    picture.thumbnail((SIDE, SIDE))
    while True:
        file = BytesIO()
        picture.save(file, format="PNG", optimize=True)
        if file.tell() <= BYTES:
            return file.getvalue()
        picture = picture.resize([max(1, round(0.8 * side)) for side in picture.size])


def _read_png(file: Path) -> bytes | None:
    try:
        if file.stat().st_size > 4 * BYTES:
            return None
        content = file.read_bytes()
    except OSError:
        return None
    return content if content.startswith(_PNG) else None
