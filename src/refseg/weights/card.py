"""The card of a model on the Hugging Face hub: what it is, how it is used, what was measured, in the hub's own form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refseg.data.shapes import SETS
from refseg.fields import as_float
from refseg.protocols import STANDARD

PACKAGE_LICENCE = "apache-2.0"  # of this package, and of weights that learned from its own drawings alone
METRICS = {"mIoU": "mean_iou"}  # the hub's names, where it has one
_MARK = re.compile(r"\n<!-- written by refseg push: ([0-9a-f]{64}) -->\n\Z")
_FROM_HERE = re.compile(r"(encoders|weights) of [a-z-]+-shapes(, [a-z-]+-shapes)*|trained from scratch")


@dataclass(frozen=True)
class Measured:
    """Scores on a split.

    Attributes:
        data: Name of the data set.
        split: Which split.
        protocol: Name of the protocol.
        expressions: How many were asked.
        limited: Whether these are only the first of the split.
        scores: By metric, as fractions of 1.
        intervals: 95 % intervals by metric, where they are known.
        by: Where the numbers come from, in words.
    """

    data: str
    split: str
    protocol: str
    expressions: int
    limited: bool
    scores: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    by: str


def of_training(training: Mapping[str, Any]) -> list[Measured]:
    """What the training measured on its val, if it says so."""
    val = training.get("val")
    if not isinstance(val, dict):
        return []
    scores = {name: score for name in STANDARD if (score := as_float(val.get(name))) is not None}
    count = val.get("expressions")
    if not scores or type(count) is not int:
        return []
    name = public_name(str(training.get("data", "unknown"))).split(" + ")[0]
    return [Measured(name, "val", "original", count, False, scores, {}, "the training, at its last evaluation")]


def of_report(report: Mapping[str, Any]) -> Measured:
    """What a report of `refseg eval` measured."""
    names = [*STANDARD, *(name for name in report["published"] if name not in STANDARD)]
    values = {name: report.get(name, report["published"].get(name)) for name in names}
    scores = {name: float(value) for name, value in values.items() if value is not None}
    data = public_name(str(report["data"]))
    return Measured(data, str(report["split"]), str(report["protocol"]), report["expressions"],
                    report["limit"] is not None, scores, report["intervals"],
                    f"refseg eval, version {report['version']}, {str(report['date'])[:10]}")  # fmt: skip


def public_name(name: str) -> str:
    """Names of data sets, joined by " + ", without the folders in which they lie."""
    return " + ".join(_last_part(part) for part in name.split(" + "))


def public_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """How a model was trained, without the folders of the machine that trained it."""
    shown = dict(training)
    if isinstance(shown.get("data"), str):
        shown["data"] = public_name(shown["data"])
    source = shown.get("source")
    start = "weights of "
    if isinstance(source, str) and source.startswith(start):
        model = source.removeprefix(start)
        is_path = re.match(r"[\\/.]|[A-Za-z]:", model)  # and not user/name on the hub
        shown["source"] = start + (_last_part(model) if is_path else model)
    return shown


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def licence_of(training: Mapping[str, Any]) -> str | None:
    """The licence of weights that learned from drawn scenes alone; None where only whoever trained them knows it."""
    data = set(str(training.get("data", "")).split(" + "))
    drawn = data <= set(SETS) and _FROM_HERE.fullmatch(str(training.get("source", "")))
    return PACKAGE_LICENCE if drawn else None


def make_card(
    config: Mapping[str, Any], repository: str, revision: str, measured: Sequence[Measured], licence: str | None
) -> str:
    """The text of README.md, with a mark by which `is_ours` knows that nobody has changed it.

    Args:
        config: The model's `config.json`, as it is sent.
        repository: As `user/name`.
        revision: The branch.
        measured: Scores.
        licence: In the hub's spelling; None where it is unknown.
    """
    from huggingface_hub import EvalResult, ModelCardData

    from refseg.methods import METHODS

    name, method, training = str(config.get("name", "")), str(config["method"]), config.get("training", {})
    results = [
        EvalResult(
            task_type="image-segmentation", task_name="Referring image segmentation", dataset_type=one.data,
            dataset_name=one.data, dataset_split=one.split, metric_type=METRICS.get(metric, metric),
            metric_name=f"{metric}, percent, protocol {one.protocol}, {_many(one)} expressions",
            metric_value=round(100 * value, 2),
        )
        for one in measured for metric, value in one.scores.items()
    ]  # fmt: skip
    head = ModelCardData(
        library_name="refseg", pipeline_tag="image-segmentation", license=licence, model_name=repository,
        tags=["referring-image-segmentation", method], eval_results=results or None,
    ).to_yaml()  # fmt: skip
    drawn = set(str(training.get("data", "")).split(" + ")) <= set(SETS)
    body = "\n\n".join(
        [
            f"# {_text(repository.split('/')[1])}",
            f"{METHODS[method][0].__name__} for referring image segmentation: an image and a sentence go in, the mask "
            f"of that one object comes out. Preset `{_code(training.get('preset', name))}` of refseg."
            + (" It learned drawn shapes (RefShapes) and does not understand photos." if drawn else ""),
            _use(repository, revision, drawn),
            *_scores(measured),
            _training(training),
            "## Licence\n\n" + (f"`{_code(licence)}`." if licence else f"Not stated. The weights learned from "
                                f"{_text(training.get('data', 'unknown data'))}, whose terms are to be read."),
        ]
    )  # fmt: skip
    return _marked(f"---\n{head}\n---\n\n{body}\n")


def is_ours(text: str) -> bool:
    """Whether a card is what `make_card` wrote, without a change."""
    found = _MARK.search(text)
    return found is not None and hashlib.sha256(text[: found.start()].encode()).hexdigest() == found[1]


def _marked(text: str) -> str:
    return f"{text}\n<!-- written by refseg push: {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _use(repository: str, revision: str, drawn: bool) -> str:
    place = repository if revision == "main" else f"{repository}@{revision}"
    image, words = ("scene.png", "the striped square") if drawn else ("photo.jpg", "the man in black on the left")
    return (
        "## How to use it\n\nWith refseg installed:\n\n```python\nfrom refseg import Predictor\n"
        f'predictor = Predictor.from_pretrained("{place}")\n'
        f'mask = predictor("{image}", "{words}").mask  # (H, W) bool\n```'
    )


def _scores(measured: Sequence[Measured]) -> list[str]:
    if not measured:
        return []
    names = list(dict.fromkeys(name for one in measured for name in one.scores))
    lines = ["| data | split | protocol | expressions | " + " | ".join(names) + " |", "|---" * (4 + len(names)) + "|"]
    for one in measured:
        cells = [_score(one, name) for name in names]
        lines.append(
            "| " + " | ".join([_text(one.data), _text(one.split), _text(one.protocol), _many(one), *cells]) + " |"
        )
    by = "; ".join(f"{_text(one.data)} {_text(one.split)}: {_text(one.by)}" for one in measured)
    return ["## Scores\n\nPercent, in brackets 95 % intervals over images.\n\n" + "\n".join(lines) + f"\n\n{by}."]


def _score(one: Measured, name: str) -> str:
    if name not in one.scores:
        return ""
    interval = one.intervals.get(name)
    told = f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return f"{100 * one.scores[name]:.2f}{told}"


def _many(one: Measured) -> str:
    return f"{'first ' if one.limited else ''}{one.expressions}"


def _training(training: Mapping[str, Any]) -> str:
    known = {name: value for name, value in training.items() if name != "val"}
    if not known:
        return "## How it was trained\n\nThe model does not say."
    rows = [f"| {_text(name)} | {_text(_plain(value))} |" for name, value in known.items()]
    return "## How it was trained\n\n| | |\n|---|---|\n" + "\n".join(rows)


def _plain(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(value: Any) -> str:
    """A text that stays one in Markdown: no markup, no lines."""
    line = " ".join(str(value).split())[:200]
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line)


def _code(value: Any) -> str:
    return re.sub(r"[`\s]", "", str(value))[:100]
