"""Configs that refuse what they do not know, so that a wrong word never builds another network."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, ClassVar

LARGEST = 2**40 - 1  # beyond this, a whole number is damage
REPEATED = ("depths", "layers", "stages", "blocks")  # last words of fields that say how often a part is built
MOST_REPEATED = 1000


class Checked:
    """Base of frozen config dataclasses: every field has the type that it says, and a value that makes sense.

    Words are among those of their `Literal`, whole numbers at least 1 and other numbers finite and not negative, unless
    `least` says otherwise. A subclass with more to refuse calls `super().__post_init__()` first.
    """

    least: ClassVar[Mapping[str, float]] = {}  # smallest values of fields for which they are others

    def __post_init__(self) -> None:
        """Refuses other values.

        Raises:
            ValueError: Names the field, its value and what is accepted.
        """
        types_ = hints(type(self))  # type: ignore[arg-type]
        for field in fields(typing.cast(Any, self)):
            value = getattr(self, field.name)
            most = MOST_REPEATED if field.name.split("_")[-1] in REPEATED else LARGEST
            told = accepted(types_[field.name], value, self.least.get(field.name), most)
            if told:
                raise ValueError(f"{type(self).__name__}: {field.name} {_short(value)}: {told} is accepted")


@cache
def hints(kind: Any) -> dict[str, Any]:
    """The types of a class's fields."""
    return typing.get_type_hints(kind)


def accepted(hint: Any, value: Any, least: float | None, most: int = LARGEST) -> str:
    """What would be accepted instead of a value; empty where it is accepted itself."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "" if value in inner and isinstance(value, str) else "one of " + ", ".join(repr(word) for word in inner)
    if origin in (typing.Union, types.UnionType):
        return "" if any(not accepted(kind, value, least, most) for kind in inner) else f"one of {_named(inner)}"
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[1:] == (Ellipsis,) and isinstance(value, tuple) else inner
        if not isinstance(value, tuple) or not value or len(kinds) != len(value):
            return f"a tuple of {len(inner)} values" if inner[1:] != (Ellipsis,) else "a tuple of one value or more"
        wrong = [told for kind, part in zip(kinds, value, strict=True) if (told := accepted(kind, part, least, most))]
        return f"a tuple with {wrong[0]}" if wrong else ""
    if hint is bool:
        return "" if isinstance(value, bool) else "True or False"
    if hint is int:
        floor = 1 if least is None else int(least)
        up_to = f" to {most}" if most < LARGEST else ""
        return "" if type(value) is int and floor <= value <= most else f"a whole number from {floor}{up_to}"
    if hint is float:
        floor_ = 0.0 if least is None else least
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        return "" if number and value >= floor_ else f"a number from {floor_:g}"
    if is_dataclass(hint) or hint is str:
        return "" if isinstance(value, typing.cast(type, hint)) else f"a {typing.cast(type, hint).__name__}"
    return ""


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return "of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def _named(kinds: tuple[Any, ...]) -> str:
    return ", ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)


def config_from_dict(kind: Any, data: Any, where: str = "config") -> Any:
    """Rebuilds a (nested) config dataclass from what JSON made of it.

    Raises:
        ValueError: A field is missing, unknown or of another type.
    """
    if is_dataclass(kind):
        if not isinstance(data, dict):
            raise ValueError(f"{where}: {data!r}; an object is accepted")
        names = {f.name for f in fields(kind)}
        if set(data) != names:
            missing, unknown = sorted(names - set(data)), sorted(set(data) - names)
            raise ValueError(f"{where}: fields missing {missing}, unknown {unknown}")
        hints = typing.get_type_hints(kind)
        values = {name: config_from_dict(hints[name], data[name], f"{where}.{name}") for name in data}
        return typing.cast(typing.Any, kind)(**values)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType and type(data) in inner:
        return data
    if origin is types.UnionType and isinstance(data, dict):  # of dataclasses: the one that has these fields
        named = [k for k in inner if is_dataclass(k) and {f.name for f in fields(k)} == set(data)]
        return config_from_dict(named[0] if named else inner[0], data, where)
    if origin is typing.Literal and data in inner:
        return data
    if origin is tuple and isinstance(data, list):
        kinds = [inner[0]] * len(data) if inner[1:] == (Ellipsis,) else list(inner)
        if len(kinds) == len(data):
            pairs = enumerate(zip(kinds, data, strict=True))
            return tuple(config_from_dict(k, x, f"{where}[{i}]") for i, (k, x) in pairs)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool) and abs(data) < 1e300:
        return float(data)
    if isinstance(kind, type) and type(data) is kind:
        return data
    shown = repr(data) if len(repr(data)) <= 80 else repr(data)[:77] + "..."
    raise ValueError(f"{where}: {shown}; {_told(kind)} is accepted")


def _told(kind: Any) -> str:
    """A type in words."""
    simple = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", types.NoneType: "null"}
    if kind in simple:
        return simple[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(repr(word) for word in inner)
    if origin is types.UnionType:
        return " or ".join(_told(one) for one in inner)
    if origin is tuple:
        many = inner[1:] == (Ellipsis,)
        return (
            f"a list of which each is {_told(inner[0])}"
            if many
            else f"a list of {len(inner)}: " + ", ".join(_told(one) for one in inner)
        )
    return f"an object with the fields of {kind.__name__}"
