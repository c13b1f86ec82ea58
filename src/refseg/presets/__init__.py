"""Named configurations, one paper a file. Every number that comes from a paper stands here, with its score beside it.

`METHOD` is the paper, `METHOD-released` its published code where that differs, `METHOD-shapes` the compact version that
learns RefShapes on a laptop, `METHOD/ROW` a row of the paper's ablation tables, also for the compact version.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from refseg.presets import alignformer, crformer, eavl, jmceln, lavt, lgformer
from refseg.presets.base import Encoders, Preset, Recipe, override, shapes_tokenizer

__all__ = ["Encoders", "Preset", "Recipe", "get_preset", "override", "presets", "shapes_tokenizer"]


@cache
def presets() -> dict[str, Preset]:
    """All presets by name: the papers first, then what was made from them."""
    every = [preset for paper in (alignformer, crformer, eavl, jmceln, lavt, lgformer) for preset in paper.presets()]
    return {preset.name: preset for preset in sorted(every, key=lambda preset: "/" in preset.name)}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: There is none; the message lists what there is instead.
    """
    if name not in presets():
        near = get_close_matches(name, presets(), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        main = ", ".join(known for known in presets() if "/" not in known)
        raise ValueError(
            f"preset {name!r}: unknown{meant}; accepted are {main}, and rows as `refseg models` lists them"
        )
    return presets()[name]
