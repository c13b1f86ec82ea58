"""The report as one HTML file: no scripts, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from refseg.protocols import STANDARD
from refseg.scoring.breakdown import OUTCOMES
from refseg.scoring.cases import Case

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin-top: 2.2rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; color: #555; padding-bottom: .3rem }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
td.text { white-space: normal; text-align: left }
thead th { border-bottom: 2px solid #888 }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid #ddd; border-radius: .3rem; padding: .6rem }
figure div { display: flex; gap: .4rem } figure div > span { flex: 1; font-size: .8rem; color: #555 }
figure img { width: 100%; height: auto; display: block }
figcaption { margin-top: .4rem; overflow-wrap: anywhere }
dt { font-weight: 600 } dd { margin: 0 0 .5rem; overflow-wrap: anywhere }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
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
    sections = [_main(report)]
    if report["baselines"]:
        sections.append(_table("Guessers without a model", "with the true words", _rows(report["baselines"])))
    sections += [_table(heading, note, _rows(report[name])) for name, (heading, note) in GROUPS.items() if report[name]]
    sections += [_outcomes(report), *(_cases(name, some) for name, some in cases.items() if some), _origin(report)]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _main(report: Mapping[str, Any]) -> str:
    extra = [name for name in report["published"] if name not in STANDARD]
    rows = []
    for name in (*STANDARD, *extra):
        value = report[name] if name in STANDARD and name in report else report["published"].get(name)
        if value is None:
            continue
        low_high = report["intervals"].get(name)
        interval = f"{100 * low_high[0]:.2f} to {100 * low_high[1]:.2f}" if low_high else "–"
        rows.append((name, f"{100 * value:.2f}", interval))
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
    table = _html_table(("", "percent", "95 % interval"), rows, note)
    return f"<section>\n<p>Protocol <b>{escape(report['protocol_line'])}</b></p>\n{table}\n</section>"


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


def _table(heading: str, note: str, rows: Iterable[tuple[str, ...]]) -> str:
    table = _html_table(("", "expressions", *STANDARD), rows, f"percent; {note}")
    return f"<section>\n<h2>{escape(heading)}</h2>\n{table}\n</section>"


def _outcomes(report: Mapping[str, Any]) -> str:
    total = sum(report["outcomes"].values())
    rows = [
        (name, str(count), f"{100 * count / total:.2f}", OUTCOMES[name])
        for name, count in report["outcomes"].items()
        if count
    ]
    note = (
        "every expression is one of these; known objects are those that are referred to and, where the data set has "
        "more annotations, all of these but crowds, parts of the target and groups that it belongs to"
    )
    table = _html_table(("", "expressions", "percent", "meaning"), rows, note, text_last=True)
    return f"<section>\n<h2>Wrong object or poor mask</h2>\n{table}\n</section>"


def _html_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], note: str, text_last: bool = False) -> str:
    def cell(i: int, value: str) -> str:
        if i == 0:
            return f'<th scope="row">{escape(value)}</th>'
        kind = ' class="text"' if text_last and i == len(head) - 1 else ""
        return f"<td{kind}>{escape(value)}</td>"

    top = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in head)
    lines = "\n".join("<tr>" + "".join(cell(i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table>\n<caption>{escape(note)}</caption>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def _cases(name: str, cases: list[Case]) -> str:
    figures = "\n".join(_figure(case) for case in cases)
    title = {"best": "Best", "median": "Nearest to the median", "worst": "Worst"}.get(name, name)
    return f'<section>\n<h2>{escape(title)}</h2>\n<div class="cases">\n{figures}\n</div>\n</section>'


def _figure(case: Case) -> str:
    pictures = "".join(
        f'<span>{what}<img src="{escape(address)}" alt="{escape(f"{what} for: {case.expression}")}"></span>'
        for what, address in (("predicted", case.predicted), ("target", case.target))
    )
    said = f"IoU {100 * case.iou:.1f} %, {case.outcome}; image {case.image_id}"
    return (
        f"<figure><div>{pictures}</div><figcaption><q>{escape(case.expression)}</q><br>{escape(said)}"
        "</figcaption></figure>"
    )


def _origin(report: Mapping[str, Any]) -> str:
    facts = {
        "Command": report["command"],
        "Date": report["date"],
        "Version": f"refseg {report['version']}",
        "Seed": str(report["seed"]),
        "Scored": f"{report['source']}, {report['rate']:.1f} expressions per second, {report['seconds']} s",
        **{f"Training: {name}": str(value) for name, value in report["training"].items()},
    }
    listed = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in WARNINGS)
    return (
        f"<section>\n<h2>Where these numbers come from</h2>\n<dl>\n{listed}\n</dl>\n</section>\n"
        f"<section>\n<h2>Before comparing</h2>\n<ul>\n{notes}\n</ul>\n</section>"
    )
