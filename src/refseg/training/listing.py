"""The runs in some folders, a row for each: where each of them is, and how good."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.files import first_line, writer_of
from refseg.training.history import History, find_runs, read_history
from refseg.weights.folders import ENCODERS

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = (("s", 60.0), ("min", 60.0), ("h", 24.0), ("days", math.inf))


def list_runs(folders: Sequence[Path], now: float | None = None) -> list[dict[str, Any]]:
    """What is known of every run in or below some folders; none is there twice.

    Args:
        folders: Where to look.
        now: Seconds since 1970 from which ages are counted; the system's by default.

    Returns:
        Per run `name` (its path below the folder), `path`, `preset`, `pretraining`, `data`, `step`, `of_steps`, `loss`,
        `best` ({metric, score, step}, the score a fraction of 1), `age` (seconds since the log's last line), `state`
        (running, finished or stopped), `process` (whose is running) and `problems`. What is unknown is None.

    Raises:
        ValueError: There is no such folder, or no run in any of them.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for path in find_runs(folder):
            real = os.path.realpath(path)
            if real not in found:
                found[real] = _row(_name(path, folder), path, time.time() if now is None else now)
    if not found:
        where = ", ".join(map(str, folders))
        raise ValueError(f"{where}: no run is there; folders with a run.json and a log.jsonl in or below them, as "
                         "`refseg train` writes them, are accepted")  # fmt: skip
    return list(found.values())


def _name(path: Path, folder: Path) -> str:
    below = path.relative_to(folder)
    return str(below) if below.parts else path.resolve().name


def _row(name: str, path: Path, now: float) -> dict[str, Any]:
    process = writer_of(path)
    try:
        history = read_history(path)
    except (ValueError, OSError) as error:  # taken away, or closed, while it was looked at
        history = History(path, {}, {}, {}, {}, problems=(first_line(error),))
    losses = [value for _, value in history.train.get("loss", ()) if math.isfinite(value)]
    best = history.best
    return {
        "name": name,
        "path": str(path),
        "preset": history.preset or None,
        "pretraining": history.preset in ENCODERS,
        "data": history.data,
        "step": history.step,
        "of_steps": history.of_steps,
        "loss": losses[-1] if losses else None,
        "best": None if best is None else {"metric": history.metric, "score": best[1], "step": best[0]},
        "age": None if history.written is None else round(max(0.0, now - history.written), 1),
        "state": "running" if process is not None else "finished" if history.is_done else "stopped",
        "process": process,
        "problems": list(history.problems),
    }


def runs_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The same as a table; what is wrong with a run's files stands below it."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="runs")
    for column, side in (("run", "left"), ("preset", "left"), ("data", "left"), ("step", "right"), ("loss", "right"),
                         ("best, %", "right"), ("last line", "right"), ("", "left")):  # fmt: skip
        table.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        best = row["best"]
        table.add_row(
            escape(row["name"]),
            escape(row["preset"] or "?"),
            escape(" + ".join(row["data"]) or "?"),
            f"{row['step']:,} / {'?' if row['of_steps'] is None else format(row['of_steps'], ',')}",
            "-" if row["loss"] is None else f"{row['loss']:.3g}",
            "-" if best is None else escape(f"{best['metric']} {100 * best['score']:.2f} at {best['step']:,}"),
            "-" if row["age"] is None else f"{age_text(row['age'])} ago",
            row["state"],
        )
    said = [f"{row['name']}: {problem}" for row in rows for problem in row["problems"]]
    table.caption = escape("\n".join(said)) or None
    table.caption_justify = "left"
    return table


def age_text(seconds: float) -> str:
    """A time in the unit in which it is a small number."""
    for unit, many in _UNITS:
        if seconds < many or math.isinf(many):
            return f"{seconds:.0f} {unit}" if unit != "days" or seconds >= 1.5 else "1 day"
        seconds /= many
    raise AssertionError
