"""Marks in figures that tell later whose they are, so that nobody's file is replaced unasked.

A mark holds what the figure explains and a hash of what was drawn: a figure that somebody worked on is theirs.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

from PIL import Image, PngImagePlugin

KEY = "refseg explain"
LARGEST = 2**28  # bytes of a figure
_COMMENT = re.compile(r"<!-- refseg explain ([0-9a-f]{64}) ([0-9a-f]{64}) -->\n")


def stamped_svg(text: str, question: str) -> str:
    """The document with its mark at the end; `question` is a SHA-256 in hexadecimal."""
    return f"{text}<!-- {KEY} {question} {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def png_stamp(picture: Image.Image, question: str) -> PngImagePlugin.PngInfo:
    """The mark of a picture, for `Image.save(pnginfo=...)`."""
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, f"{question} {_hash(picture)}")
    return info


def question_of(path: Path) -> str | None:
    """What a file explains, as it was written; None where it is no figure of ours, or was changed since."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        if path.suffix.lower() == ".svg":
            text = path.read_bytes().decode("utf-8")
            *_, found = (None, *_COMMENT.finditer(text))
            if found is None or found.end() != len(text):
                return None
            question, content = found.groups()
            return question if hashlib.sha256(text[: found.start()].encode()).hexdigest() == content else None
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=("PNG",))
        with picture:
            question, _, content = str(picture.info.get(KEY, "")).partition(" ")
            return question if content and content == _hash(picture) else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def check_free(path: Path, question: str | None, overwrite: bool) -> None:
    """Refuses to replace what is not a figure of the same question.

    Args:
        path: Where a figure is to be written.
        question: What it explains; None while that is not known, and then every figure of ours may be replaced.
        overwrite: Whether everything else may be replaced, too.

    Raises:
        ValueError: It has another ending than `.png` and `.svg`, is a folder, or is somebody's file.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(f"{path}: a name that ends in .png or .svg is accepted")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; the name of a file is accepted")
    if overwrite or not (path.exists() or path.is_symlink()):
        return
    there = question_of(path)
    if there is None:
        raise ValueError(f"{path}: is there and not a figure of this command, or was changed since; another name, or "
                         "--overwrite, is accepted")  # fmt: skip
    if question is not None and there != question:
        raise ValueError(f"{path}: explains another image, expression or model; another name, or --overwrite, is "
                         "accepted")  # fmt: skip


def _hash(picture: Image.Image) -> str:
    return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()
