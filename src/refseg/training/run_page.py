"""A training run as one page, or several over each other: how it went, what it was told, and what it answers."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from refseg import __version__
from refseg.charts import Line, line_chart, smoothed
from refseg.files import first_line, writer_of
from refseg.pages import big_numbers, facts, html_table, make_document, section
from refseg.training.history import Curve, History
from refseg.training.pictures import Picture, read_pictures

GENERATOR = "refseg report"
SCORES = ("mIoU", "oIoU", "P@0.5")
INSIDE = {
    "words": "how much of what the answers vary the words decide, 0 to 1",
    "gap": "mean IoU with the object that is asked about, less that with the others",
    "queries": "how far the maps of an expression's queries are apart, 0 to 1",
}
MOST_PICTURES = 8  # evaluations of which a page shows pictures
_BESIDE = ("gradient", "rate", "loss")
STYLE = """
.answers img { width: 8.5rem; image-rendering: auto; display: block; border-radius: .2rem }
.answers td, .answers th { vertical-align: top; padding: .3rem .4rem; white-space: normal; text-align: left }
.answers th:first-child { position: sticky; left: 0; background: var(--paper); min-width: 7rem; max-width: 12rem;
  font-weight: 400 }
@media print { .answers img { width: 3.7rem } .answers th:first-child { position: static } }
"""


@dataclass(frozen=True)
class Shown:
    """A run that a page shows.

    Attributes:
        name: How it is called there.
        history: What its folder tells.
        command: The command that it would be begun with again, or why that is not known.
    """

    name: str
    history: History
    command: str


def make_run_page(runs: Sequence[Shown]) -> str:
    """One HTML document about one run or several."""
    if len(runs) == 1:
        history, parts = runs[0].history, _one(runs[0])
        title = f"Training of {history.preset or 'an unknown preset'}: {runs[0].name}"
    else:
        parts, title = _several(runs), "Training runs: " + ", ".join(run.name for run in runs)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    parts.append(f'<p class="dim">Made by {GENERATOR} of refseg {escape(__version__)}, {made}.</p>')
    return make_document(title, parts, STYLE, GENERATOR)


def names_of(folders: Sequence[Path]) -> list[str]:
    """Short names by which folders can be told apart."""
    full = [path.resolve() for path in folders]
    for depth in range(1, max(len(path.parts) for path in full) + 1):
        short = ["/".join(path.parts[-depth:]) for path in full]
        if len(set(short)) == len(set(full)):
            return short
    return [str(path) for path in full]


def _one(run: Shown) -> list[str]:
    history = run.history
    parts = [_state(history), *_problems([run])]
    if history.val:
        lines = [_line(name, _percent(history.val[name]), i) for i, name in enumerate(_scores(history))]
        parts.append(section("Scores on val", '<div class="wide">', line_chart(
            _listed(_scores(history)), "steps", "percent", lines), _val_table(history), "</div>"))  # fmt: skip
    parts += _pictures(history)
    terms = [name for name in history.train if name not in _BESIDE]
    curves = [name for name in ("loss", *(terms if len(terms) > 1 else ())) if name in history.train]
    window = max((_window(history.train[name]) for name in curves), default=1)
    note = f"Smoothed: the mean of {window} lines of the log." if window > 1 else ""
    charts = [_loss_chart(name, history.train[name], note if i == 0 else "") for i, name in enumerate(curves)]
    charts += _rate_and_gradient([run])
    parts.append(section("Loss", '<div class="wide">', *charts, "</div>"))
    if history.inside:
        lines = [_line(name, curve, i) for i, (name, curve) in enumerate(history.inside.items())]
        meant = [f"{name}: {INSIDE[name]}" for name in history.inside if name in INSIDE]
        about = "; ".join(meant) + ". Below a gap of about 0.1 the words do not decide."
        parts.append(section("Does it read?", '<div class="wide">', line_chart(
            "The inside", "steps", "value", lines, note=about), "</div>"))  # fmt: skip
    parts.append(section("What it was told", facts(_told(run)), *_settings(history)))
    return parts


def _several(runs: Sequence[Shown]) -> list[str]:
    rows = []
    for run in runs:
        history, best = run.history, run.history.best
        score = "–" if best is None else f"{history.metric} {100 * best[1]:.2f} at {best[0]:,}"
        rows.append((run.name, history.preset or "?", " + ".join(history.data) or "?", _steps(history), score,
                     f"{history.seconds / 3600:.2f}", str(history.told.get("seed", "?"))))  # fmt: skip
    head = ("", "preset", "data", "steps", "best, percent", "hours", "seed")
    parts = [html_table(head, rows, "scores on val; hours trained"), *_problems(runs)]
    scores = [name for name in SCORES if any(name in run.history.val for run in runs)]
    scores += [n for n in dict.fromkeys(run.history.metric for run in runs)
               if n not in scores and any(n in run.history.val for run in runs)]  # fmt: skip
    charts = [
        line_chart(name, "steps", "percent", [
            _line(run.name, _percent(run.history.val[name]), i) for i, run in enumerate(runs) if name in run.history.val
        ])
        for name in scores
    ]  # fmt: skip
    if charts:
        parts.append(section("Scores on val", '<div class="wide">', *charts, "</div>"))
    terms = dict.fromkeys(name for run in runs for name in run.history.train if name not in _BESIDE)
    charts = []
    for name in ("loss", *terms):
        lines = []
        for i, run in enumerate(runs):
            if curve := run.history.train.get(name):
                lines += [Line("", curve, i, raw=True), Line(run.name, smoothed(curve, _window(curve)), i)]
        charts.append(line_chart(name, "steps", "loss", lines))
    parts.append(section("Loss", '<p class="dim">Bold: smoothed; faint: as logged. Losses of other presets have other '
                         "terms, and only their own runs can be compared by them.</p>", '<div class="wide">', *charts,
                         *_rate_and_gradient(runs), "</div>"))  # fmt: skip
    inside = [name for name in INSIDE if any(name in run.history.inside for run in runs)]
    charts = [
        line_chart(name, "steps", "value", [
            _line(run.name, run.history.inside[name], i) for i, run in enumerate(runs) if name in run.history.inside
        ], note=INSIDE[name])
        for name in inside
    ]  # fmt: skip
    if charts:
        parts.append(section("Do they read?", '<div class="wide">', *charts, "</div>"))
    parts.append(section("What they were told", *(f"<h3>{escape(run.name)}</h3>{facts(_told(run))}" for run in runs)))
    return parts


def _state(history: History) -> str:
    """Where the run is, in a few large numbers."""
    process = writer_of(history.folder)
    done = "running" if process is not None else "finished" if history.is_done else "stopped"
    numbers = [("steps", f"{history.step:,}", f"of {_of(history)}, {done}")]
    if best := history.best:
        numbers.append((f"best {history.metric} on val", f"{100 * best[1]:.1f} %", f"at step {best[0]:,}"))
        for name in SCORES:
            at = dict(history.val.get(name, ())).get(best[0], math.nan)
            if name != history.metric and math.isfinite(at):
                numbers.append((name, f"{100 * at:.1f} %", "at the same step"))
    losses = [value for _, value in history.train.get("loss", ()) if math.isfinite(value)]
    if losses:
        numbers.append(("last loss", f"{losses[-1]:.3g}", "of a single step"))
    per_step = f"{history.seconds / history.step:.2f} s a step" if history.step else ""
    numbers.append(("hours", f"{history.seconds / 3600:.2f}", per_step))
    return big_numbers(numbers)


def _problems(runs: Sequence[Shown]) -> list[str]:
    told = [f"{run.name}: {problem}" for run in runs for problem in run.history.problems]
    listed = "".join(f"<li>{escape(text)}</li>" for text in told)
    return [f'<div class="warn"><p>Of the files of this page something is damaged:</p><ul>{listed}</ul></div>'] * bool(
        told
    )


def _val_table(history: History) -> str:
    names = _scores(history)
    steps = sorted({step for name in names for step, _ in history.val[name]})
    by_step = {name: dict(history.val[name]) for name in names}
    rows = [(f"{step:,}", *(_text(by_step[name].get(step)) for name in names)) for step in _spread(steps, 30)]
    left = f"; {len(rows)} of {len(steps)} evaluations" if len(rows) < len(steps) else ""
    return html_table(("step", *names), rows, f"percent{left}")


def _pictures(history: History) -> list[str]:
    """Answers about the same expressions after more and more steps, side by side."""
    scored = sorted({step for curve in history.val.values() for step, _ in curve})
    there = {step: pictures for step in scored if (pictures := read_pictures(history.folder, step))}
    if not there:
        return []
    steps = _spread(sorted(there), MOST_PICTURES)
    asked = {(picture.expression, picture.image_id): picture for step in steps for picture in there[step]}
    head = "".join(f"<th>step {step:,}</th>" for step in steps)
    rows = []
    for key, one in asked.items():
        answers = {step: picture for step in steps for picture in there[step]
                   if (picture.expression, picture.image_id) == key}  # fmt: skip
        cells = "".join(f"<td>{_answer(answers.get(step), step)}</td>" for step in steps)
        meant = _image(one.target, f"target of: {one.expression}") if one.target is not None else ""
        rows.append(f'<tr><th scope="row"><q>{escape(one.expression)}</q></th><td>{meant}</td>{cells}</tr>')
    left = f" of {len(there)}" if len(steps) < len(there) else ""
    said = f"{len(asked)} expressions of val after {len(steps)}{left} evaluations, and IoU in percent."
    top = f"<thead><tr><td></td><th>target</th>{head}</tr></thead>"
    table = f'<div class="scroll"><table class="answers">\n{top}<tbody>{"".join(rows)}</tbody></table></div>'
    return [section("What it answers", f'<p class="dim">{said}</p>', table)]


def _answer(picture: Picture | None, step: int) -> str:
    if picture is None:
        return "–"
    return _image(picture.png, f"answer at step {step} to: {picture.expression}") + f"{100 * picture.iou:.0f}"


def _image(png: bytes, alt: str) -> str:
    address = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return f'<img src="{address}" alt="{escape(alt)}">'


def _loss_chart(name: str, curve: Curve, note: str) -> str:
    lines = [Line("as logged", curve, 0, raw=True), Line("smoothed", smoothed(curve, _window(curve)), 0)]
    return line_chart(name, "steps", "loss", lines, note=note)


def _rate_and_gradient(runs: Sequence[Shown]) -> list[str]:
    found = []
    for name, title, unit in (("rate", "Learning rate", "rate"), ("gradient", "Norm of the gradient", "norm")):
        lines = [Line(run.name if len(runs) > 1 else "", run.history.train[name], i)
                 for i, run in enumerate(runs) if name in run.history.train]  # fmt: skip
        if lines:
            found.append(line_chart(title, "steps", unit, lines, log=name == "gradient",
                                    note="before it is clipped" if name == "gradient" else ""))  # fmt: skip
    return found


def _told(run: Shown) -> dict[str, str]:
    history, told, record = run.history, run.history.told, run.history.record
    versions = [f"{name} {record[key]}" for name, key in (("refseg", "version"), ("torch", "torch")) if key in record]
    named = {
        "Preset": history.preset or "unknown",
        "Command": run.command,
        "Data": " + ".join(history.data) or "unknown",
        "Seed": str(told.get("seed", "unknown")),
        "Steps": _steps(history),
        "Began with": str(record.get("source", "unknown until the first evaluation")),
        "Precision": str(told.get("precision", "unknown")),
        "Averaged weights": f"decay {told['ema']}" if told.get("ema") else "none",
        "Versions": ", ".join(versions) or "unknown until the first evaluation",
        "Folder": str(history.folder.absolute()),
    }
    return named


def _settings(history: History) -> list[str]:
    """All of run.json, closed."""
    if not history.told:
        return []
    text = json.dumps(history.told, indent=1, ensure_ascii=False)
    return [f'<details><summary>All settings</summary><div class="scroll"><pre>{escape(text)}</pre></div></details>']


def command_or_why(history: History) -> str:
    """The command of a run; where its file does not tell, why."""
    from refseg.training.command import command_of

    try:
        return command_of(history.folder, history.preset)
    except ValueError as error:
        return f"unknown: {first_line(error)}"


def _scores(history: History) -> list[str]:
    """The scores that are shown: the usual ones, or of a pretraining all."""
    usual = [name for name in SCORES if name in history.val]
    return usual or [name for name in history.val if name != "expressions"]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _line(name: str, curve: Sequence[tuple[float, float]], colour: int) -> Line:
    return Line(name, curve, colour, dots=True)


def _percent(curve: Curve) -> list[tuple[float, float]]:
    return [(step, 100 * value) for step, value in curve]


def _text(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def _window(curve: Sequence[tuple[float, float]]) -> int:
    """Lines over which a curve is smoothed: about a fifteenth of them, an odd number; 1 for few."""
    return 1 if len(curve) < 8 else max(3, len(curve) // 15 | 1)


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of some steps, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _of(history: History) -> str:
    return "an unknown number" if history.of_steps is None else f"{history.of_steps:,}"


def _steps(history: History) -> str:
    return f"{history.step:,} of {_of(history)}"


def write_for(folders: Sequence[Path], histories: Mapping[Path, History]) -> str:
    """The page of the runs in some folders."""
    shown = [Shown(name, histories[path], command_or_why(histories[path]))
             for name, path in zip(names_of(folders), folders, strict=True)]  # fmt: skip
    return make_run_page(shown)
