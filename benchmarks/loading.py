"""What feeding a training costs: CPU seconds a photo, read, fitted to 480 pixels, with the masks of two expressions.

    python -m benchmarks.loading PHOTOS --against ../old --json

PHOTOS is a folder with COCO's `instances.json` and its photos in `images`. An expression is made for every object of
at least 1 % of its photo. One thread reads batches of eight photos, as every worker of a training does; two versions
take turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.side_by_side import ROOT, Version, in_turn, machine, say, told

BATCH, SIDE = 8, 480


def expressions(photos: Path, folder: Path) -> Path:
    """A data set about the photos: `instances.json` and an expression for every object that is not small."""
    content = json.loads((photos / "instances.json").read_text(encoding="utf-8"))
    sizes = {image["id"]: image["height"] * image["width"] for image in content["images"]}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "images").symlink_to((photos / "images").resolve())
    rows = [
        json.dumps({"ann_id": annotation["id"], "expression": f"number {annotation['id']}", "split": "train"})
        for annotation in content["annotations"]
        if not annotation["iscrowd"] and annotation["area"] > 0.01 * sizes[annotation["image_id"]]
    ]
    (folder / "expressions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def batches(version: Version, data: Path) -> Any:
    """The batches of a training on the data, as a version of the package makes them."""
    with version:
        from refseg.data.loader import TrainingBatches
        from refseg.data.sets import open_data
        from refseg.presets import get_preset

        return TrainingBatches(
            open_data(str(data), "train"), _no_words, get_preset("lgformer").input, BATCH, 2, 0, 10**6, False
        )


class _Words:
    ids = mask = torch.zeros(1, 1)


def _no_words(sentences: Any, max_tokens: int) -> _Words:
    """No tokenizer: its file is not needed to read photos."""
    return _Words()


def main() -> None:
    """Reads the photos with every version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder with COCO's instances.json and images")
    parser.add_argument("--against", type=Path, help="a checkout of another commit of this project")
    parser.add_argument("--count", type=int, default=160, help="photos a turn")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"now": Version(ROOT)}
    if given.against is not None:
        versions = {"before": Version(given.against.resolve()), **versions}
    with tempfile.TemporaryDirectory() as root:
        data = expressions(given.photos, Path(root))
        made = {name: batches(version, data) for name, version in versions.items()}

        def read(name: str) -> None:
            with versions[name]:
                for step in range(given.count // BATCH):
                    made[name][step]

        seconds = in_turn({name: lambda name=name: read(name) for name in versions}, given.times, "cpu")
    photos = given.count // BATCH * BATCH
    rows = []
    for name, found in seconds.items():
        each = [second / photos for second in found]
        against = None if "before" not in seconds or name == "before" else [s / photos for s in seconds["before"]]
        rows.append(
            {"name": name, **told(each, against), "photos_a_second": round(1 / sorted(each)[len(each) // 2], 1)}
        )
    where = machine(1, "cpu") | ({} if given.against is None else {"against": versions["before"].commit})
    say({"benchmark": "loading", "side": SIDE, "photos": photos, "rows": rows, **where}, given.json)


if __name__ == "__main__":
    main()
