"""What opening a large data set costs: CPU seconds and memory of a process that opens it, and of one that does not.

    python -m benchmarks.opening --against ../old --json

Drawn are a file of JSON lines, every object named by three rows that each repeat its mask (an outline, a run-length
code or the path of a picture), and COCO's `instances.json`, with RefCOCO's share of objects that sentences are about.
Every opening is a process of its own; those of two versions take turns.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.side_by_side import compared, in_process, machine, say, told

from refseg.data.formats.rle import encode_rle

_OPEN = """
import json, sys, time
from refseg.data.sets import open_data
before = most_memory()
begun = time.process_time()
found = open_data(sys.argv[1], 'train')
seconds = time.process_time() - begun
print(json.dumps([seconds, (most_memory() - before) / 1024, sum(len(found.expressions(i)) for i in range(len(found)))]))
"""
WORDS = ("left", "man", "red", "the", "second", "with", "dog", "bus", "striped", "near")


def sentence(stream: random.Random) -> str:
    """Some words."""
    return " ".join(stream.choices(WORDS, k=stream.randint(1, 8)))


def outline(stream: random.Random) -> list[list[float]]:
    """A polygon with about as many corners as COCO's have, 37."""
    x, y = stream.uniform(20, 400), stream.uniform(20, 300)
    corners = range(stream.randint(6, 68))
    return [[round(value + stream.uniform(0, 90), 2) for _ in corners for value in (x, y)]]


def code(stream: random.Random) -> dict[str, Any]:
    """The run-length code of an ellipse."""
    y, x = np.ogrid[:480, :640]
    size, (top, left) = stream.uniform(20, 120), (stream.uniform(0, 480), stream.uniform(0, 640))
    return encode_rle(((y - top) / size) ** 2 + ((x - left) / size) ** 2 < 1)


def json_lines(folder: Path, rows: int, stream: random.Random, mask: str) -> Path:
    """Three rows for every object, five objects for every image."""
    codes = [code(stream) for _ in range(100)]
    with (folder / "data.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % 3 == 0:
                form = {
                    "outlines": outline(stream),
                    "codes": stream.choice(codes),
                    "pictures": f"masks/{number // 3}.png",
                }[mask]
            row = {"image": f"images/{number // 15:06}.jpg", "expression": sentence(stream), "mask": form}
            file.write(json.dumps(row | {"split": "val" if number % 150 < 15 else "train"}) + "\n")
    return folder


def coco(folder: Path, annotations: int, stream: random.Random) -> Path:
    """Ten objects for every image, three sentences about every fourth: about what RefCOCO has."""
    images = [{"id": n, "file_name": f"{n:012}.jpg", "height": 480, "width": 640} for n in range(annotations // 10 + 1)]
    objects = [
        {"id": n, "image_id": n // 10, "category_id": n % 80 + 1, "segmentation": outline(stream), "iscrowd": 0,
         "bbox": [1.0, 2.0, 30.5, 40.5], "area": 900.25}
        for n in range(annotations)
    ]  # fmt: skip
    categories = [{"id": n, "name": f"thing {n}"} for n in range(1, 81)]
    content = {"images": images, "annotations": objects, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    with (folder / "expressions.jsonl").open("w", encoding="utf-8") as file:
        for number in (number for number in range(0, annotations, 4) for _ in range(3)):
            file.write(json.dumps({"expression": sentence(stream), "ann_id": number, "split": "train"}) + "\n")
    return folder


def opened(checkout: Path, folder: Path) -> tuple[float, float, int]:
    """CPU seconds, MiB and expressions of a process that opens the training part of a data set."""
    seconds, memory, count = in_process(checkout, _OPEN, folder)
    return seconds, memory, count


def measure(name: str, folder: Path, versions: dict[str, Path], times: int) -> dict[str, Any]:
    """One data set opened by every version in turn."""
    found: dict[str, list[tuple[float, float, int]]] = {version: [] for version in versions}
    for _ in range(times):
        for version, checkout in versions.items():
            found[version].append(opened(checkout, folder))
    counts = {count for runs in found.values() for _, _, count in runs}
    assert len(counts) == 1, f"{name}: different expressions {counts}"
    rows = []
    for version, runs in found.items():
        seconds = [seconds for seconds, _, _ in runs]
        against = [seconds for seconds, _, _ in found["before"]] if version != "before" and "before" in found else None
        memory = round(statistics.median(mib for _, mib, _ in runs))
        rows.append({"name": version, **told(seconds, against), "mib": memory})
    return {"data": name, "expressions": counts.pop(), "rows": rows}


def main() -> None:
    """Draws the files, and opens them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another commit of this project")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the JSON lines")
    parser.add_argument("--annotations", type=int, default=200_000, help="annotations of COCO's file")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    versions, against = compared(given.against)
    with tempfile.TemporaryDirectory() as root:
        for name in ("outlines", "codes", "pictures", "coco"):
            folder, stream = Path(root, name), random.Random(given.seed)
            folder.mkdir()
            if name == "coco":
                coco(folder, given.annotations, stream)
            else:
                json_lines(folder, given.rows, stream, name)
            found = measure(name, folder, versions, given.times)
            found |= {"benchmark": "opening", **machine(1, "cpu"), "seed": given.seed, **against}
            say(found, given.json)


if __name__ == "__main__":
    main()
