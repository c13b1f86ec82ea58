"""The report as plain data: what `--json` prints and report.json holds. Numbers are fractions of 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refseg import __version__
from refseg.data.checks.identity import DataIdentity, stated_identity
from refseg.data.reading import TOLD
from refseg.fields import as_list, as_record, parse_json, read_text
from refseg.files import first_line
from refseg.protocols import STANDARD, Protocol, protocol_from_dict
from refseg.scoring.bootstrap import RESAMPLES, intervals
from refseg.scoring.breakdown import GROUPINGS, breakdowns, outcomes
from refseg.scoring.metrics import Scored, Scores

FEWEST = 10  # images of a group that has an interval: a resample of fewer is hardly one
GROUPED = "mIoU"  # the number of a group that has one
SOME = 5  # messages about what was left out that a report shows
COLUMNS = tuple(field.name for field in fields(Scored))


@dataclass(frozen=True)
class Origin:
    """Where the numbers of a report come from.

    Attributes:
        model: Name of the model.
        data: Name or folder of the data set, as it was given.
        split: Which split.
        words: "true", "shuffled" or "swapped".
        limit: At most this many expressions were asked.
        source: "model", "predictions" or "scores": what was scored.
        training: How the model's weights came to be, if known.
        command: The command that was given.
        seed: Of the resamples and of ties among the pictures.
        reading: How the data set's files were read; see `refseg.data.reading.Reading.told`.
        left_out: What was left out of the split because it cannot be used, a message each.
        identity: Which data set that is; None where only `data` is known.
        precision: In which the model answered; "fp32" where it is not known otherwise.
    """

    model: str
    data: str
    split: str
    words: str
    limit: int | None
    source: str
    training: dict[str, Any]
    command: str
    seed: int = 0
    reading: Mapping[str, Any] = field(default_factory=lambda: dict(TOLD))
    left_out: tuple[str, ...] = ()
    identity: DataIdentity | None = None
    precision: str = "fp32"


def make_report(
    scores: Scores, took: dict[str, float], origin: Origin, baselines: dict[str, Scores], resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Everything a report says but its pictures and its single expressions."""
    protocol = scores.protocol
    names = list(dict.fromkeys((*STANDARD, *protocol.metrics)))
    report: dict[str, Any] = {
        "model": origin.model,
        **(origin.identity or DataIdentity(origin.data, origin.data)).as_dict(),
        "split": origin.split,
        "protocol": protocol.name,
        "protocol_line": protocol.line,
        "protocol_fields": protocol.as_dict(),
        "words": origin.words,
        **origin.reading,
        "left_out": {"count": len(origin.left_out), "first": list(origin.left_out[:SOME])},
        "limit": origin.limit,
        "images": took["images"],
        "expressions": took["expressions"],
        **scores.summary(),
        "published": scores.published(),
        "intervals": intervals(scores, names, origin.seed, resamples),
        **_groups(scores, origin.seed, resamples),
        "outcomes": outcomes(scores),
        "baselines": {
            name: {"expressions": len(found.pairs), **found.summary(), "by_kind": found.by_kind()}
            for name, found in baselines.items()
        },
        "source": origin.source,
        "precision": origin.precision,
        "seconds": round(took["seconds"], 2),
        "rate": round(took["rate"], 2),
        "training": origin.training,
        "seed": origin.seed,
        "resamples": resamples,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": origin.command,
        "version": __version__,
    }
    if "rounding" in took:
        report["rounding"] = took["rounding"]
    return report


def _groups(scores: Scores, seed: int, resamples: int) -> dict[str, dict[str, dict[str, Any]]]:
    """The groups of expressions; those of images enough with the interval of their mIoU."""
    found: dict[str, dict[str, dict[str, Any]]] = breakdowns(scores)
    for name, group in GROUPINGS.items():
        for label, part in scores.by(group).items():
            if len({pair.image_id for pair in part.pairs}) >= FEWEST:
                found[name][label]["intervals"] = intervals(part, [GROUPED], seed, resamples)
    return found


def with_results(report: dict[str, Any], scores: Scores) -> dict[str, Any]:
    """The report with a row for every expression, from which it can be compared with another."""
    rows = [[getattr(pair, name) for name in COLUMNS] for pair in scores.pairs]
    return report | {"results": {"columns": list(COLUMNS), "rows": rows}}


def _told(error: Exception) -> str:
    """What is wrong with a report; a missing field by its name."""
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else first_line(error)


def _checked(pair: Scored) -> Scored:
    """A row of a report's results, if its numbers can be those of an expression.

    Raises:
        ValueError: They cannot.
    """
    counts = (pair.intersection, pair.predicted, pair.target, pair.words, pair.pixels)
    fits = all(type(count) is int and count >= 0 for count in counts) and type(pair.index) is type(pair.number) is int
    fits = fits and pair.intersection <= min(pair.predicted, pair.target)
    fits = fits and (pair.rival is None or (isinstance(pair.rival, int | float) and 0 <= pair.rival <= 1))
    fits = fits and (pair.same_category is None or type(pair.same_category) is int)
    fits = (
        fits and isinstance(pair.kind, str | None) and isinstance(pair.sent_id, str) and isinstance(pair.image_id, str)
    )
    if not fits:
        raise ValueError(f"results of {str(pair.sent_id)[:40]!r}: no counts of pixels")
    return pair


def read_report(path: Path) -> tuple[dict[str, Any], Scores]:
    """Reads an evaluation's folder, or its report.json.

    Raises:
        ValueError: There is no report, or it has no row for every expression.
    """
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{path}: no report.json; a folder that `refseg eval --out` wrote is accepted")
    try:
        stored = as_record(parse_json(read_text(file), "the file"), "the file")
        report = {**TOLD, **stored}
        stated_identity(report)  # whoever compares asks for it: what is wrong with it is told with the file's name
        protocol: Protocol = protocol_from_dict(report["protocol_fields"])
        results = as_record(report["results"], "results")
        columns = as_list(results["columns"], "results.columns")
        rows = (as_list(row, "results.rows") for row in as_list(results["rows"], "results.rows"))
        pairs = [_checked(Scored(**dict(zip(columns, row, strict=True)))) for row in rows]
        for name in ("model", "data", "split", "words", "limit"):
            report[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: not a report of `refseg eval --out` ({_told(error)})") from error
    return report, Scores(pairs, protocol)
