"""What the API answers, as OpenAPI describes it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Mask(BaseModel):
    """COCO's compressed run-length code."""

    size: list[int] = Field(description="[height, width] in pixels.")
    counts: str = Field(description="The runs, as pycocotools reads them.")


class OneAnswer(BaseModel):
    """The answer to one expression."""

    expression: str
    found: bool = Field(description="Whether the mask has any pixel.")
    segmentation: Mask
    bbox: list[int] = Field(description="[x, y, width, height] in pixels; zeros where nothing was found.")
    area: int = Field(description="Pixels of the mask.")
    score: float | None = Field(description="Mean foreground probability over the mask; null where a model has none.")


class Answers(BaseModel):
    """The answers to a request, in the order of its expressions."""

    id: str | None = Field(description="For `GET /v1/answers/{name}?threshold=`; null where log-odds are not kept.")
    model: str
    size: list[int] = Field(description="[height, width] of the image, turned as its EXIF orientation says.")
    threshold: float = Field(description="Probability above which a pixel is in a mask.")
    seconds: float = Field(description="Time of the model; 0 for another threshold of kept log-odds.")
    warnings: list[str]
    answers: list[OneAnswer]


class OneModel(BaseModel):
    """A model that is served."""

    name: str
    default: bool
    loaded: bool = Field(description="Whether it is in memory; else the first request waits for it.")
    method: str
    trained_on: str
    licence: str


class Models(BaseModel):
    """All models that are served."""

    models: list[OneModel]


class Example(BaseModel):
    """A drawn scene to begin with, and what can be asked about it."""

    name: str
    image: str = Field(description="Where its PNG is.")
    expressions: list[str]


class Examples(BaseModel):
    """Scenes of RefShapes."""

    examples: list[Example]


class Error(BaseModel):
    """What is wrong, and what is accepted."""

    error: str


_FIELDS: dict[str, Any] = {
    "expressions": {"type": "array", "items": {"type": "string"}, "description": "What to find, one or more."},
    "model": {"type": "string", "description": "One of `GET /v1/models`; the first by default."},
    "threshold": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.5},
}
REQUEST: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "oneOf": [{"required": ["expressions"]}, {"required": ["expression"]}],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string", "contentEncoding": "base64"},
                    "expression": {"type": "string", "description": "The same as a list of one."},
                    **_FIELDS,
                },
            }
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image", "expression"],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string", "format": "binary"},
                    "expression": _FIELDS["expressions"],
                    "model": _FIELDS["model"],
                    "threshold": _FIELDS["threshold"],
                },
            }
        },
    },
}
NAME: dict[str, Any] = {
    "name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "description": "`id` of the answers.",
}  # fmt: skip
THRESHOLD: dict[str, Any] = {"name": "threshold", "in": "query", "schema": _FIELDS["threshold"]}
FIGURE: dict[str, Any] = {
    "description": "The figure.",
    "content": {"image/png": {}, "image/svg+xml": {}},
}
WHY = {
    400: "The request is wrong: the message names what, and what is accepted.",
    401: "A token is wanted: `Authorization: Bearer TOKEN`.",
    403: "A page of another server made a browser ask.",
    404: "The answer is not kept any more.",
    408: "The body did not arrive in time.",
    413: "The body, the image or the number of expressions is over a limit.",
    415: "The body is neither JSON nor a form.",
    429: "Too many requests wait already.",
    500: "The model failed.",
    503: "The server is stopping, a model cannot be loaded, or there is not enough memory.",
    504: "It took longer than the limit.",
}
ASKED = (400, 401, 403, 408, 413, 415, 429, 500, 503, 504)  # what asking a model may come to


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers beside its answer."""
    return {status: {"model": Error, "description": WHY[status]} for status in statuses}
