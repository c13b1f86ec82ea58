"""What a run left behind, read as a stranger reads it: whatever is damaged is told, and the rest is used."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from refseg.data.shapes import SETS
from refseg.fields import printable_json, shown
from refseg.weights.folders import ENCODERS

RUN_FILE, LOG_FILE = "run.json", "log.jsonl"
INSIDE = {"best", "last", "checkpoints", "pictures", "tensorboard"}  # folders of a run, in which there is no other
MOST_CURVES = 40  # names of numbers in a log; a loss has few terms
TOLD = 5  # problems of a log that are told one by one
LARGEST = 2**28  # bytes of a log that are read
LARGEST_NUMBER = 1e300
_BESIDE = {"step", "seconds"}
_OF_STEPS = 10**12

Curve = list[tuple[int, float]]  # (steps done, value); a value that was not finite is nan


@dataclass(frozen=True)
class History:
    """A run as its folder tells it.

    Attributes:
        folder: The folder.
        told: What `run.json` holds; empty where it cannot be read.
        train: Curves by name: `loss`, its terms, `gradient`, `rate`.
        val: Curves of the scores.
        inside: Curves of what `refseg.training.inside` measures.
        step: Steps done, as far as they are logged.
        seconds: Time trained until then.
        written: When the last line was written, in seconds since 1970; None for no log.
        record: What the last weights say about how they came to be; empty before the first evaluation.
        problems: What is wrong with the files, in words.
    """

    folder: Path
    told: Mapping[str, Any]
    train: Mapping[str, Curve]
    val: Mapping[str, Curve]
    inside: Mapping[str, Curve]
    step: int = 0
    seconds: float = 0.0
    written: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def preset(self) -> str:
        """Name of what is trained; empty if unknown."""
        return str(_record(self.told.get("preset")).get("name", ""))

    @property
    def data(self) -> list[str]:
        """Names of the data sets."""
        named = self.told.get("data")
        return [str(name) for name in named] if isinstance(named, list) else []

    @property
    def of_steps(self) -> int | None:
        """Steps that the run is to have; None where only its data would tell."""
        recipe = _record(_record(self.told.get("preset")).get("recipe"))
        own = recipe.get("steps") if set(self.data) <= set(SETS) and self.told.get("epochs") is None else None
        for value in (self.record.get("of_steps"), self.told.get("steps"), own):
            if type(value) is int and 0 < value < _OF_STEPS:
                return value
        return None

    @property
    def metric(self) -> str:
        """Name of the score that decides which weights are the best."""
        select = _record(_record(self.told.get("preset")).get("recipe")).get("select")
        return "mean" if self.preset in ENCODERS else str(select or "mIoU")

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the best score, the first of equal ones; None before the first evaluation."""
        scored = [point for point in self.val.get(self.metric, ()) if math.isfinite(point[1])]
        return max(scored, key=lambda point: (point[1], -point[0])) if scored else None

    @property
    def is_done(self) -> bool:
        """Whether all steps are done and scored."""
        scored = [step for curve in self.val.values() for step, _ in curve]
        return self.of_steps is not None and max(scored, default=0) >= self.of_steps


def find_runs(folder: Path) -> Iterator[Path]:
    """The runs in a folder and below it, in the order of their names.

    Raises:
        ValueError: There is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; folders with runs in or below them are accepted")
    for here, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if RUN_FILE in files and (LOG_FILE in files or _is_ours(Path(here) / RUN_FILE)):
            inner[:] = [name for name in inner if name not in INSIDE]
            yield Path(here)


def _is_ours(file: Path) -> bool:
    """Whether a `run.json` that has no log beside it is what a training writes before its first line."""
    told = _read_record(file, [])
    return "format" in told and "name" in _record(told.get("preset"))


def read_history(folder: Path) -> History:
    """Reads what is in the folder of a run.

    Raises:
        ValueError: It holds no run.
    """
    if not (folder / RUN_FILE).is_file():
        raise ValueError(f"{folder}: holds no {RUN_FILE}; the folder of a run, as `refseg train` and `refseg pretrain` "
                         "write it, is accepted")  # fmt: skip
    problems: list[str] = []
    told = _read_record(folder / RUN_FILE, problems)
    if not problems and "name" not in _record(told.get("preset")):
        problems.append(f"{RUN_FILE}: does not say what preset is trained")
    record: Mapping[str, Any] = {}
    if (folder / "last" / "config.json").is_file():
        record = _record(_read_record(folder / "last" / "config.json", problems).get("training"))
    log = _Log(problems)
    file = folder / LOG_FILE
    written = None
    try:
        if file.is_file():
            written = file.stat().st_mtime
            log.read(file)
    except OSError as error:
        problems.append(f"{LOG_FILE}: cannot be read ({error.strerror or error})")
    if len(problems) > TOLD:
        problems[TOLD:] = [f"and {len(problems) - TOLD} more"]
    curves = {group: {name: sorted(points.items()) for name, points in own.items()} for group, own in log.found.items()}
    return History(folder, told, curves["train"], curves["val"], curves["inside"], log.step, log.seconds, written,
                   record, tuple(problems))  # fmt: skip


class _Log:
    """The numbers of a log, line by line; of a step that is there twice the later line counts."""

    def __init__(self, problems: list[str]) -> None:
        self.problems, self.step, self.seconds = problems, 0, 0.0
        self.found: dict[str, dict[str, dict[int, float]]] = {"train": {}, "val": {}, "inside": {}}
        self._names = 0

    def read(self, file: Path) -> None:
        """Reads the lines of a file."""
        with file.open("rb") as opened:
            text = opened.read(LARGEST + 1)
        if len(text) > LARGEST:
            self.problems.append(f"{LOG_FILE}: only its first {LARGEST} bytes are read")
            text = text[:LARGEST]
        if not text.strip():
            self.problems.append(f"{LOG_FILE}: is empty")
        lines = text.decode("utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._line(f"{LOG_FILE}: line {number}", line, number == len(lines))

    def _line(self, where: str, line: str, unended: bool) -> None:
        try:
            entry = json.loads(line)
            entry = printable_json(entry) if "\\" in line or not line.isprintable() else entry
        except (ValueError, RecursionError):
            self.problems.append(f"{where}: {'was cut off' if unended else 'is damaged'}, and left out")
            return
        step = entry.get("step") if isinstance(entry, dict) else None
        if type(step) is not int or not 0 <= step < _OF_STEPS:
            self.problems.append(f"{where}: says no step, and is left out: {shown(entry)}")
            return
        if step < self.step:
            self.problems.append(f"{where}: goes back from step {self.step} to {step}")
        self.step = max(self.step, step)
        seconds = _number(entry.get("seconds"))
        if seconds is not None and math.isfinite(seconds):
            self.seconds = max(self.seconds, seconds)
        numbers = {name: value for name, value in entry.items() if name not in _BESIDE}
        for group in ("val", "inside"):
            own = numbers.pop(group, None)
            if isinstance(own, dict):
                self._keep(where, group, step, own)
            elif own is not None:
                self.problems.append(f"{where}: {group} is {shown(own)}, and left out")
        if "init" not in numbers:  # a line of what it began with
            self._keep(where, "train", step, numbers)

    def _keep(self, where: str, group: str, step: int, numbers: Mapping[str, Any]) -> None:
        for name, value in numbers.items():
            number = _number(value)
            if number is None:  # words, as what a run began with; and numbers that a log of ours writes as null
                if value is not None or name not in self.found[group]:
                    continue
                number = math.nan
            if not math.isfinite(number) and name != "gradient":  # in float16 that is one of the scale's steps
                self.problems.append(f"{where}: {name} is not finite")
            curves = self.found[group]
            if name not in curves and self._names >= MOST_CURVES:
                continue
            self._names += name not in curves
            curves.setdefault(name, {})[step] = number if math.isfinite(number) else math.nan


def _number(value: Any) -> float | None:
    """A number of a file as a float, infinite where it is too large for one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return math.inf
    return found if abs(found) < LARGEST_NUMBER else math.copysign(math.inf, found)  # what no axis can hold


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_record(file: Path, problems: list[str]) -> Mapping[str, Any]:
    """A JSON object of a small file; an empty one, and a problem, where it is none."""
    try:
        if file.stat().st_size > 2**24:
            raise ValueError("it is too large")
        value = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        return cast(dict[str, Any], printable_json(value))
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror or error) if isinstance(error, OSError) else "it is damaged, or of something else"
        problems.append(f"{file.name}: cannot be read ({why})")
        return {}
