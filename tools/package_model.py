"""Puts a trained model into the package: float16, at most 6 MB.

Usage: python tools/package_model.py RUN/best lgformer-shapes
"""

from __future__ import annotations

import sys
from dataclasses import replace

from refseg.weights.folders import PACKAGED
from refseg.weights.store import load_model, save_model

LIMIT = 6_000_000


def main(source: str, name: str) -> None:
    """Loads, writes, and says how large it became."""
    folder = PACKAGED / name
    save_model(replace(load_model(source), name=name), folder, half=True)
    size = (folder / "model.safetensors").stat().st_size
    print(f"{folder}: {size / 1e6:.2f} MB")
    if size > LIMIT:
        sys.exit(f"more than the {LIMIT / 1e6:.0f} MB that a packaged model may have")


if __name__ == "__main__":
    main(*sys.argv[1:])
