"""`refseg eval`: scores of a model, or of predictions, on a split."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from refseg.cli.options import (
    DataOption,
    DeviceOption,
    ImagesOption,
    JsonOption,
    MaskValuesOption,
    OrientationOption,
    OverlapOption,
    OverwriteOption,
    OwnPrecisionOption,
    SkipBadOption,
    find_any_model,
    load_predictor,
    read_as,
)
from refseg.progress import ProgressBar


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="Packaged name, folder of a model, run or export, or user/name on the Hugging Face hub."),
    ] = None,
    named: Annotated[str | None, typer.Option("--model", help="The same as MODEL.")] = None,
    data: DataOption = "refshapes",
    split: Annotated[str, typer.Option(help="val, testA or testB; what the data set has.")] = "val",
    images: ImagesOption = None,
    overlap: OverlapOption = "union",
    mask_values: MaskValuesOption = None,
    orientation: OrientationOption = "fitting",
    skip_bad: SkipBadOption = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="How masks are scored: original, lavt, lgformer, crformer, cris, lisa, gres, or a FILE.json."
        ),
    ] = "original",
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictions.jsonl, report.json and report.html; resumes.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score this predictions file, or folder of saved scores, instead of a MODEL.")
    ] = None,
    save_scores: Annotated[
        bool, typer.Option("--save-scores", help="Keep 8-bit scores in OUT/scores; every protocol can score them.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many expressions.")] = None,
    words: Annotated[
        str, typer.Option(help="true; shuffled (of another image) or swapped (of another target): is the text read?")
    ] = "true",
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images, and expressions, that MODEL sees at a time; 16 and 64 by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the 95 % intervals.")] = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    precision: OwnPrecisionOption = None,
    device: DeviceOption = None,
) -> None:
    """Score MODEL on a split: oIoU, mIoU and P@X under a protocol, with intervals and by groups of expressions."""
    from refseg.data.index import IndexedSamples
    from refseg.data.questions import images_asked
    from refseg.data.sets import open_data
    from refseg.data.verify import without_bad
    from refseg.fast.choice import check_precision
    from refseg.protocols import find_protocol

    if None not in (model, named) and model != named:
        raise ValueError(f"MODEL {model!r} and --model {named!r}: one of the two is accepted")
    model = named if model is None else model
    if words not in ("true", "shuffled", "swapped"):
        raise ValueError(f"--words {words!r}: unknown; accepted are true, shuffled, swapped")
    if (model is None) == (predictions is None):
        given = "neither MODEL nor --predictions is given" if model is None else f"MODEL {model!r} and --predictions"
        raise ValueError(f"{given}: exactly one of the two is accepted")
    if precision is not None:
        check_precision(precision)
    if predictions is not None and (limit is not None or words != "true" or save_scores or precision is not None):
        raise ValueError("--predictions with --limit, --words, --save-scores or --precision: the file says what was "
                         "asked; --data, --split, --protocol and --out are accepted")  # fmt: skip
    if save_scores and out is None:
        raise ValueError("--save-scores without --out: a folder to keep them in is needed; --out DIR is accepted")
    if predictions is not None and not predictions.exists():
        raise ValueError(f"{predictions}: no such file; a predictions file, or a folder of saved scores, is accepted")
    chosen = find_protocol(protocol)
    reading = read_as(images, overlap, mask_values, orientation, skip_bad)
    samples: Any = open_data(data, split, reading)
    if skip_bad and isinstance(samples, IndexedSamples):
        with ProgressBar("looking at the images", None, hidden=as_json or not sys.stderr.isatty()) as looked:
            samples = without_bad(samples, looked.reached)
        if not len(samples):
            raise ValueError(f"{data} {split}: nothing is left of it that can be used")
    if getattr(samples, "endless", False) and limit is None and predictions is None:
        raise ValueError(f"split {split!r}: endless; give --limit, or one of val, testA, testB")
    found = None if model is None else find_any_model(model)
    from refseg.scoring.report import Origin
    from refseg.scoring.runs import evaluation_report, evaluation_table, predictions_report

    left = getattr(samples, "left_out", ())
    command = shlex.join(["refseg", *sys.argv[1:]])
    hide = as_json
    if predictions is not None:
        origin = Origin("unknown", data, split, "true", None, "predictions", {}, command, seed, reading.told, left)
        with ProgressBar("scoring", None, hidden=hide) as bar:
            report = predictions_report(predictions, samples, origin, chosen, out, bar.advance, overwrite)
    else:
        assert model is not None
        predictor = load_predictor(found, device, precision)
        known = predictor.about.training
        origin = Origin(model, data, split, words, limit, "model", known, command, seed, reading.told, left)
        asked: Any = words
        with ProgressBar("evaluating", images_asked(samples, limit, asked), hidden=hide) as bar:
            sizes = {} if batch is None else {"images_per_batch": batch, "at_once": batch}
            report = evaluation_report(
                predictor, samples, origin, chosen, out, save_scores, bar.advance, **sizes, overwrite=overwrite
            )
    if as_json:
        typer.echo(json.dumps(report))
        return
    from rich.console import Console

    Console(width=110).print(evaluation_table(report))
    if out is not None:
        typer.echo(f"report: {out / 'report.html'}")
