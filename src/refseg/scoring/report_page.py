"""The report as one HTML file: scores and a picture, the protocol behind them, charts, cases, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from refseg.charts import Bar, bar_chart
from refseg.pages import big_numbers, facts, html_table, make_document, section
from refseg.protocols import STANDARD
from refseg.scoring.breakdown import OUTCOMES
from refseg.scoring.cases import Case

GENERATOR = "refseg eval"
STYLE = """
.opening { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem 2.5rem;
  align-items: start }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem }
.case { margin: 0; border: 1px solid var(--line); border-radius: .3rem; padding: .6rem; background: var(--card) }
.case div { display: flex; gap: .4rem } .case div > span { flex: 1; font-size: .8rem; color: var(--dim) }
.case img { width: 100%; height: auto; display: block }
.case figcaption { margin-top: .4rem }
@media print { .cases { grid-template-columns: repeat(3, 1fr) } }
"""
COUNTED = "In brackets the number of expressions."
OPENING = ("mIoU", "oIoU", "P@0.5")  # the numbers that are seen first
GROUPS = {
    "by_length": (
        "By length of the expression",
        "words as the data set counts them, else without punctuation; the buckets of LGFormer's Table 3",
    ),
    "by_size": ("By size of the target", "its share of the image's pixels"),
    "by_same_category": (
        "By number of objects of the target's category",
        "objects of that category that the data set knows in the image, the target included",
    ),
    "by_kind": ("By kind of expression", "as the data set names them"),
}
WARNINGS = (
    "oIoU adds up pixels, so that large objects decide it; mIoU counts every expression alike. They are different "
    "numbers: LAVT on RefCOCO val has 72.73 and 74.46.",
    "Numbers under different protocols cannot be compared: masks squashed to the network's size or at the image's own, "
    "thresholds of 0.5, 0.35 or 0.36, empty masks that score 1 or 0.",
    "Scores during training on one sentence per object are noisy; two runs of one recipe differ by about half a point "
    "of oIoU on RefCOCO val. Differences of 0.2 to 1.0 points between published tables are mostly single runs.",
)


def make_page(report: Mapping[str, Any], cases: Mapping[str, list[Case]]) -> str:
    """One HTML document.

    Args:
        report: What `make_report` gives.
        cases: What `draw_cases` gives.
    """
    title = f"{report['model']} on {report['data']} {report['split']}"
    parts = [_opening(report, cases), _protocol(report)]
    if report["baselines"]:
        parts.append(_guessers(report))
    parts += [_group(report, name) for name in GROUPS if report[name]]
    parts += [_outcomes(report), *(_cases(name, some) for name, some in cases.items() if some), _origin(report)]
    return make_document(title, parts, STYLE, GENERATOR)


def _opening(report: Mapping[str, Any], cases: Mapping[str, list[Case]]) -> str:
    """The scores, and an answer of the middle of them."""
    numbers = [(name, f"{_percent(value)} %", _interval(report, name)) for name, value in _first_numbers(report)]
    asked = f"{report['expressions']} expressions about {report['images']} images, protocol {report['protocol']}."
    told = [f"<p>{escape(asked)}</p>"]
    if report["words"] != "true":
        told.append(f'<p class="warn">Asked with {escape(report["words"])} words: low numbers are good.</p>')
    middle = cases.get("median") or [case for some in cases.values() for case in some]
    shown = _figure(middle[0], "An answer of the middle: ") if middle else ""
    return f'<section class="opening">\n<div>{big_numbers(numbers)}{"".join(told)}</div>\n{shown}\n</section>'


def _first_numbers(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What is seen first: the usual numbers, or under a protocol that publishes others these."""
    published = report["published"]
    usual = [name for name in OPENING if report.get(name) is not None]
    if usual and (not published or set(usual) & set(published)):
        return [(name, report[name]) for name in usual]
    return [(name, value) for name, value in published.items() if value is not None][: len(OPENING)]


def _interval(report: Mapping[str, Any], name: str) -> str:
    low_high = report["intervals"].get(name)
    return f"95 %: {100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}" if low_high else "no interval"


def _protocol(report: Mapping[str, Any]) -> str:
    extra = [name for name in report["published"] if name not in STANDARD]
    rows, bars = [], []
    for name in (*STANDARD, *extra):
        value = report[name] if name in STANDARD and name in report else report["published"].get(name)
        if value is None:
            continue
        low_high = report["intervals"].get(name)
        interval = f"{100 * low_high[0]:.2f} to {100 * low_high[1]:.2f}" if low_high else "–"
        rows.append((name, f"{100 * value:.2f}", interval))
        bars.append(Bar(name, 100 * value, (100 * low_high[0], 100 * low_high[1]) if low_high else None))
    words = "" if report["words"] == "true" else f" Asked with {report['words']} words, so low numbers are good."
    limit = "" if report["limit"] is None else f" Only the first {report['limit']} expressions were asked."
    rounding = (
        f" Scored from 8-bit scores: log-odds x are off by about {report['rounding']:.4f} sqrt(x² + 1) at most."
        if "rounding" in report
        else ""
    )
    overlap = "" if report["overlap"] == "union" else " Pixels under two parts of a target count as background (lavt)."
    left_out = _left_out(report)
    note = (
        f"{report['expressions']} expressions about {report['images']} images.{words}{limit}{overlap}{left_out}"
        f"{rounding} "
        f"Intervals: {report['resamples']} resamples of images with the seed {report['seed']}."
    )
    table = html_table(("", "percent", "95 % interval"), rows, note)
    chart = bar_chart("All scores", "percent", bars)
    line = f"<p>{escape(report['protocol_line'])}</p>"
    return section("The protocol behind them", line, '<div class="beside">', chart, table, "</div>")


def _left_out(report: Mapping[str, Any]) -> str:
    left_out = report.get("left_out") or {"count": 0}
    if not left_out["count"]:
        return ""
    return f" {left_out['count']} rows, images or masks were left out because they cannot be used."


def _rows(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (name, str(numbers["expressions"]), *(_percent(numbers.get(metric)) for metric in STANDARD))
        for name, numbers in groups.items()
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _bar(name: str, numbers: Mapping[str, Any]) -> Bar:
    low_high = numbers.get("intervals", {}).get("mIoU")
    interval = (100 * low_high[0], 100 * low_high[1]) if low_high else None
    return Bar(name, 100 * numbers["mIoU"], interval, f"({numbers['expressions']})")


def _whole(report: Mapping[str, Any]) -> tuple[str, float] | None:
    return ("all expressions", 100 * report["mIoU"]) if report.get("mIoU") is not None else None


def _group(report: Mapping[str, Any], name: str) -> str:
    """A chart and a table of the groups that expressions fall into."""
    heading, note = GROUPS[name]
    groups = report[name]
    bars = [_bar(label, numbers) for label, numbers in groups.items() if numbers.get("mIoU") is not None]
    few = " Groups of few images have no interval." if any(bar.interval is None for bar in bars) else ""
    chart = bar_chart(f"mIoU {heading[0].lower()}{heading[1:]}", "mIoU, percent",
                      bars, _whole(report), COUNTED + few)  # fmt: skip
    return section(heading, '<div class="beside">', chart, _scores_table(note, groups), "</div>")


def _scores_table(note: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    return html_table(("", "expressions", *STANDARD), _rows(groups), f"percent; {note}")


def _guessers(report: Mapping[str, Any]) -> str:
    own = {"expressions": report["expressions"], "mIoU": report.get("mIoU"), "intervals": report["intervals"]}
    compared = {str(report["model"]): own, **report["baselines"]}
    bars = [_bar(name, numbers) for name, numbers in compared.items() if numbers.get("mIoU") is not None]
    chart = bar_chart("mIoU of the model and of guessers", "mIoU, percent", bars, note=COUNTED)
    table = _scores_table("with the true words", report["baselines"])
    return section("Guessers without a model", '<div class="beside">', chart, table, "</div>")


def _outcomes(report: Mapping[str, Any]) -> str:
    total = sum(report["outcomes"].values())
    found = {name: count for name, count in report["outcomes"].items() if count}
    rows = [(name, str(count), f"{100 * count / total:.2f}", OUTCOMES[name]) for name, count in found.items()]
    note = (
        "every expression is one of these; known objects are those that are referred to and, where the data set has "
        "more annotations, all of these but crowds, parts of the target and groups that it belongs to"
    )
    bars = [Bar(name, 100 * count / total, None, f"({count})") for name, count in found.items()]
    chart = bar_chart("What became of the expressions", "percent of all expressions", bars,
                      note=COUNTED)  # fmt: skip
    table = html_table(("", "expressions", "percent", "meaning"), rows, note, texts=(3,))
    return section("Wrong object or poor mask", '<div class="beside">', chart, table, "</div>")


def _cases(name: str, cases: list[Case]) -> str:
    figures = "\n".join(_figure(case) for case in cases)
    title = {"best": "Best", "median": "Nearest to the median", "worst": "Worst"}.get(name, name)
    return section(title, f'<div class="cases">\n{figures}\n</div>')


def _figure(case: Case, before: str = "") -> str:
    pictures = "".join(
        f'<span>{what}<img src="{escape(address)}" alt="{escape(f"{what} for: {case.expression}")}"></span>'
        for what, address in (("predicted", case.predicted), ("target", case.target))
    )
    said = f"{before}IoU {100 * case.iou:.1f} %, {case.outcome}; image {case.image_id}"
    return (
        f'<figure class="case"><div>{pictures}</div><figcaption><q>{escape(case.expression)}</q><br>{escape(said)}'
        "</figcaption></figure>"
    )


def _origin(report: Mapping[str, Any]) -> str:
    known = {
        "Command": report["command"],
        "Date": report["date"],
        "Version": f"refseg {report['version']}",
        "Seed": str(report["seed"]),
        "Scored": f"{report['source']}, {report['rate']:.1f} expressions per second, {report['seconds']} s",
        **{f"Training: {name}": str(value) for name, value in report["training"].items()},
    }
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in WARNINGS)
    return section("Where these numbers come from", facts(known)) + section("Before comparing", f"<ul>\n{notes}\n</ul>")
