"""The command line: parses, calls, prints."""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from refseg.cli_data import app as data_app
from refseg.progress import ProgressBar

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Referring image segmentation: an image and a sentence go in, the mask of that one object comes out.",
)
app.add_typer(data_app, name="data")

INTERRUPTED = 130  # the shell's code for Ctrl-C; typer returns it or raises, depending on its version

ModelOption = Annotated[str, typer.Option(help="Packaged name, folder, or user/name on the Hugging Face hub.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; CUDA where there is one by default.")]
DATA_HELP = (
    "refshapes, refshapes+ or refshapesg; a folder or file in REFER, COCO, JSONL or CSV layout; or refcoco, refcoco+, "
    "refcocog-umd, refcocog-google, refclef-unc, refclef-berkeley, grefcoco below the folder REFSEG_DATA."
)
DataOption = Annotated[str, typer.Option(help=DATA_HELP)]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Folder of the images, where they are not in the data set's usual place.")
]
OverlapOption = Annotated[
    str, typer.Option(help="Pixels under two parts of a mask: union, or background as LAVT has it (lavt).")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from refseg import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _app(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
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
    from refseg.segment import read_list, segment_image, segment_list
    from refseg.weights import prepare_folder

    given = arguments or []
    if list_file is not None and given:
        raise ValueError(f"{given[0]!r} and --list: one of the two is accepted, an image or a list")
    if list_file is None and len(given) < 2:
        raise ValueError(f"{len(given)} argument(s): an image and at least one expression are accepted, or --list FILE")
    if list_file is not None:
        tasks = read_list(list_file)
        predictor = _predictor(model, device)
        prepare_folder(out)
        results, problems = [], []
        for done, problem in segment_list(predictor, tasks, out):
            results += done
            if problem:
                problems.append(problem)
                _complain(f"{list_file} {problem}")
            elif not as_json:
                _print_segments(done)
        if as_json:
            typer.echo(json.dumps(results))
        if problems:
            raise typer.Exit(2)
        return
    from refseg.data.images import read_image
    from refseg.predictor import check_expression

    for text in given[1:]:
        check_expression(text)
        if len(text) < 256 and Path(text).is_file():  # a shell's *.jpg; no name of a file is longer
            raise ValueError(f"expression {text!r}: is a file; one image and expressions are accepted, or --list FILE")
    image = Path(given[0])
    pixels = read_image(image)  # a bad image is said before the model is loaded
    predictor = _predictor(model, device)
    prepare_folder(out)
    results = segment_image(predictor, image, pixels, tuple(given[1:]), tuple(range(1, len(given))), out)
    if as_json:
        typer.echo(json.dumps(results))
    else:
        _print_segments(results)


def _overlap(name: str) -> Any:
    if name not in ("union", "lavt"):
        raise ValueError(f"--overlap {name!r}: unknown; accepted are union, lavt")
    return name


@app.command("eval")
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Packaged name, folder, or user/name on the Hugging Face hub.")
    ] = None,
    data: DataOption = "refshapes",
    split: Annotated[str, typer.Option(help="val, testA or testB; what the data set has.")] = "val",
    images: ImagesOption = None,
    overlap: OverlapOption = "union",
    protocol: Annotated[
        str, typer.Option(help="How masks are scored: original, lavt, cris, lisa, gres, or a FILE.json of your own.")
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
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Score MODEL on a split: oIoU, mIoU and P@X under a protocol, with intervals and by groups of expressions."""
    from refseg.data.sets import open_data
    from refseg.protocols import find_protocol
    from refseg.report import evaluation_report, evaluation_table, predictions_report
    from refseg.reporting.build import Origin

    if words not in ("true", "shuffled", "swapped"):
        raise ValueError(f"--words {words!r}: unknown; accepted are true, shuffled, swapped")
    if (model is None) == (predictions is None):
        raise ValueError(f"MODEL {model!r} and --predictions {predictions}: exactly one of the two is accepted")
    if predictions is not None and (limit is not None or words != "true" or save_scores):
        raise ValueError("--predictions with --limit, --words or --save-scores: the file says what was asked; "
                         "--data, --split, --protocol and --out are accepted")  # fmt: skip
    if save_scores and out is None:
        raise ValueError("--save-scores without --out: a folder to keep them in is needed; --out DIR is accepted")
    chosen = find_protocol(protocol)
    samples: Any = open_data(data, split, _overlap(overlap), images)
    if getattr(samples, "endless", False) and limit is None and predictions is None:
        raise ValueError(f"split {split!r}: endless; give --limit, or one of val, testA, testB")
    command = shlex.join(["refseg", *sys.argv[1:]])
    hide = as_json
    if predictions is not None:
        origin = Origin("unknown", data, split, "true", None, "predictions", {}, command, seed, overlap)
        with ProgressBar("scoring", None, hidden=hide) as bar:
            report = predictions_report(predictions, samples, origin, chosen, out, bar.advance)
    else:
        assert model is not None
        predictor = _predictor(model, device)
        origin = Origin(model, data, split, words, limit, "model", predictor.model.training, command, seed, overlap)
        with ProgressBar("evaluating", len(samples) if limit is None else None, hidden=hide) as bar:
            sizes = {} if batch is None else {"images_per_batch": batch, "at_once": batch}
            report = evaluation_report(predictor, samples, origin, chosen, out, save_scores, bar.advance, **sizes)
    if as_json:
        typer.echo(json.dumps(report))
        return
    from rich.console import Console

    Console(width=110).print(evaluation_table(report))
    if out is not None:
        typer.echo(f"report: {out / 'report.html'}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of an evaluation (`refseg eval --out`), or its report.json.")],
    b: Annotated[Path, typer.Argument(help="The same of the model of interest.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the 95 % intervals.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Say how much better B is than A on the same expressions: the paired difference with its 95 % interval."""
    from refseg.compare import compare as compare_reports
    from refseg.compare import comparison_table

    found = compare_reports(a, b, seed)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console

    Console(width=110).print(comparison_table(found))


@app.command()
def train(
    preset: Annotated[str, typer.Argument(help="Name of a preset; `refseg models` lists them.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run: checkpoints, log, last and best weights.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="As for eval; refshapes for compact presets, which learn it, else needed. Given several times, all "
            "are trained on, without any image of their val and test splits; val of the first chooses the best."
        ),
    ] = None,
    images: ImagesOption = None,
    overlap: OverlapOption = "union",
    init: Annotated[
        str | None, typer.Option(help="Start from the weights of this model: packaged name, folder, or user/name.")
    ] = None,
    encoders: Annotated[
        Path | None, typer.Option(help="Folder with the published encoders; see the README for their names.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; the preset's by default.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data, instead of --steps.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the preset: recipe.lr=1e-4, input.max_tokens=22, ..."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, order and expressions.")] = 0,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16; what `accelerate launch` was told, else fp32.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Divide each step into so many parts, to need less memory.")
    ] = 1,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Need less memory and a third more time.")
    ] = False,
    ema: Annotated[
        float, typer.Option(min=0, max=1, help="Score and save averaged weights, with this decay; 0 for none.")
    ] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option(min=1, help="How many checkpoints stay.")] = 2,
    eval_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations on val; a pass over the data by default.")
    ] = None,
    eval_limit: Annotated[
        int | None, typer.Option(min=1, help="Expressions of such an evaluation; all by default.")
    ] = None,
    eval_batch: Annotated[int, typer.Option(min=1, help="Images, and expressions, at a time in it.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    device: DeviceOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what training needs and what the paper reached; train nothing.")
    ] = False,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.1, help="With --plan: GB of a GPU, for which --accumulate is worked out.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="With --plan: how many of them.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train PRESET; the best and the last weights are models that every other command takes.

    `accelerate launch -m refseg train ...` trains with several processes, one per GPU, on one machine or several.
    """
    from refseg.presets import get_preset
    from refseg.training.settings import with_settings

    chosen = with_settings(get_preset(preset), change or [])
    how = _precision(precision)
    if plan:
        from refseg.data.mixture import open_training
        from refseg.training.plan import plan_report, plan_table

        items = (
            open_training(data, chosen.recipe.expressions_per_image == 1, _overlap(overlap), images) if data else None
        )
        many = None if items is None or items.train.endless else len(items.train)
        if epochs is not None:
            raise ValueError(
                f"--epochs {epochs} with --plan: --steps is accepted; the plan says how many epochs that is"
            )
        if steps is not None:
            chosen = replace(chosen, recipe=replace(chosen.recipe, steps=steps))
        report = plan_report(chosen, gpu_memory, gpus, how, gradient_checkpointing, many)
        if as_json:
            typer.echo(json.dumps(report))
        else:
            from rich.console import Console

            Console(width=110).print(*plan_table(report))
        return
    if gpu_memory is not None or gpus != 1 or as_json:
        raise ValueError("--gpu-memory, --gpus or --json without --plan: they say what is planned; --plan is accepted")
    if out is None:
        raise ValueError(f"preset {preset!r}: --out DIR with the folder of the run is needed")
    if not data:
        if not chosen.compact:
            raise ValueError(f"preset {preset!r}: is trained on photos; --data with a data set or its folder is needed")
        data = ["refshapes"]
    from refseg.training.config import Run
    from refseg.training.loop import train as train_run
    from refseg.training.processes import find_processes

    run = Run(
        preset=chosen, data=tuple(data), out=out, steps=steps, epochs=epochs, seed=seed, save_every=save_every,
        keep=keep, eval_every=eval_every, eval_limit=eval_limit, eval_batch=eval_batch, workers=workers, device=device,
        encoders=encoders, images=images, overlap=_overlap(overlap), init=init, precision=how, accumulate=accumulate,
        recompute=gradient_checkpointing, ema=ema, tensorboard=tensorboard,
    )  # fmt: skip
    with find_processes(device) as team:
        with ProgressBar("training", None, hidden=not team.main) as bar:
            train_run(run, resume, bar.at, lambda message: typer.echo(message, err=True), team)
        if team.main:
            typer.echo(f"trained; the weights are in {out / 'best'} and {out / 'last'}")


def _precision(name: str | None) -> Any:
    """What is asked for, or what `accelerate launch --mixed_precision` put into the environment."""
    chosen = name or os.environ.get("ACCELERATE_MIXED_PRECISION", "no").replace("no", "fp32")
    if chosen not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"--precision {chosen!r}: unknown; accepted are fp32, bf16, fp16")
    return chosen


@app.command()
def convert(
    method: Annotated[str, typer.Argument(help="lavt.")],
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new model.")],
    encoders: Annotated[
        Path | None, typer.Option(help="Folder that holds bert-base-uncased with its tokenizer; else the hub is asked.")
    ] = None,
) -> None:
    """Turn a published CHECKPOINT of METHOD into a model folder; nothing in the file is executed."""
    from refseg.convert import convert_lavt

    if method != "lavt":
        raise ValueError(f"method {method!r}: there is no converter; lavt is accepted")
    found = convert_lavt(checkpoint, out, encoders)
    typer.echo(f"{found['parameters'] / 1e6:.1f} M parameters, depths {found['depths']} -> {out}")


@app.command()
def models(as_json: JsonOption = False) -> None:
    """List the models whose weights ship with the package, and the presets that can be trained."""
    from refseg.report import models_report, models_table

    report = models_report()
    if as_json:
        typer.echo(json.dumps(report))
    else:
        from rich.console import Console

        Console(width=120).print(*models_table(report))


def _predictor(model: str, device: str | None) -> Any:
    from refseg.predictor import Predictor

    return Predictor.from_pretrained(model, device)


def _print_segments(results: list[dict[str, Any]]) -> None:
    for result in results:
        found = f"score {result['score']:.2f}, {result['area']} pixels" if result["area"] else "nothing found"
        typer.echo(f"{result['expression']}: {found} -> {result['overlay']}")


def _complain(message: str) -> None:
    """One line on stderr; of an error that carries a worker's traceback, its last line."""
    told = _last_line(message) if "Traceback" in message else message.replace("\n", " ")
    typer.echo(f"refseg: {told}", err=True)


def _last_line(message: object) -> str:
    lines = str(message).strip().splitlines()
    return lines[-1] if lines else type(message).__name__


def main() -> None:
    """Runs the command line; an error is one line on stderr and exit code 2, or a traceback with --debug."""
    debug = "--debug" in sys.argv[1:]
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]  # it may stand anywhere
    warnings.showwarning = lambda message, *_args, **_kwargs: _complain(f"warning: {message}")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    stopped = ""
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort) as error:
        code, stopped = INTERRUPTED, str(error)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # of typer's own errors, whose classes are not public
        full = isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)
        if usage is None and not full and not isinstance(error, ValueError | OSError | FloatingPointError):
            raise
        if debug:
            traceback.print_exc()
        if said := usage() if usage else f"not enough memory ({_last_line(error)})" if full else str(error):
            _complain(said)
        sys.exit(2)
    if code == INTERRUPTED and not os.environ.get("RANK", "0").strip("0"):  # of several processes the first
        _complain(f"interrupted {stopped}; what was written is kept".replace(" ;", ";"))
    sys.exit(code if isinstance(code, int) else 0)
