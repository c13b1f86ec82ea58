"""Answers as COCO's results, which pycocotools and what builds on it load."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from refseg.data.formats.rle import decode_rle
from refseg.fields import as_id, as_text, shown
from refseg.files import write_text_beside
from refseg.prediction import Prediction
from refseg.scoring.predictions import PredictionFile


def coco_results(file: PredictionFile) -> list[dict[str, Any]]:
    """The answers of a predictions file.

    Returns:
        Per expression `image_id` (a number where it is one, as in COCO), `category_id` 1, `segmentation` as compressed
        run-length code, `bbox`, `area`, `score` (1 where the model gives none, since COCO needs one), `expression` and
        `sent_id`.

    Raises:
        ValueError: A mask is damaged, has the size of a network instead of its image's, or its image is not named.
    """
    if file.config() is not None:
        raise ValueError(f"{file.path}: masks of a network's size; those of a protocol at the image's own size, as "
                         "original, are accepted")  # fmt: skip
    results = []
    for sent_id in file.in_order:
        row = file.row(sent_id)
        where = f"{file.path}: expression {sent_id!r}"
        if "image_id" not in row:
            raise ValueError(f"{where}: without image_id; predictions that name their image are accepted")
        try:
            mask = decode_rle(row["rle"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        text, score = row.get("expression"), row.get("score")
        if score is not None and (type(score) not in (int, float) or not math.isfinite(score)):
            raise ValueError(f"{where}: score {shown(score)}; a number, or null, is accepted")
        answer = Prediction(as_text("" if text is None else text, where), mask, 1.0 if score is None else score, None)
        image = as_id(row["image_id"], f"{where}: image_id")
        number = image.isascii() and image.isdigit() and len(image) < 16 and str(int(image)) == image
        results.append(
            {
                "image_id": int(image) if number else image,
                "category_id": 1,
                **answer.to_coco(),
                "sent_id": sent_id,
            }
        )
    return results


def write_coco_results(predictions: Path, out: Path, overwrite: bool = False) -> int:
    """Writes the answers of a predictions file as COCO's results, and returns how many there are.

    Raises:
        ValueError: It is no predictions file, `out` is that file, or is there already and nothing said that it is
            replaced.
    """
    if out.exists() and predictions.exists() and out.samefile(predictions):
        raise ValueError(f"{out}: is read and would be replaced; another name is accepted")
    if out.exists() and not overwrite:
        raise ValueError(f"{out}: is there already; another name is accepted, or --overwrite")
    results = coco_results(PredictionFile(predictions))
    write_text_beside(out, json.dumps(results, allow_nan=False) + "\n")
    return len(results)
