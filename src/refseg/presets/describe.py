"""The presets as plain data: the content of `table.json`."""

from __future__ import annotations

import json
from dataclasses import asdict

from refseg.presets import presets


def table_text() -> str:
    """JSON, a preset a line, in the order of `presets`."""
    rows = [
        {
            "name": preset.name,
            "method": preset.method,
            "source": preset.source,
            "scores": dict(preset.scores),
            "note": preset.note,
            "steps": preset.recipe.steps,
            "switches": asdict(preset.model),
        }
        for preset in presets().values()
    ]
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"
