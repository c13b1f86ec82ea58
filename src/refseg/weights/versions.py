"""What was saved under earlier names, brought to today's: a table per format, so that no saved model is lost.

A format counts up when a config's fields or a network's tensors change their names or their number. Whoever changes
them raises `FORMAT` and says in `STEPS` how what was saved before reads today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

FORMAT = 4
Value = TypeVar("Value")


@dataclass(frozen=True)
class Step:
    """From one format to the next, for one method.

    Attributes:
        fields: Fields of the method's config under new names.
        new: Fields that the format did not have, with the value that makes the network it was saved from. A dotted
            name lies in a nested config.
        values: Values of fields, by today's name of the field, under new names.
        tensors: Starts of tensor names under new names.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)


STEPS: dict[int, dict[str, Step]] = {
    1: {  # the prototype generator had three names in two methods, and choices were called "paper"
        "alignformer": Step(
            fields={"decoder": "generator"},
            new={"pixel_decoder.mask_conv": True, "cmic.similarity": "dot", "cmic.temperature": 1.0},
            tensors={"decoder.": "generator."},
        ),
        "lgformer": Step(fields={"prototype": "generator"}, new={"pixel_decoder.mask_conv": True}),
        "crformer": Step(
            new={"fusion_heads": [1, 1, 1, 1], "padded_tokens": 0, "neck_style": "cris"},
            values={"qgm": {"paper": "printed"}, "recon": {"paper": "printed"}},
        ),
        "eavl": Step(
            new={"neck_style": "cris", "matrix_bias": True},
            values={"upsampler": {"paper": "single"}, "estimator": {"paper": "attention"}},
        ),
    },
    2: {"eavl": Step(new={"finer_neck": False})},
    3: {"crformer": Step(new={"finer_neck": False})},
}


def check_format(version: Any) -> int:
    """The format of something saved.

    Raises:
        ValueError: This version cannot read it.
    """
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(f"format {version!r}; this version reads the formats 1 to {FORMAT}")
    return version


def upgraded_config(version: int, method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A method's stored config as today's would have been stored."""
    found = dict(config)
    for step in _steps(version, method):
        found = {step.fields.get(name, name): value for name, value in found.items()}
        for name, renamed in step.values.items():
            if isinstance(found.get(name), str):
                found[name] = renamed.get(found[name], found[name])
        for name, value in step.new.items():
            *outer, last = name.split(".")
            inner = found
            for part in outer:
                inner[part] = dict(inner[part])
                inner = inner[part]
            inner.setdefault(last, value)
    return found


def upgraded_tensors(version: int, method: str, tensors: Mapping[str, Value], prefix: str = "") -> dict[str, Value]:
    """Tensors by today's names; `prefix` stands before each of them, as averaged weights have it."""
    found = dict(tensors)
    for step in _steps(version, method):
        for old, new in step.tensors.items():
            start = prefix + old
            found = {
                prefix + new + name.removeprefix(start) if name.startswith(start) else name: value
                for name, value in found.items()
            }
    return found


def _steps(version: int, method: str) -> list[Step]:
    return [STEPS[number][method] for number in range(version, FORMAT) if method in STEPS.get(number, {})]
