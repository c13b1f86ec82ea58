"""Scores of the packaged models, and the tables and plots of docs/results.md made of them.

    python tools/results.py measure [MODEL ...]    # what is missing or of other weights; 20 minutes a model and core
    python tools/results.py                        # docs/results.md and its plots, from docs/results/*.json

The second is `make results`. `measure` runs `refseg eval MODEL --data SET --split SPLIT --words WORDS --json` and
writes down what it printed, with the weights' hash, the commit and the machine. What is between the marks of
docs/results.md is written by this tool alone.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from refseg.charts import STYLE as CHARTS
from refseg.charts import Bar, bar_chart
from refseg.files import hash_of, write_text_beside
from refseg.pages import LIGHT
from refseg.weights.folders import PACKAGED, packaged_models

ROOT = Path(__file__).parents[1]
PAGE, STORE, PLOTS = ROOT / "docs/results.md", ROOT / "docs/results", ROOT / "docs/images"
SETS, SPLITS = ("refshapes", "refshapes+", "refshapesg"), ("val", "testA", "testB")
ASKED = [(data, split, "true") for data in SETS for split in SPLITS] + [
    ("refshapes", "val", "shuffled"), ("refshapes", "val", "swapped"),
]  # fmt: skip
METRICS = ("oIoU", "mIoU", "P@0.5", "P@0.7", "P@0.9")
GUESSER = "noun and colour"
Entry = dict[str, Any]


def store_of(model: str, data: str, split: str, words: str) -> Path:
    """Where the scores of a model are written down."""
    return STORE / f"{model}.{data}.{split}.{words}.json"


def measure(models: Sequence[str]) -> None:
    """Scores what is missing, or was scored of other weights."""
    STORE.mkdir(exist_ok=True)
    for model in models or packaged_models():
        weights = hash_of(PACKAGED / model / "model.safetensors")
        for asked in ASKED:
            file = store_of(model, *asked)
            if file.exists() and json.loads(file.read_text(encoding="utf-8"))["weights"] == weights:
                continue
            data, split, words = asked
            command = ["refseg", "eval", model, "--data", data, "--split", split, "--words", words, "--json"]
            print(" ".join(command), flush=True)
            done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True)
            report = json.loads(done.stdout) | {"command": " ".join(command)}
            found = {"weights": weights, "commit": _commit(), "machine": _machine(), "report": report}
            write_text_beside(file, json.dumps(found, sort_keys=True) + "\n")


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def _machine() -> str:
    """The processor, its cores, and how many threads computed."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"model name\s*: (.*)", lines)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{named[1].strip() if named else platform.processor()}, {os.cpu_count()} cores, {threads} thread(s)"


def entries() -> dict[tuple[str, str, str, str], Entry]:
    """All that was written down, by model, set, split and words."""
    found = {}
    for file in sorted(STORE.glob("*.json")):
        entry = json.loads(file.read_text(encoding="utf-8"))
        report = entry["report"]
        found[(report["model"], report["data"], report["split"], report["words"])] = entry
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def percent(value: float | None) -> str:
    """A share in percent; empty where there is none."""
    return "" if value is None else f"{100 * value:.1f}"


def with_interval(report: Entry, metric: str) -> str:
    """A score and its 95 % interval."""
    low, high = report["intervals"][metric]
    return f"{percent(report[metric])} ({percent(low)} to {percent(high)})"


class Results:
    """What was measured, and the parts of the page made of it; models by their score on val, the best first."""

    def __init__(self) -> None:
        """Reads all that was written down of models that are packaged."""
        packaged = packaged_models()
        self.all = {key: entry for key, entry in entries().items() if key[0] in packaged}
        scored = {key[0]: entry for key, entry in self.all.items() if key[1:] == ASKED[0]}
        self.models = sorted(scored, key=lambda model: -scored[model]["report"]["mIoU"])

    def report(self, model: str, data: str = "refshapes", split: str = "val", words: str = "true") -> Entry | None:
        """What `refseg eval` printed; None where it was not asked."""
        entry = self.all.get((model, data, split, words))
        return None if entry is None else entry["report"]

    def _val(self, model: str) -> Entry:
        report = self.report(model)
        assert report is not None
        return report

    def _score(self, model: str, *asked: str) -> str:
        report = self.report(model, *asked)
        return "not measured" if report is None else percent(report["mIoU"])

    def main(self) -> str:
        """Mean IoU on all splits."""
        header = ["mIoU, %", *(f"`{data}` {split}" for data, split, words in ASKED if words == "true")]
        rows = [
            [model, *(self._score(model, data, split) for data, split, words in ASKED if words == "true")]
            for model in self.models
        ]
        guess = [GUESSER]
        for data, split, words in ASKED:
            if words == "true":
                report = next((found for model in self.models if (found := self.report(model, data, split))), None)
                guess.append("" if report is None else percent(report["baselines"][GUESSER]["mIoU"]))
        return table(header, [*rows, guess])

    def metrics(self) -> str:
        """All metrics on val, with intervals."""
        rows = ([model, *(with_interval(self._val(model), metric) for metric in METRICS)] for model in self.models)
        return table(["`refshapes` val, %", *METRICS], rows)

    def words(self) -> str:
        """Whether the text is read."""
        rows = (
            [model, *(self._score(model, "refshapes", "val", words) for words in ("true", "shuffled", "swapped"))]
            for model in self.models
        )
        return table(["mIoU on `refshapes` val, %", "own words", "of another image", "of another target"], rows)

    def kinds(self) -> str:
        """By kind of expression."""
        return self._groups("by_kind", "kind")

    def lengths(self) -> str:
        """By the number of words."""
        return self._groups("by_length", "length")

    def _groups(self, name: str, called: str) -> str:
        groups = sorted(self._val(self.models[0])[name], key=_in_order)
        rows = [[model, *(percent(self._val(model)[name][group]["mIoU"]) for group in groups)] for model in self.models]
        if name == "by_kind":
            guessed = self._val(self.models[0])["baselines"][GUESSER][name]
            rows.append([GUESSER, *(percent(guessed[group]["mIoU"]) for group in groups)])
        return table([f"mIoU on `refshapes` val by {called}, %", *groups], rows)

    def cost(self) -> str:
        """Size, time and training of every model."""
        rows = []
        for model in self.models:
            report, entry = self._val(model), self.all[(model, *ASKED[0])]
            training, size = report["training"], (PACKAGED / model / "model.safetensors").stat().st_size
            rows.append([
                model, f"{size / 1e6:.1f}", f"{1000 * report['seconds'] / report['images']:.0f}",
                f"{training['steps']:,}", str(training.get("seed", "")), training.get("source", ""),
                f"`{report['command']}`", f"{entry['commit']}, {report['date'][:10]}",
            ])  # fmt: skip
        header = ["model", "MB", "ms an image", "steps", "seed", "start", "row of val above", "commit, date"]
        return table(header, rows)

    def machines(self) -> str:
        """Where it was measured."""
        return "Measured on: " + "; ".join(sorted({entry["machine"] for entry in self.all.values()})) + "."

    def pictures(self) -> str:
        """The plots of single models."""
        return "\n".join(f"![{model} by kind of expression](images/results-{model}.svg)" for model in self.models)

    def plots(self) -> Iterator[tuple[str, str]]:
        """Names and contents of the plots."""
        bars = [
            Bar(model, 100 * self._val(model)["mIoU"], _interval(self._val(model), "mIoU")) for model in self.models
        ]
        guess = 100 * self._val(self.models[0])["baselines"][GUESSER]["mIoU"]
        told = f"RefShapes val (dashed: {GUESSER}, {guess:.1f})"
        yield "results-val.svg", bar_chart(told, "mIoU, %", bars, (GUESSER, guess))
        for model in self.models:
            kinds = self._val(model)["by_kind"]
            bars = [Bar(kind, 100 * found["mIoU"]) for kind, found in kinds.items()]
            whole = 100 * self._val(model)["mIoU"]
            told = f"{model} by kind (dashed: all, {whole:.1f})"
            yield f"results-{model}.svg", bar_chart(told, "mIoU, %", bars, ("all", whole))


def _in_order(group: str) -> tuple[int, str]:
    """Groups of lengths by their numbers, others by their names."""
    number = re.match(r"\d+", group)
    return int(number[0]) if number else 0, group


def _interval(report: Entry, metric: str) -> tuple[float, float]:
    low, high = report["intervals"][metric]
    return 100 * low, 100 * high


def picture_of(figure: str) -> str:
    """The chart of a page as a file of its own, in the light scheme."""
    title = re.search(r"<figcaption>(.*?)</figcaption>", figure)
    drawn = re.search(r"<svg (viewBox=\"0 0 ([\d.]+) ([\d.]+)\".*?)</svg>", figure, re.S)
    assert title and drawn
    width, height = float(drawn[2]), float(drawn[3]) + 26
    style = f"svg {{ {LIGHT} }} {CHARTS.replace('.chart ', '')} text {{ font: 14px system-ui, sans-serif }}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -26 {width:g} {height:g}" width="{1.4 * width:g}">'
        f'<style>{style}</style><rect y="-26" width="100%" height="100%" fill="#fff"/>'
        f'<text x="4" y="-8" font-weight="600">{title[1]}</text>\n<svg {drawn[1]}</svg></svg>\n'
    )


def written(page: str, results: Results) -> str:
    """The page with everything between its marks made anew.

    Raises:
        ValueError: The page names a part that there is not.
    """
    parts = ("main", "metrics", "words", "kinds", "lengths", "pictures", "cost", "machines")

    def part(found: re.Match[str]) -> str:
        if found[1] not in parts:
            raise ValueError(f"docs/results.md: a mark {found[1]!r}; {', '.join(parts)} are accepted")
        return f"<!-- made: {found[1]} -->\n{getattr(results, found[1])()}\n<!-- end -->"

    return re.sub(r"<!-- made: (\w+) -->.*?<!-- end -->", part, page, flags=re.S)


def main(arguments: Sequence[str]) -> None:
    """Measures, or writes the page and its plots."""
    if arguments and arguments[0] == "measure":
        measure(arguments[1:])
        return
    results = Results()
    if not results.models:
        sys.exit(f"{STORE}: no scores of val; `python tools/results.py measure` asks for them")
    write_text_beside(PAGE, written(PAGE.read_text(encoding="utf-8"), results))
    for name, figure in results.plots():
        write_text_beside(PLOTS / name, picture_of(figure))


if __name__ == "__main__":
    main(sys.argv[1:])
