"""The pictures of the README, made by the packaged model.

Usage: python tools/pictures.py [MODEL]

Writes examples/scene.png (a scene of RefShapes val, drawn larger) and, in docs/images, segment.png (what the model
makes of it), explain.png (why it answers the first question so) and kinds.png (the first two expressions of every kind
in RefShapes val, right or wrong, with their IoU).
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from refseg import Predictor
from refseg.data.shapes import RefShapes
from refseg.explain import explain
from refseg.scoring.metrics import count_pixels
from refseg.visualize import captioned, contact_sheet, overlay

ROOT = Path(__file__).parents[1]
SCENE, SIDE = 3, 448
QUESTIONS = ("the striped square", "the big purple square", "cyan square on the right")
KINDS = ("attribute", "location", "ordinal", "superlative", "relation", "two-hop", "negation")
PER_KIND = 2


def main(model: str = "lgformer-shapes") -> None:
    """Draws and writes all three."""
    predictor = Predictor.from_pretrained(model)
    data = RefShapes("refshapes", "val")
    width, height = data.scene(SCENE).size
    image = data.draw(SCENE, SIDE * width // max(width, height), SIDE * height // max(width, height)).image
    Image.fromarray(image).save(ROOT / "examples" / "scene.png")
    pictures = [captioned(Image.fromarray(image), "the image")]
    for found in predictor(image, list(QUESTIONS)):
        pictures.append(captioned(overlay(image, found.mask), f"{found.expression} ({found.score:.2f})"))
    small = [picture.resize((picture.width * 5 // 8, picture.height * 5 // 8)) for picture in pictures]
    contact_sheet(small, columns=4).save(ROOT / "docs" / "images" / "segment.png", optimize=True)
    figure = explain(image, QUESTIONS[0], predictor).figure(2)
    few = figure.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(ROOT / "docs" / "images" / "explain.png", optimize=True)

    shown: dict[str, list[Image.Image]] = {kind: [] for kind in KINDS}
    for index in range(len(data)):
        sample = data[index]
        for number, expression in enumerate(sample.expressions):
            cell = shown[expression.kind or ""]
            if len(cell) < PER_KIND:
                found = predictor(sample.image, expression.text)
                shared, own, target = count_pixels(found.mask, sample.mask(number))
                iou = shared / (own + target - shared)
                text = f"{expression.kind}: {expression.text} (IoU {iou:.2f})"
                cell.append(captioned(overlay(sample.image, found.mask), text, size=12))
        if all(len(cell) == PER_KIND for cell in shown.values()):
            break
    cells = [picture for kind in KINDS for picture in shown[kind]]
    contact_sheet(cells, columns=7).save(ROOT / "docs" / "images" / "kinds.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
