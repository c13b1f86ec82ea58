"""The scores of an evaluation's folder, for whoever shows them as those of a model."""

from __future__ import annotations

from pathlib import Path

from refseg.files import first_line
from refseg.scoring.predictions import read_header
from refseg.scoring.report import read_report
from refseg.weights.card import Measured, of_report


def measured_by(folder: Path, identity: str) -> Measured:
    """What `refseg eval --out` measured of a model.

    Args:
        folder: The evaluation's folder.
        identity: `Model.identity` of the model that it must be of.

    Raises:
        ValueError: There is no report, or one of another model or of other words.
    """
    report, _ = read_report(folder)
    predictions = folder / "predictions.jsonl"
    if not predictions.is_file():
        raise ValueError(f"{folder}: has no predictions.jsonl, which says whose the scores are; the folder that "
                         "`refseg eval --out` wrote is accepted")  # fmt: skip
    if read_header(predictions).get("identity") != identity:
        raise ValueError(f"{folder}: is the evaluation of another model, {report['model']!r}; one of these weights is "
                         "accepted")  # fmt: skip
    if report["words"] != "true":
        raise ValueError(f"{folder}: was asked with {report['words']} words; one with the true words is accepted")
    try:
        return of_report(report)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{folder}: its report.json is damaged ({first_line(error)})") from error
