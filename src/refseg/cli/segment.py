"""`refseg segment`: masks and pictures of what expressions refer to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refseg.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    complain,
    find_any_model,
    load_predictor,
)

if TYPE_CHECKING:
    from refseg.annotate.rows import Row
    from refseg.answers import About


def segment(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE EXPRESSION...",
            help="An image, or a folder of them, and what to find. Before an expression that begins with -, put --.",
        ),
    ] = None,
    model: ModelOption = "lgformer-shapes",
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path(),
    threshold: Annotated[float, typer.Option(help="Probability above which a pixel is in the mask.")] = 0.5,
    masks_only: Annotated[bool, typer.Option("--masks-only", help="Write no overlays.")] = False,
    as_json: JsonOption = False,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="JSON lines with image and expression(s), instead of IMAGE; resumes.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images of a list; its own by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images of a list or folder.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are not of the same image, expression and model.")
    ] = False,
    precision: PrecisionOption = "auto",
    device: DeviceOption = None,
) -> None:
    """Segment what each EXPRESSION refers to in IMAGE; writes a mask and an overlay per expression.

    A file that is there and is of another image, expression or model is kept; the answer takes the next free number.

    The packaged models know the drawn shapes of RefShapes; photos need a model that was trained on photos.
    """
    from refseg.annotate.rows import IMAGES, Row
    from refseg.data.expressions import check_expression
    from refseg.data.formats.images import read_image
    from refseg.fast.choice import check_precision
    from refseg.segment import Writing, folder_tasks, read_list

    how = Writing(threshold, not masks_only)
    check_precision(precision)
    given = arguments or []
    run = partial(_segment_all, model=model, device=device, precision=precision, out=out, how=how, as_json=as_json,
                  overwrite=overwrite)  # fmt: skip
    if list_file is not None:
        if given:
            raise ValueError(f"{given[0]!r} and --list: one of the two is accepted, an image or a list")
        run(read_list(list_file, images)[:limit], str(list_file))
        return
    if images is not None:
        raise ValueError(f"--images {images} without --list: the folder of a list's images is accepted")
    if len(given) < 2:
        raise ValueError(f"{len(given)} argument(s): an image and at least one expression are accepted, or --list FILE")
    texts = tuple(given[1:])
    for text in texts:
        check_expression(text)
        named = os.sep in text or Path(text).suffix.lower() in IMAGES
        if named and os.path.isfile(text):  # a shell's *.jpg
            raise ValueError(f"expression {text!r}: is a file; one image and expressions are accepted, a folder of "
                             "images and expressions, or --list FILE")  # fmt: skip
    if not given[0]:
        raise ValueError("image '': an image or a folder of images is accepted")
    image = Path(given[0])
    if os.path.isdir(image):  # unlike Path, it admits names that are too long
        run(folder_tasks(image, texts)[:limit], str(image))
        return
    if limit is not None:
        raise ValueError(f"--limit {limit} with one image: with a list or a folder it is accepted")
    read_image(image)  # a bad image is said before the model is loaded
    run([Row(image, texts, "line 1")], str(image), again=True)


def _segment_all(
    tasks: list[Row],
    source: str,
    model: str,
    device: str | None,
    precision: str,
    out: Path,
    how: Any,
    as_json: bool,
    overwrite: bool,
    again: bool = False,
) -> None:
    """Works through a list or a folder; a bad image leaves its row out and gives exit code 2."""
    from refseg.files import FolderLock, prepare_folder
    from refseg.progress import ProgressBar
    from refseg.segment import segment_list

    predictor = load_predictor(find_any_model(model), device, precision)
    warn_of_unread(predictor.about, [text for task in tasks for text in task.expressions])
    prepare_folder(out)
    results: list[dict[str, Any]] = []
    problems = finished = 0
    hidden = len(tasks) == 1 or not sys.stderr.isatty()
    with FolderLock(out), ProgressBar("segmenting", len(tasks), hidden) as bar, _telling(lambda: finished, len(tasks)):
        for done in segment_list(predictor, tasks, out, how, again, overwrite):
            finished += 1
            bar.advance(1)
            results += done.results
            for note in done.notes:
                complain(note)
            if done.problem:
                problems += 1
                complain(f"{source} {done.problem}")
            elif not as_json:
                _print_segments(done.results)
    if as_json:
        typer.echo(json.dumps(results))
    if problems:
        raise typer.Exit(2)


@contextmanager
def _telling(finished: Callable[[], int], of: int) -> Iterator[None]:
    """An interruption of a list or folder says how far it came."""
    try:
        yield
    except KeyboardInterrupt as error:
        if of == 1:
            raise
        raise KeyboardInterrupt(f"after {finished()} of {of} images; the same command goes on") from error


def warn_of_unread(about: About, texts: list[str]) -> None:
    """Says which words a model that learned from drawn shapes alone has never read, and the way to one of photos."""
    from refseg.hub_models.catalogue import PHOTO_MODEL

    if unread := about.unread(texts):
        complain(f"warning: {unread}. With a connection `--model {PHOTO_MODEL}` knows photos; `refseg models` lists "
                 "others")  # fmt: skip


def _print_segments(results: list[dict[str, Any]]) -> None:
    for result in results:
        score = "" if result["score"] is None else f"score {result['score']:.2f}, "
        found = f"{score}{result['area']} pixels" if result["area"] else "nothing found"
        typer.echo(f"{result['expression']}: {found} -> {result['overlay'] or result['mask']}")
