"""The folder of a run: what a run writes into it, and what of others may be in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from refseg.training.checkpoint import RunState
from refseg.training.config import RUN_FILE, Run, data_names, init_name
from refseg.training.pictures import FOLDER as PICTURES
from refseg.training.pictures import clear_pictures

WRITTEN = ("best", "last", "checkpoints", "tensorboard", "log.jsonl", RUN_FILE)


def refuse_others(out: Path) -> None:
    """Makes sure that nothing is in the way of a new run but what one left that ended before its first checkpoint.

    Raises:
        ValueError: Something has the name of what a run writes.
    """
    there = [name for name in (*WRITTEN, PICTURES) if (out / name).exists() and not _is_empty(out / name)]
    if there and (not (out / RUN_FILE).is_file() or {"best", "checkpoints", PICTURES} & set(there)):
        raise ValueError(f"{out}: holds {' and '.join(there)}, which this command did not write; a new folder is "
                         "accepted, or --overwrite")  # fmt: skip


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing but what a killed process left half-written."""
    return path.is_dir() and all(inside.match(".*.part") for inside in path.iterdir())


def clear(out: Path) -> None:
    """Takes away all that has the name of what a run writes; of `pictures`, a common name, only what a run wrote."""
    for name in WRITTEN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    clear_pictures(out)


def refuse_another(run: Run, state: RunState, stored: RunState) -> None:
    """Makes sure that a checkpoint is of this run.

    Args:
        run: What this run was told.
        state: Where it begins.
        stored: What the checkpoint says of its own.

    Raises:
        ValueError: It is of another; names the difference.
    """
    init = run.init
    if init is not None and stored.source not in (f"weights of {init}", f"weights of {init_name(init)}"):
        raise ValueError(f"--init {init}: the run in {run.out} began with another ({stored.source}); "
                         "--resume without it is accepted")  # fmt: skip
    for what in RunState.FIXED:
        is_, was = getattr(state, what), getattr(stored, what)
        if what == "texts" and not was:  # of a run from before they were kept
            continue
        if what == "data" and data_names(was.split(" + ")) == tuple(is_.split(" + ")):
            continue
        if what == "texts" and is_ != was:
            raise ValueError(f"{run.out}: holds a run whose data had other sentences; the same data are accepted")
        if is_ != was:
            told = _difference(was, is_) if what == "preset" else f"{what} {was}, not {is_}"
            raise ValueError(f"{run.out}: holds a run with {told}; the same is accepted")


def _difference(was: str, is_: str) -> str:
    """The first field in which two described presets differ."""
    one, two = json.loads(was), json.loads(is_)
    for part in one:
        for field in one[part] if isinstance(one[part], dict) else ():
            if one[part][field] != two[part].get(field):
                return f"{part}.{field} {one[part][field]}, not {two[part].get(field)}"
    return f"preset {one['name']}, not {two['name']}"
