"""What a request asks for, read from JSON or a form and held to the limits before it waits for a model."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from refseg.data.expressions import check_expression
from refseg.fields import parse_json, shown
from refseg.web.limits import Limits

KINDS = "application/json or multipart/form-data"
FIELDS = ("image", "expression", "expressions", "model", "threshold")


class Refusal(Exception):
    """What is answered instead of masks.

    Attributes:
        status: The HTTP status.
        message: What is wrong and what is accepted, one line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Ask:
    """One image and what is asked about it.

    Attributes:
        image: The bytes of its file.
        expressions: At least one.
        model: Name of a model that is served.
        threshold: Probability above which a pixel is in the mask.
        figure: "png" or "svg" where a figure of why is wanted instead of the masks; else empty.
    """

    image: bytes
    expressions: tuple[str, ...]
    model: str
    threshold: float
    figure: str = ""


async def read_ask(request: Request, limits: Limits, models: tuple[str, ...]) -> Ask:
    """Reads the body of a request.

    Args:
        request: JSON with the image in base64, or a form with it as a file.
        limits: What is refused.
        models: Names of those that are served; the first is asked where none is named.

    Raises:
        Refusal: 400 for what is missing or wrong, 413 for what is too large, 415 for a body of another kind.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            body = await request.body()
            return await run_in_threadpool(lambda: _ask(_from_json(body, limits), limits, models))
        if kind == "multipart/form-data":
            return _ask(await _from_form(request, limits), limits, models)
    except (Refusal, ClientDisconnect):
        raise
    except HTTPException as error:
        raise Refusal(error.status_code, f"form: {error.detail}") from error
    except ValueError as error:
        raise Refusal(400, str(error)) from error
    except Exception as error:  # a malformed form may make its parser raise nearly anything
        raise Refusal(400, f"body: cannot be read as {kind} ({type(error).__name__})") from error
    raise Refusal(415, f"content type {shown(kind)}: {KINDS} is accepted")


def _from_json(body: bytes, limits: Limits) -> dict[str, Any]:
    # An honest body is one long text in base64 and a few short ones. Anything else of its size would take the
    # interpreter for half a minute, and a gigabyte.
    marks = sum(body.count(mark) for mark in (b"[", b"{", b","))
    if marks > limits.expressions * limits.characters + 100:
        raise ValueError(f"body: {marks} brackets and commas; an object with image and expressions is accepted")
    try:
        fields = parse_json(body.decode("utf-8"), "body")
    except UnicodeDecodeError as error:
        raise ValueError("body: not UTF-8; JSON is accepted") from error
    if not isinstance(fields, dict):
        raise ValueError(f"body: {shown(fields)}; an object with image and expressions is accepted")
    if isinstance(image := fields.get("image"), str):
        start = image.partition(",")[0]
        encoded = image[len(start) + 1 :] if start.startswith("data:") else image
        try:
            fields["image"] = base64.b64decode("".join(encoded.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("image: not base64; the bytes of a picture file in base64 are accepted") from error
    return fields


async def _from_form(request: Request, limits: Limits) -> dict[str, Any]:
    """The fields of a form; `expression` may be there several times."""
    async with request.form(
        max_files=1, max_fields=limits.expressions + len(FIELDS), max_part_size=4 * limits.characters + 1024
    ) as form:
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) != (name == "image"):
                raise ValueError(f"{shown(name)}: a file as image, and text as {', '.join(FIELDS[1:])} are accepted")
            if isinstance(value, UploadFile):
                fields[name] = await value.read()
            elif name in ("expression", "expressions"):
                fields.setdefault("expressions", []).append(value)
            elif name in fields:
                raise ValueError(f"{shown(name)}: given twice")
            else:
                fields[name] = number_of(value) if name == "threshold" else value
        return fields


def number_of(text: str) -> Any:
    """A text as a number where it is one; else as it stands, for a message."""
    try:
        return float(text)
    except ValueError:
        return text


def _ask(fields: Mapping[str, Any], limits: Limits, models: tuple[str, ...]) -> Ask:
    if other := next((name for name in fields if name not in FIELDS), None):
        raise ValueError(f"field {shown(other)}: unknown; {', '.join(FIELDS)} are accepted")
    image = fields.get("image")
    if not isinstance(image, bytes) or not image:
        raise ValueError("image: missing; the file of a picture (in JSON in base64) is accepted")
    if "expression" in fields and "expressions" in fields:
        raise ValueError("expression and expressions: one of the two is accepted")
    texts = fields.get("expressions", [fields["expression"]] if "expression" in fields else [])
    if not isinstance(texts, list) or not texts:
        raise ValueError("expressions: missing; a list of one or more is accepted")
    if len(texts) > limits.expressions:
        raise Refusal(413, f"{len(texts)} expressions: at most {limits.expressions} are accepted")
    for text in texts:
        if isinstance(text, str) and len(text) > limits.characters:
            raise Refusal(413, f"expression of {len(text)} characters: at most {limits.characters} are accepted")
        check_expression(text)
    model = fields.get("model", models[0])
    if model not in models:
        raise ValueError(f"model {shown(model)}: not served; {', '.join(models)} are accepted")
    return Ask(image, tuple(texts), model, threshold_of(fields.get("threshold", 0.5)))


def threshold_of(value: Any) -> float:
    """A probability between 0 and 1.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:  # NaN compares as False
        raise ValueError(f"threshold {shown(value)}: a probability between 0 and 1 is accepted")
    return float(value)
