"""Two evaluations of the same expressions: which model is better, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from refseg.data.checks.identity import DataIdentity, same_data, stated_identity
from refseg.scoring.bootstrap import RESAMPLES, interval_of, resampled, sums_by_image
from refseg.scoring.breakdown import outcome_of
from refseg.scoring.metrics import Scores, iou_of
from refseg.scoring.report import read_report

COMPARED = ("mIoU", "oIoU", "P@0.5")
MUST_AGREE = ("split", "words", "limit", "overlap", "mask_values", "orientation", "protocol_fields")


def compare(a: Path, b: Path, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The paired difference B minus A of two evaluation folders (or report.json).

    Both are resampled together, image by image, so that what makes an image easy for both cancels out.

    Args:
        a: The evaluation that is compared with.
        b: The evaluation of interest.
        seed: Decides which images are drawn.
        resamples: How many times.

    Returns:
        Per number of `COMPARED` its value in A and B, `difference` B minus A and its 95 % `interval`; `wins`, `losses`
        and `ties` of B by the IoU of single expressions; `only_a_right` and `only_b_right`, counted at IoU 0.5.

    Raises:
        ValueError: They are not about the same expressions under the same protocol; names the difference.
    """
    (report_a, scores_a), (report_b, scores_b) = read_report(a), read_report(b)
    data = [stated_identity(report) or DataIdentity("unknown", "unknown") for report in (report_a, report_b)]
    if not same_data(*data):
        raise ValueError(f"{a} and {b}: data {_named(data[0])} and {_named(data[1])}; evaluations of the same data, "
                         "by whatever name or path, are accepted")  # fmt: skip
    for name in MUST_AGREE:
        if report_a[name] != report_b[name]:
            one, other = _difference(report_a[name], report_b[name])
            raise ValueError(f"{a} and {b}: {name.removesuffix('_fields')} {one} and {other}; evaluations of the same "
                             "data, split, words, limit and protocol are accepted")  # fmt: skip
    pairs_a, pairs_b = ({pair.sent_id: pair for pair in scores.pairs} for scores in (scores_a, scores_b))
    if unmatched := sorted(set(pairs_a) ^ set(pairs_b)):
        some = ", ".join(unmatched[:3])
        raise ValueError(f"{a} and {b}: {len(unmatched)} expressions are in one of them only ({some}); the same "
                         "expressions are accepted")  # fmt: skip
    for sent_id, pair in pairs_a.items():
        if (pair.image_id, pair.target) != (pairs_b[sent_id].image_id, pairs_b[sent_id].target):
            raise ValueError(f"{a} and {b}: expression {sent_id!r} has another image or target mask in each; the same "
                             "data are accepted")  # fmt: skip
    protocol = scores_a.protocol
    ious = np.array([(iou_of(pair, protocol), iou_of(pairs_b[sent_id], protocol)) for sent_id, pair in pairs_a.items()])
    right = [
        tuple(outcome_of(pair, protocol) in ("right", "rightly nothing") for pair in (pairs_a[i], pairs_b[i]))
        for i in pairs_a
    ]
    return {
        "a": str(a),
        "b": str(b),
        "models": [report_a["model"], report_b["model"]],
        **{name: report_a[name] for name in ("data", "split", "words", "limit")},
        "protocol": protocol.name,
        "protocol_line": protocol.line,
        "expressions": len(pairs_a),
        "images": len({pair.image_id for pair in pairs_a.values()}),
        "numbers": _differences(scores_a, scores_b, seed, resamples),
        "wins": int((ious[:, 1] > ious[:, 0]).sum()),
        "losses": int((ious[:, 1] < ious[:, 0]).sum()),
        "ties": int((ious[:, 1] == ious[:, 0]).sum()),
        "only_a_right": right.count((True, False)),
        "only_b_right": right.count((False, True)),
        "seed": seed,
        "resamples": resamples,
    }


def _differences(a: Scores, b: Scores, seed: int, resamples: int) -> dict[str, dict[str, Any]]:
    one, other = a.summary(), b.summary()
    # Both have the same images in the same order, so that the same seed draws the same images.
    drawn = resampled(sums_by_image(b, COMPARED), seed, resamples) - resampled(
        sums_by_image(a, COMPARED), seed, resamples
    )
    return {
        name: {
            "a": one[name],
            "b": other[name],
            "difference": other[name] - one[name],
            "interval": interval_of(drawn[:, i]),
        }
        for i, name in enumerate(COMPARED)
        if name in one and name in other
    }


def _named(data: DataIdentity) -> str:
    return repr(data.data) + (f" ({data.data_file})" if data.data_file else "")


def _difference(one: Any, other: Any) -> tuple[str, str]:
    """Two values; of two sets of fields those that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in one if one[name] != other.get(name)]
        return tuple(", ".join(f"{name} {some.get(name)!r}" for name in names) for some in (one, other))  # type: ignore
    return repr(one), repr(other)


def comparison_table(found: dict[str, Any]) -> Table:
    """The comparison as a table, in percent and points."""
    title = escape(f"{found['b']} minus {found['a']} on {found['data']} {found['split']}, percent")
    table = Table(title=title, min_width=100)
    for column in ("", "A", "B", "B - A", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right")
    for name, numbers in found["numbers"].items():
        low, high = numbers["interval"] or (float("nan"), float("nan"))
        table.add_row(name, f"{100 * numbers['a']:.2f}", f"{100 * numbers['b']:.2f}",
                      f"{100 * numbers['difference']:+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}")  # fmt: skip
    table.caption = escape(
        f"{found['expressions']} expressions of {found['images']} images, {found['resamples']} paired resamples of "
        f"images; B is better on {found['wins']}, worse on {found['losses']}, equal on {found['ties']}; right only in "
        f"A {found['only_a_right']}, only in B {found['only_b_right']}; protocol {found['protocol_line']}"
    )
    return table
