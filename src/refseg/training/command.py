"""The command that a run would be begun with again, from what its folder says that it was told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from refseg.presets import get_preset
from refseg.presets.base import Preset
from refseg.training.config import PARTS, READING, Run, read_run
from refseg.training.pretrain import encoder_preset
from refseg.weights.folders import ENCODERS

_NAMES = {"recompute": "gradient-checkpointing"}


def command_of(out: Path, preset: str) -> str:
    """The command of the run in a folder, as a shell takes it.

    Args:
        out: The folder.
        preset: Name of the run's preset.

    Raises:
        ValueError: Its `run.json` cannot be read as what a run was told.
    """
    pretrained = preset in ENCODERS
    find: Callable[[str], Preset] = encoder_preset if pretrained else get_preset
    run = read_run(out, find)
    words = ["refseg", "pretrain" if pretrained else "train", run.preset.name]
    if not pretrained:
        words += [word for name in run.data for word in ("--data", name)]
    for part in PARTS:
        changes = _changes(asdict(getattr(find(run.preset.name), part)), asdict(getattr(run.preset, part)), part)
        words += [word for key, value in changes for word in ("--set", f"{key}={json.dumps(value)}")]
    words += _options(run)
    return shlex.join([*words, "--out", str(out)])


def _options(run: Run) -> Iterator[str]:
    told = {field.name: (getattr(run, field.name), field.default) for field in fields(Run)}
    told |= {name: (getattr(run.reading, name), field.default) for name, field in _reading_fields(run).items()}
    for name in ("preset", "data", "out", "reading", "overwrite"):
        del told[name]
    for name, (value, default) in told.items():
        if value == default or default is MISSING:
            continue
        yield "--" + _NAMES.get(name, name).replace("_", "-")
        if value is not True:
            yield str(value)


def _reading_fields(run: Run) -> dict[str, Any]:
    return {field.name: field for field in fields(run.reading) if field.name in READING}


def _changes(base: dict[str, Any], own: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """The fields in which a config differs, by their dotted names."""
    for name, value in own.items():
        before = base.get(name)
        if isinstance(value, dict) and isinstance(before, dict) and value.keys() == before.keys():
            yield from _changes(before, value, f"{where}.{name}")
        elif value != before:
            yield f"{where}.{name}", value
