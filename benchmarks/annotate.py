"""`refseg annotate` in one process and on two workers of Ray: rates, memory over time, and whether the rows are equal.

    python benchmarks/annotate.py --rows 20000 --json

Draws RefShapes scenes into a folder, each in eight positions with one of its expressions, and annotates them twice. The
rate is that between the first part and the last, without the start. Memory is the resident set of the process that was
started, of Ray's workers, and of Ray's own processes, at points over the time. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refseg.data.shapes import RefShapes

POINTS = 10
PART = 64  # rows


def draw(folder: Path, rows: int) -> Path:
    """Writes scenes, each turned and mirrored in all eight ways, and a list of them."""
    data, lines = RefShapes("refshapes", "train"), []
    for first in range(0, rows, 8):
        scene = data[first // 8]
        for number in range(first, min(first + 8, rows)):
            image = np.rot90(scene.image[:, :: -1 if number & 4 else 1], number & 3)
            Image.fromarray(image).save(folder / f"{number:06d}.png", compress_level=1)
            text = scene.expressions[number % len(scene.expressions)].text
            lines.append(json.dumps({"image": f"{number:06d}.png", "expression": text}) + "\n")
    (folder / "list.jsonl").write_text("".join(lines))
    return folder / "list.jsonl"


def tree(process: int) -> dict[int, str]:
    """A process and all below it, with what they are: `driver`, `worker` or `ray`."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):  # it has ended meanwhile, or is no process
            continue
    found = {process: "driver"}
    while more := {child for child, parent in parents.items() if parent in found} - set(found):
        found |= {child: "worker" if names[child].startswith(b"ray::Worker") else "ray" for child in more}
    return found


def memory(process: int) -> dict[str, float]:
    """Resident memory in MiB: of the driver, of the largest worker, of all workers, of the rest."""
    sizes = defaultdict(list)
    for each, kind in tree(process).items():
        try:
            pages = int(Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1])
            sizes[kind].append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        except OSError:
            continue
    return {kind: round(sum(found), 1) for kind, found in sizes.items()}


def run(given: Path, out: Path, model: str, rows: int, more: list[str]) -> dict[str, Any]:
    """Runs the command and looks at its memory whenever a tenth more is done."""
    command = [sys.executable, "-m", "refseg", "annotate", str(given), str(out), "--model", model, "--rows", str(PART)]
    start = time.monotonic()
    process = subprocess.Popen([*command, *more], env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    parts, found, seen = -(-rows // PART), [], []
    while process.poll() is None:
        time.sleep(0.5)
        done = len(list(out.glob("part-*"))) if out.is_dir() else 0
        if done and (not seen or done != seen[-1][1]):
            seen.append((time.monotonic(), done))
        if done * POINTS >= parts * len(found) and done:
            found.append({"rows": min(rows, done * PART), "seconds": round(time.monotonic() - start, 1),
                          **memory(process.pid)})  # fmt: skip
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    (first, before), (last, after) = seen[0], seen[-1]
    return {
        "seconds": round(time.monotonic() - start, 1),
        "rows_per_second": round((after - before) * rows / parts / max(0.5, last - first), 2), "memory_mib": found,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--model", default="lgformer-shapes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        listed = draw(folder / "in", given.rows)
        one = run(listed, folder / "one", given.model, given.rows, [])
        ray = ["--ray", "local", "--workers", str(given.workers)]
        several = run(listed, folder / "ray", given.model, given.rows, ray)
        lines = [
            [line for file in sorted((folder / out).glob("part-*")) for line in file.read_text().splitlines()]
            for out in ("one", "ray")
        ]
    found = {
        "model": given.model, "rows": len(lines[0]), "different_rows": sum(a != b for a, b in zip(*lines, strict=True)),
        "one_process": one, f"ray_{given.workers}_workers": several, "date": date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }  # fmt: skip
    if given.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:16} {value}")


if __name__ == "__main__":
    main()
