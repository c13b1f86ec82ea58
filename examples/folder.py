"""Segments every photo of a folder with one expression and writes COCO's results.

python folder.py PHOTOS "the dog" answers.json --model florence-2-base-ft

An image that cannot be read is told and passed over; then the exit code is 2. `image_id` is the name of the file, or
its number where it has nothing else, as in COCO. A file that is there already is never written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from refseg import Predictor

KINDS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def main() -> None:
    """Asks about one photo after the other; the file is written when all were asked."""
    parser = argparse.ArgumentParser(description="Segments every photo of a folder and writes COCO's results.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("expression")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="lgformer-shapes")
    given = parser.parse_args()
    if given.out.exists():
        sys.exit(f"{given.out}: is there already; a new file is accepted")
    if not given.photos.is_dir():
        sys.exit(f"{given.photos}: no such folder; a folder of photos is accepted")
    files = sorted(file for file in given.photos.iterdir() if file.suffix.lower() in KINDS)
    if not files:
        sys.exit(f"{given.photos}: has no photo; files ending in {', '.join(sorted(KINDS))} are accepted")
    predictor = Predictor.from_pretrained(given.model)
    results, bad = [], 0
    for file in files:
        try:
            answer = predictor(file, given.expression)
        except ValueError as error:
            bad += 1
            print(error, file=sys.stderr)
            continue
        row = answer.to_coco()
        score = 1.0 if row["score"] is None else row["score"]  # COCO needs one, and some models give none
        name = int(file.stem) if file.stem.isascii() and file.stem.isdigit() else file.name
        results.append({"image_id": name, "category_id": 1, **row, "score": score})
    with given.out.open("x") as file:  # refused if somebody else wrote it meanwhile
        json.dump(results, file)
    print(f"{len(results)} answers in {given.out}")
    sys.exit(2 if bad else 0)


if __name__ == "__main__":
    main()
