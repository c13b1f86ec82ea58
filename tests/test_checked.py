"""No config takes a word, a count or a type that it does not know, whoever builds it."""

from __future__ import annotations

import math
import typing
from dataclasses import fields, is_dataclass, replace

import pytest

from refseg.checked import Checked
from refseg.presets import presets


def configs():
    """One config of every class, met in the presets, with its place."""
    found: dict[type, object] = {}

    def visit(config):
        found.setdefault(type(config), config)
        for field in fields(config):
            value = getattr(config, field.name)
            if is_dataclass(value):
                visit(value)

    for preset in presets().values():
        for part in (preset.model, preset.input, preset.recipe):
            visit(part)
    return [(kind.__name__, config) for kind, config in found.items()]


CONFIGS = configs()


def wrong_values(hint, value):
    """Values that a field of such a type must not take."""
    if typing.get_origin(hint) is typing.Literal:
        return ["none of them", "", None, 1, True]
    if hint is bool:
        return [1, 0, None, "true"]
    if hint is int:
        return [-1, 1.5, True, None, "3"]
    if hint is float:
        return [math.nan, math.inf, None, "0.1", True]
    if typing.get_origin(hint) is tuple:
        return [(), list(value), None, 3, (*value, "x"), ("x",) * len(value)]
    return [None, "a word", 3]


def test_every_config_of_the_package_is_met():
    assert len(CONFIGS) >= 15 and all(isinstance(config, Checked) for _, config in CONFIGS)


@pytest.mark.parametrize(("name", "config"), CONFIGS, ids=[name for name, _ in CONFIGS])
def test_every_field_refuses_what_it_does_not_know(name, config):
    hints = typing.get_type_hints(type(config))
    for field in fields(config):
        for wrong in wrong_values(hints[field.name], getattr(config, field.name)):
            with pytest.raises(ValueError, match=field.name) as error:
                replace(config, **{field.name: wrong})
            assert repr(wrong) in str(error.value) and "accepted" in str(error.value)


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("alignformer", {"fusion": "pwam"}), ("lgformer", {"query": "learned"}), ("lgformer", {"fusion": "VLBA"}),
        ("eavl", {"aligner": "kernel"}), ("jmceln", {"c5": "layer5"}), ("crformer", {"recon": "paper"}),
    ],
)  # fmt: skip
def test_words_that_once_built_another_network(preset, changes):
    with pytest.raises(ValueError, match="one of '"):
        replace(presets()[preset].model, **changes)
