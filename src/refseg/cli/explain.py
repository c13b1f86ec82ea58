"""`refseg explain`: a figure of why a mask came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from refseg.cli.options import DeviceOption, JsonOption, ModelOption, find_any_model, load_predictor
from refseg.cli.segment import warn_of_unread


def explain(
    image: Annotated[Path, typer.Argument(help="An image.")],
    expression: Annotated[str, typer.Argument(help="What to find. Before one that begins with -, put --.")],
    model: ModelOption = "lgformer-shapes",
    out: Annotated[
        Path | None, typer.Option(help="The figure, a .png or .svg; STEM.explain.png in the current folder by default.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is no figure of the same image, expression and model.")
    ] = False,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Draw what every word of EXPRESSION changes in IMAGE, and what the method shows of its way to the mask."""
    from refseg.data.expressions import check_expression
    from refseg.data.formats.images import read_image
    from refseg.explain.stamp import check_free

    check_expression(expression)
    target = Path(f"{image.stem}.explain.png") if out is None else out
    pixels = read_image(image)  # a bad image is said before the model is loaded
    if target.exists() and target.samefile(image):
        raise ValueError(f"{target}: is the image, and would be replaced; another name is accepted")
    check_free(target, None, overwrite)
    found = find_any_model(model)
    from refseg.explain import explain as explained

    predictor = load_predictor(found, device)
    warn_of_unread(predictor.about, [expression])
    explanation = explained(pixels, expression, predictor)
    explanation.save(target, overwrite)
    if as_json:
        typer.echo(json.dumps({"image": str(image), **explanation.numbers(), "figure": str(target)}))
        return
    for row in explanation.numbers()["words"]:
        typer.echo(f"  {row['word']}: {_told(row)}")
    typer.echo(f"{expression}: {_answer(explanation.numbers())} -> {target}")


def _told(row: dict[str, Any]) -> str:
    """What a word changes, in words."""
    if row["mask_change"] is None:
        return "not read" if row["read"] == "no" else "not defined, there is no other word"
    fall = "" if row["probability_fall"] is None else f", probability fall {row['probability_fall']:+.2f}"
    return f"mask change {row['mask_change']:.2f}{fall}"


def _answer(numbers: dict[str, Any]) -> str:
    score = "" if numbers["score"] is None else f"score {numbers['score']:.2f}, "
    return f"{score}{numbers['area']} pixels" if numbers["area"] else "nothing found"
