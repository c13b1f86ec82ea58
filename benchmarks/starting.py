"""How long commands take to start: CPU seconds (user and system) of whole processes, the least and the median.

Usage: python benchmarks/starting.py [--times 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = (
    ("--version",),
    ("models",),
    ("compare", "a", "b"),
    ("data", "check", "examples", "--fast"),
    ("segment", "nowhere.png", "red"),
    ("eval", "nowhere"),
    ("train", "nothing"),
    ("eval", "--wrong"),
    ("segment", "examples/scene.png", "the striped square", "--out", "OUT"),
)


def seconds(command: tuple[str, ...]) -> float:
    """CPU time of one process and its children."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "refseg", *command], capture_output=True, cwd=ROOT)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as out:
        for command in COMMANDS:
            given = tuple(out if word == "OUT" else word for word in command)
            found = [seconds(given) for _ in range(times)]
            print(f"{min(found):5.2f} {statistics.median(found):5.2f} s  refseg {' '.join(command)}", flush=True)


if __name__ == "__main__":
    main()
