"""Measures how fast RefShapes makes samples on one core. Prints JSON.

    python benchmarks/shapes.py [--scenes 1000]

A scene comes with all its masks and expressions; a sample is one expression with its image and its mask.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time

import numpy as np

from refseg.data.shapes import SETS, RefShapes


def measure(name: str, long_side: int | None, scenes: int) -> dict[str, float]:
    """Samples and scenes per second and core for the first scenes of the training split of a set."""
    data = RefShapes(name, "train")
    data[2**30]  # warm up
    samples = 0
    start = time.process_time()
    for index in range(scenes):
        if long_side is None:
            sample = data[index]
        else:
            width, height = data.scene(index).size
            scale = long_side / max(width, height)
            sample = data.draw(index, round(width * scale), round(height * scale))
        samples += len(sample.expressions)
    seconds = time.process_time() - start
    return {"samples_per_second": round(samples / seconds, 1), "scenes_per_second": round(scenes / seconds, 1)}


def main() -> None:
    """Reads the arguments, measures every set at two sizes and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--scenes", type=int, default=1000, help="scenes per measurement")
    scenes = parser.parse_args().scenes
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.processor() or platform.machine(), "system": platform.system()},
        "python": platform.python_version(),
        "numpy": np.__version__,
        "split": "train",
        "indices": [0, scenes],
        "per_core": {
            name: {"128 px": measure(name, 128, scenes), "own size, 192 px": measure(name, None, scenes)}
            for name in SETS
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
