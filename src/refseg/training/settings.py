"""A preset with some of its numbers changed from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from refseg.fields import parse_json, shown
from refseg.presets import presets
from refseg.presets.base import Preset
from refseg.weights.store import config_from_dict

PARTS = ("model", "input", "recipe")


def own_steps(preset: Preset, items: int | None) -> int:
    """Steps of a run that was told neither steps nor epochs.

    As many epochs of its data as the paper trains, in whole batches as the papers' code counts them; the preset's own
    number where that was set, where it is ours, and where the data have no end.

    Args:
        preset: What to train.
        items: References, or images where a preset reads several expressions of one; None for data without an end.
    """
    named = presets().get(preset.name)
    set_by_hand = named is None or named.recipe.steps != preset.recipe.steps
    if items is None or set_by_hand or not preset.epochs:
        return preset.recipe.steps
    return preset.epochs * max(1, items // preset.recipe.images_per_batch)


def with_settings(preset: Preset, settings: Sequence[str]) -> Preset:
    """The preset with `KEY=VALUE` changes, such as `recipe.lr=1e-4` or `input.max_tokens=22`.

    Args:
        preset: The preset.
        settings: Keys are fields of its `model`, `input` or `recipe`, with dots into nested ones; values are JSON, or
            words.

    Raises:
        ValueError: A setting has no such form, its key names no field, or its value is of another type.
    """
    for setting in settings:
        key, sign, text = setting.partition("=")
        part, _, field = key.partition(".")
        if not sign or part not in PARTS or not field:
            raise ValueError(f"--set {shown(setting)}: KEY=VALUE is accepted, with a KEY below {', '.join(PARTS)}, "
                             "such as recipe.lr=1e-4")  # fmt: skip
        config = getattr(preset, part)
        try:
            preset = replace(preset, **{part: _changed(config, part, field.split("."), _value(text))})
        except (ValueError, OverflowError) as error:
            raise ValueError(f"--set {shown(setting)}: {error}") from error
    return preset


def _changed(config: Any, part: str, path: Sequence[str], value: Any) -> Any:
    """A config with one field, below it by a path, set to what JSON made of its value; types are checked."""
    stored = inner = json.loads(json.dumps(asdict(config)))
    for depth, name in enumerate(path):
        if not isinstance(inner, dict) or name not in inner:
            has = f"it has {', '.join(inner)}" if isinstance(inner, dict) else "it is a value"
            raise ValueError(f"{'.'.join([part, *path[:depth]])} has no field {name!r}; {has}")
        if depth + 1 == len(path):
            inner[name] = value
        inner = inner[name]
    return config_from_dict(type(config), stored, part)


def _value(text: str) -> Any:
    try:
        return parse_json(text, "the value")
    except ValueError as error:
        if "nested too deeply" in str(error):
            raise
        return text  # a word, or a number of thousands of digits
