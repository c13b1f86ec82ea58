"""`refseg segment`: masks and pictures of what expressions refer to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from refseg.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    complain,
    load_predictor,
)


def segment(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE EXPRESSION...", help="An image and what to find in it.")
    ] = None,
    model: ModelOption = "lgformer-shapes",
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path(),
    as_json: JsonOption = False,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="JSON lines with image and expression(s), instead of IMAGE; resumes.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Segment what each EXPRESSION refers to in IMAGE; writes a mask and an overlay per expression.

    The packaged models know the drawn shapes of RefShapes; photos need a model that was trained on photos.
    """
    from refseg.files import prepare_folder
    from refseg.segment import read_list, segment_image, segment_list

    given = arguments or []
    if list_file is not None and given:
        raise ValueError(f"{given[0]!r} and --list: one of the two is accepted, an image or a list")
    if list_file is None and len(given) < 2:
        raise ValueError(f"{len(given)} argument(s): an image and at least one expression are accepted, or --list FILE")
    if list_file is not None:
        tasks = read_list(list_file)
        predictor = load_predictor(model, device)
        prepare_folder(out)
        results, problems = [], []
        for done, problem in segment_list(predictor, tasks, out):
            results += done
            if problem:
                problems.append(problem)
                complain(f"{list_file} {problem}")
            elif not as_json:
                _print_segments(done)
        if as_json:
            typer.echo(json.dumps(results))
        if problems:
            raise typer.Exit(2)
        return
    from refseg.data.formats.images import read_image
    from refseg.predictor import check_expression

    for text in given[1:]:
        check_expression(text)
        if len(text) < 256 and Path(text).is_file():  # a shell's *.jpg; no name of a file is longer
            raise ValueError(f"expression {text!r}: is a file; one image and expressions are accepted, or --list FILE")
    image = Path(given[0])
    pixels = read_image(image)  # a bad image is said before the model is loaded
    predictor = load_predictor(model, device)
    prepare_folder(out)
    results = segment_image(predictor, image, pixels, tuple(given[1:]), tuple(range(1, len(given))), out)
    if as_json:
        typer.echo(json.dumps(results))
    else:
        _print_segments(results)


def _print_segments(results: list[dict[str, Any]]) -> None:
    for result in results:
        found = f"score {result['score']:.2f}, {result['area']} pixels" if result["area"] else "nothing found"
        typer.echo(f"{result['expression']}: {found} -> {result['overlay']}")
