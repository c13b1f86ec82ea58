"""What a pickle's operations may not do, and how Python 2 escaped the letters of its strings."""

from __future__ import annotations

import re

FORBIDDEN = {
    b"R": "to call a function (REDUCE)",
    b"b": "to set the state of an object (BUILD)",
    b"o": "to make an object (OBJ)",
    b"\x81": "to make an object (NEWOBJ)",
    b"\x92": "to make an object (NEWOBJ_EX)",
    b"Q": "an object kept outside the file (BINPERSID)",
    b"\x96": "a bytearray (BYTEARRAY8)",
    b"\x97": "a buffer outside the file (NEXT_BUFFER)",
    b"\x98": "a buffer (READONLY_BUFFER)",
    b"\x91": "a frozenset (FROZENSET)",
}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b",
            b"f": b"\f", b"v": b"\v"}  # fmt: skip


class Damaged(Exception):
    """The file is no pickle."""


def without_escapes(raw: bytes) -> bytes:
    """A string as Python 2 wrote it, without its escapes.

    Raises:
        Damaged: There is no such escape.
    """
    return _ESCAPE.sub(_unescape, raw) if b"\\" in raw else raw


def _unescape(found: re.Match[bytes]) -> bytes:
    hexadecimal, octal, letter = found.groups()
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if octal is not None:
        return bytes((int(octal, 8) & 255,))
    if letter not in _LETTERS:
        raise Damaged(f"unknown escape {found[0]!r} in a string")
    return _LETTERS[letter]
