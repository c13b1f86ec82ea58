"""Why a mask came out: what every word changes, and what a method shows of its way, as arrays and as one figure.

`make` asks the model, `words` cuts sentences, `importance` counts, `panels` turns a method's details into what is
drawn, `layout` places the blocks on a page of `shapes`, which `png` and `svg` draw alike; `stamp` knows its own files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refseg.explain.explanation import Explanation
    from refseg.explain.make import explain
    from refseg.explain.panels import Maps, Table

__all__ = ["Explanation", "Maps", "Table", "explain"]

_HOMES = {"Explanation": "explanation", "explain": "make", "Maps": "panels", "Table": "panels"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: whoever looks at files alone does not wait for torch.

    Raises:
        AttributeError: There is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
