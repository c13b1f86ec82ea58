"""`refseg annotate`: rows of masks for lists, folders, tars and tables of any length."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from refseg.cli.options import (
    DeviceOption,
    ModelOption,
    OwnPrecisionOption,
    complain,
    find_any_model,
    load_predictor,
)

SHOWN = 5  # errors that are printed; all stand in the output


def annotate(
    input_: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A list in JSON lines, a folder of images, .tar archives or .parquet files; several by a pattern: "
            "'shards/{000..009}.tar', 'data/*.parquet'.",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(metavar="OUTPUT", help="A folder of parts, or one file that ends in .jsonl or .parquet."),
    ],
    model: ModelOption = "lgformer-shapes",
    expression: Annotated[
        list[str] | None,
        typer.Option(help="Asked of every image, instead of what its row asks; may be given several times."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of a list or of Parquet; its own by default.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Probability above which a pixel is in the mask.")] = 0.5,
    format_: Annotated[
        str | None, typer.Option("--format", help="jsonl or parquet for a folder of parts; jsonl by default.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Rows of the input in a part.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many rows of the input.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Make parts again that have a row with an error.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Answer on Ray: local, auto, or HOST:PORT of a cluster."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Ray's workers; one per CPU, or GPU, by default.")
    ] = None,
    precision: OwnPrecisionOption = None,
    device: DeviceOption = None,
) -> None:
    """Answer every row of INPUT and write rows with mask, box, score and error to OUTPUT; started again, it goes on.

    A row that cannot be answered says why, and the others are done.
    """
    from refseg.annotate.answering import check_probability
    from refseg.annotate.job import Job, output_of
    from refseg.annotate.opening import open_source
    from refseg.data.expressions import check_expression
    from refseg.fast.choice import check_precision

    if workers is not None and ray is None:
        raise ValueError(f"--workers {workers} without --ray: with --ray it is accepted")
    check_probability(threshold)
    if precision is not None:
        check_precision(precision)
    for text in expression or []:
        check_expression(text)
    source = open_source(input_, images, tuple(expression or ()))
    to = output_of(output, format_)
    found = find_any_model(model)
    source.check(rows)
    answering = _executor(source, threshold, found, model, ray, workers, device, precision)
    with Job(source, to, threshold, rows, limit) as job, answering as executor:
        inputs, written, errors = _run(job, executor, retry)
    where = to.file or to.folder
    bad = f", {errors} of them with an error" if errors else ""
    typer.echo(
        f"{written} rows for {inputs} of the input{bad} -> {where}" if inputs else f"nothing left to do -> {where}"
    )
    if errors == written > 0 and not job.before:
        raise typer.Exit(2)


def _executor(
    source: Any,
    threshold: float,
    found: Any,
    model: str,
    ray: str | None,
    workers: int | None,
    device: str | None,
    precision: str | None,
) -> Any:
    if ray is None:
        from refseg.annotate.job import InProcess

        return nullcontext(InProcess(load_predictor(found, device, precision), source, threshold))
    from refseg.annotate.workers import OnRay

    return OnRay(model, source, threshold, ray, workers, device, complain, precision)


def _run(job: Any, executor: Any, retry: bool) -> tuple[int, int, int]:
    """Works through a job; rows of the input, rows that were written, and those with an error."""
    from refseg.fields import printable
    from refseg.progress import ProgressBar

    inputs = rows = errors = told = 0
    with ProgressBar("annotating", None, not sys.stderr.isatty()) as bar, _telling(lambda: inputs):
        for part in job.run(executor, retry):
            inputs, rows, errors = inputs + part.inputs, rows + part.rows, errors + part.errors
            bar.advance(part.inputs)
            if part.errors and told < SHOWN:
                told += 1
                more = f" (and {part.errors - 1} more in this part)" if part.errors > 1 else ""
                complain(printable(part.first) + more)
    return inputs, rows, errors


@contextmanager
def _telling(done: Any) -> Iterator[None]:
    """An interruption says how far it came."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"after {done()} rows of the input; the same command goes on") from error
