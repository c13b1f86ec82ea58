"""`refseg pretrain`: the encoders of the compact versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import DeviceOption, OverwriteOption
from refseg.cli.train import checked_precision, is_given
from refseg.progress import ProgressBar
from refseg.weights.folders import check_encoders


def pretrain(
    context: typer.Context,
    encoders: Annotated[
        str | None,
        typer.Argument(help="swin-shapes, bert-shapes, clip-shapes (both towers) or clip-vit-shapes. --resume knows."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run: checkpoints, log, last and best weights.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; 6000 by default.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: recipe.lr=1e-3, ...")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the weights and of what is hidden.")] = 0,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16; what `accelerate launch` was told, else fp32.")
    ] = None,
    ema: Annotated[
        float, typer.Option(min=0, max=1, help="Score and save averaged weights, with this decay; 0 for none.")
    ] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option(min=1, help="How many checkpoints stay.")] = 2,
    eval_every: Annotated[int, typer.Option(min=1, help="Steps between evaluations on val.")] = 1000,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
) -> None:
    """Pretrain the encoders of the compact versions on RefShapes, without its questions.

    Image towers learn what every pixel shows, BERT finds hidden words, and CLIP's two towers also learn which
    description fits which object. OUT/best and OUT/last are what `train --encoders DIR` reads in DIR/ENCODERS.
    """
    if encoders is not None:
        check_encoders(encoders)
    if out is None or (encoders is None and not resume):
        raise ValueError("ENCODERS and --out DIR with the folder of the run are needed, or --resume --out DIR alone")
    from refseg.training.config import Run, read_run
    from refseg.training.pretrain import encoder_preset
    from refseg.training.pretrain import pretrain as run_pretraining
    from refseg.training.processes import find_processes
    from refseg.training.settings import with_settings

    if encoders is None:
        told = read_run(out, encoder_preset)
        names = ("steps", "seed", "save_every", "keep", "eval_every", "workers", "device", "ema")
        given = {name: context.params[name] for name in names if is_given(context, name)}
        if precision is not None:
            given["precision"] = checked_precision(precision)
        run = replace(told, preset=with_settings(told.preset, change or []), **given)
    else:
        run = Run(
            preset=with_settings(encoder_preset(encoders), change or []), data=("refshapes",), out=out, steps=steps,
            seed=seed, save_every=save_every, keep=keep, eval_every=eval_every, workers=workers, device=device,
            precision=checked_precision(precision), ema=ema, overwrite=overwrite,
        )  # fmt: skip
    with find_processes(run.device) as team:
        with ProgressBar("pretraining", None, hidden=not team.main) as bar:
            run_pretraining(run, resume, bar.at, lambda message: typer.echo(message, err=True), team)
        if team.main:
            typer.echo(f"pretrained; the encoders are in {out / 'best'} and {out / 'last'}")
