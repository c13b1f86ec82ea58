"""Writes what `refseg models` says of the presets, so that it need not build them.

Usage: python tools/preset_table.py
"""

from __future__ import annotations

from refseg.files import write_text_beside
from refseg.presets import TABLE
from refseg.presets.describe import table_text

if __name__ == "__main__":
    write_text_beside(TABLE, table_text())
    print(TABLE)
