"""Presets: every number that comes from a paper, with its score beside it, one paper a file. No network is built here.

`METHOD` is the paper, `METHOD-released` its published code where that differs, `METHOD-shapes` the compact version that
learns RefShapes on a laptop, `METHOD/ROW` a row of the paper's ablation tables, also for the compact version.

The presets themselves need the methods, and these need torch; `table.json` says the same to whoever only wants to know
(`python tools/preset_table.py` writes it, and a test compares them).
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refseg.presets.base import Preset

TABLE = Path(__file__).parent / "table.json"


@cache
def presets() -> dict[str, Preset]:
    """All presets by name: the papers first, then what was made from them."""
    from refseg.presets import alignformer, crformer, eavl, jmceln, lavt, lgformer

    every = [preset for paper in (alignformer, crformer, eavl, jmceln, lavt, lgformer) for preset in paper.presets()]
    return {preset.name: preset for preset in sorted(every, key=lambda preset: "/" in preset.name)}


@cache
def preset_table() -> dict[str, dict[str, Any]]:
    """By name what `refseg models` says of a preset: name, method, source, scores, note, steps and switches."""
    return {entry["name"]: entry for entry in json.loads(TABLE.read_text(encoding="utf-8"))}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: See `check_preset`.
    """
    check_preset(name)
    return presets()[name]


def check_preset(name: str) -> None:
    """Makes sure that there is such a preset, without building one.

    Raises:
        ValueError: There is none; the message lists what there is instead.
    """
    known = preset_table()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        main = ", ".join(each for each in known if "/" not in each)
        raise ValueError(
            f"preset {name!r}: unknown{meant}; accepted are {main}, and rows as `refseg models` lists them"
        )
