"""What an expression has to be, whoever asks."""

from __future__ import annotations

from typing import Any


def check_expression(text: Any) -> None:
    """Refuses what says nothing.

    Raises:
        ValueError: The expression is not a string, not valid Unicode, or has nothing to read in it.
    """
    if not isinstance(text, str):
        given = "None" if text is None else f"of type {type(text).__name__}"
        raise ValueError(f"expression {given}: a string, or a list of strings, is accepted")
    if not any(c.isprintable() and not c.isspace() for c in text):
        raise ValueError(f"expression {text!r}: empty; a few words that name one object are accepted")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"expression {text!r}: not valid Unicode; a few words are accepted") from error
