"""Inputs that are nearly right: bytes and values of a good file, changed at random by a seed."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch

Mutator = Callable[[Random, bytes], bytes]

ODD_BYTES = (
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"null", b"NaN", b"-1", b"1e999", b"[]", b"{}", b'""',
    b'"', b"\n", b",", b"[" * 5000, b'{"a":' * 3000, b"9" * 6000, b"\\ud800", b"../", b"%s", b"true", b"\r\n", b"=",
    b":",
)  # fmt: skip
ODD_VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), "", "\0",
    "\ud800", "word", "9", "x" * 5000, "界" * 300, "../../etc/passwd", "NaN", [], {}, [[]], [None], [0], [[1, 2]],
    ["a"], {"a": 1}, {"size": [3, 3], "counts": "1"}, [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], [[1e9] * 6], [-5, -5, 9, 9],
)  # fmt: skip


def bytewise(random: Random, content: bytes) -> bytes:
    """One to four random changes of bytes."""
    for _ in range(random.choice((1, 1, 2, 4))):
        content = random.choice(_BYTEWISE)(random, content)
    return content


def _flip(random: Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if found:
            found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.randint(0, len(content))]


def _part(random: Random, content: bytes) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice((1, 2, 4, 16, 256)))


def _delete(random: Random, content: bytes) -> bytes:
    start, end = _part(random, content)
    return content[:start] + content[end:]


def _repeat(random: Random, content: bytes) -> bytes:
    start, end = _part(random, content)
    return content[:end] + content[start:end] * random.choice((1, 3, 100)) + content[end:]


def _move(random: Random, content: bytes) -> bytes:
    start, end = _part(random, content)
    rest = content[:start] + content[end:]
    at = random.randint(0, len(rest))
    return rest[:at] + content[start:end] + rest[at:]


def _noise(random: Random, content: bytes) -> bytes:
    start, end = _part(random, content)
    return content[:start] + random.randbytes(end - start) + content[end:]


def _insert(random: Random, content: bytes) -> bytes:
    at = random.randint(0, len(content))
    return content[:at] + random.choice(ODD_BYTES) + content[at:]


def _number(random: Random, content: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return _insert(random, content)
    start, end = random.choice(found).span()
    others = (b"0", b"-1", b"1e400", b"9" * 400, b"99999999999", b'"7"', b"0.5", b"")
    return content[:start] + random.choice(others) + content[end:]


_BYTEWISE = (_flip, _cut, _delete, _repeat, _move, _noise, _insert, _number)


def changed(random: Random, value: Any) -> Any:
    """A value like the given one with one thing in it replaced, left out, doubled or renamed."""
    if isinstance(value, dict | list | tuple) and value and random.random() < 0.85:
        found: Any = dict(value) if isinstance(value, dict) else list(value)
        place = random.choice(list(found) if isinstance(found, dict) else range(len(found)))
        if random.random() < 0.7:
            found[place] = changed(random, found[place])
        elif random.random() < 0.5:
            del found[place]
        elif isinstance(found, dict):
            found[random.choice(("x", "", "id", "\0", "__class__"))] = found.pop(place)
        else:
            found.insert(place, found[place])
        return tuple(found) if isinstance(value, tuple) else found
    if isinstance(value, torch.Tensor) and random.random() < 0.7:
        flat = value.flatten()
        return random.choice((flat[:0], flat[:1], value.double(), value[None], value.to(torch.int8),
                              torch.full_like(value, 9)))  # fmt: skip
    return random.choice(ODD_VALUES)


def json_values(random: Random, content: bytes) -> bytes:
    """A JSON file with a value changed."""
    return json.dumps(changed(random, json.loads(content))).encode()


def json_lines(random: Random, content: bytes) -> bytes:
    """A file of JSON lines with a value of one line changed."""
    lines = content.splitlines()
    place = random.randrange(len(lines))
    lines[place] = json_values(random, lines[place])
    return b"\n".join(lines) + b"\n"


def pickled_values(random: Random, content: bytes) -> bytes:
    """A pickle with a value changed, in any protocol."""
    return pickle.dumps(changed(random, pickle.loads(content)), random.randrange(6))


def torch_values(random: Random, content: bytes) -> bytes:
    """A file of torch with a value or a tensor changed."""
    file = io.BytesIO()
    torch.save(changed(random, torch.load(io.BytesIO(content), weights_only=True)), file)
    return file.getvalue()


def arrays(random: Random, content: bytes) -> bytes:
    """An .npz file with an array of another kind, shape or name, or without one."""
    with np.load(io.BytesIO(content)) as stored:
        found = dict(stored)
    name = random.choice(list(found))
    value = found.pop(name)
    choices = (value[..., None], value[:0], np.full(value.shape, np.nan), np.array("text"), value.astype("U8"),
               np.zeros((3, 3, 3), np.uint8), np.full(value.shape, -7), np.array(None))  # fmt: skip
    if random.random() < 0.9:
        found[random.choice((name, name, name, "other"))] = random.choice(choices)
    file = io.BytesIO()
    np.savez(file, **found)
    return file.getvalue()


def header_of_tensors(random: Random, content: bytes) -> bytes:
    """A safetensors file with a value of its header changed."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(changed(random, json.loads(content[8 : 8 + length]))).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
