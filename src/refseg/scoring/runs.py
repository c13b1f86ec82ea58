"""An evaluation from the question to the page: ask, answer and judge; then guess, report and draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from refseg.answers import AT_ONCE, Answer, Answerer
from refseg.data.checks.identity import identify, same_data, stated_identity
from refseg.data.questions import Question, asked_of
from refseg.data.transforms import InputConfig
from refseg.files import FolderLock, prepare_folder, write_text_beside
from refseg.protocols import STANDARD, Protocol
from refseg.scoring.cases import draw_cases
from refseg.scoring.evaluation import IMAGES_PER_BATCH, evaluate
from refseg.scoring.guessers import Guesses, can_be_guessed, evaluate_baselines
from refseg.scoring.metrics import Scored, Scores
from refseg.scoring.predictions import (
    PredictionFile,
    PredictionWriter,
    asks_for_more,
    make_header,
    read_header,
    score_predictions,
)
from refseg.scoring.report import Origin, make_report, read_report, with_results
from refseg.scoring.report_page import make_page
from refseg.scoring.saved_scores import SavedScores, score_saved
from refseg.types import Sample, Samples

Progress = Callable[[int], None] | None


@dataclass(frozen=True)
class _Evaluation:
    """What asking, answering and judging left: all that a report needs.

    Attributes:
        origin: What was asked, and in whose name.
        scores: The scores.
        took: See `refseg.scoring.evaluation.evaluate`.
        config: What the model saw, if known.
        source: Where the answers are kept, for pictures; None if they are not.
        guesses: What guessers scored on the way; None where they did not go along.
    """

    origin: Origin
    scores: Scores
    took: dict[str, float]
    config: InputConfig | None
    source: PredictionFile | SavedScores | None
    guesses: Guesses | None = None


def evaluation_report(
    predictor: Answerer,
    data: Samples,
    origin: Origin,
    protocol: Protocol,
    out: Path | None = None,
    save_scores: bool = False,
    progress: Progress = None,
    images_per_batch: int = IMAGES_PER_BATCH,
    at_once: int = AT_ONCE,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Scores a model and, where the data set has them, its guessers.

    Args:
        predictor: The model.
        data: The split.
        origin: What is asked, and in whose name.
        protocol: How masks are made and compared.
        out: Folder of predictions.jsonl, report.json and report.html; an evaluation that was stopped goes on there.
        save_scores: Also keep 8-bit scores in `out`/scores.
        progress: Called with the number of images done since the last call.
        images_per_batch: How many images the model sees at a time.
        at_once: How many expressions it answers at a time.
        overwrite: Take away what another evaluation left in `out`.

    Raises:
        ValueError: `out` holds another evaluation, or the model does not give what the protocol or saved scores need.
    """
    predictor.check_protocol(protocol)
    seen = predictor.about.input
    if save_scores and seen is None:
        raise ValueError(f"--save-scores: {predictor.about.name} gives no log-odds at a network's size; without it is "
                         "accepted")  # fmt: skip
    words: Any = origin.words
    origin = replace(origin, identity=identify(origin.data, data), precision=predictor.about.precision)
    guesses = Guesses(data, protocol, seen) if words == "true" and can_be_guessed(data) else None
    run = partial(evaluate, predictor, data, origin.limit, words, images_per_batch, progress, protocol,
                  at_once=at_once, judged=None if guesses is None else guesses.add)  # fmt: skip
    if out is None:
        return _reported(_Evaluation(origin, *run(), seen, None, guesses), data, None)
    prepare_folder(out)
    with FolderLock(out):
        assert origin.identity is not None
        header = make_header(
            predictor, origin.model, origin.identity, origin.split, words, origin.limit, protocol,
            origin.reading["orientation"],
        )  # fmt: skip
        if overwrite:
            _clear(out)
        _refuse_other(out / "predictions.jsonl", header)
        _refuse_report(out, origin, protocol)
        saved = SavedScores(out / "scores", _scores_header(header, seen)) if save_scores and seen is not None else None
        writer = PredictionWriter(out / "predictions.jsonl", header)

        def known(question: Question) -> list[np.ndarray] | None:
            return None if saved is not None and not saved.has(question) else writer.known(question)

        def keep(question: Question, answer: Answer) -> None:
            if saved is not None:
                saved.keep(question, answer)
            writer.keep(question, answer)

        try:
            scores, took = run(known=known, keep=keep)
            writer.finish()
        finally:
            writer.close()
        done = _Evaluation(origin, scores, took, seen, PredictionFile(writer.path), guesses)
        return _reported(done, data, out)


def _refuse_report(out: Path, origin: Origin, protocol: Protocol) -> None:
    """Makes sure that the report of another evaluation, or a file that is none, is not replaced.

    Raises:
        ValueError: There is one.
    """
    file = out / "report.json"
    if not file.is_file():
        return
    try:
        there, scores = read_report(file)
    except ValueError as error:
        raise ValueError(f"{error}; it is not replaced: a new folder is accepted") from error
    mine = {"model": origin.model, "data": origin.data, "split": origin.split, "words": origin.words,
            "protocol": protocol.name}  # fmt: skip
    differ = [name for name, value in mine.items() if there.get(name, scores.protocol.name) != value]
    if differ:
        raise ValueError(f"{out}: holds the report on {there['model']!r} that differs in {', '.join(differ)}; a new "
                         "folder is accepted, or the one of the same evaluation")  # fmt: skip


def _refuse_other(path: Path, header: dict[str, Any]) -> None:
    """Makes sure that nothing of another evaluation is overwritten.

    Raises:
        ValueError: The file holds the predictions of another model, or of another question.
    """
    there = _stated_header(path, header)
    if there is None or asks_for_more(header, there):
        return
    differ = [name for name in {**header, **there} if there.get(name) != header.get(name)]
    if differ:
        raise ValueError(
            f"{path.parent}: holds predictions of {there.get('model')!r} that differ in {', '.join(differ)}; "
            "a new folder is accepted, or the one of the same evaluation"
        )


def _stated_header(path: Path, header: dict[str, Any]) -> dict[str, Any] | None:
    """The header of the predictions that are there, finished or not; None where there are none.

    Raises:
        ValueError: There is a file that is none.
    """
    for place in (path, path.with_name(f".{path.name}.part")):  # the second of an evaluation that was stopped
        if place.is_file() and place.stat().st_size:
            try:
                there = read_header(place)
            except ValueError:
                if place != path:  # stopped in its first line
                    continue
                raise
            if place == path or there != header:
                return there
    return None


def predictions_report(
    path: Path,
    data: Samples,
    origin: Origin,
    protocol: Protocol,
    out: Path | None = None,
    progress: Progress = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Scores a predictions file, or a folder of saved scores, on the split it is about; see `evaluation_report`.

    Raises:
        ValueError: They are about another data set or split, or do not fit the split; names the difference.
    """
    origin = replace(origin, identity=identify(origin.data, data))
    source = SavedScores(path) if path.is_dir() else PredictionFile(path)
    if out is None:
        return _of_predictions(source, data, origin, protocol, None, progress, overwrite)
    prepare_folder(out)
    with FolderLock(out):
        return _of_predictions(source, data, origin, protocol, out, progress, overwrite)


def _of_predictions(
    source: SavedScores | PredictionFile,
    data: Samples,
    origin: Origin,
    protocol: Protocol,
    out: Path | None,
    progress: Progress,
    overwrite: bool,
) -> dict[str, Any]:
    stated = _stated(origin, source.header, "scores" if isinstance(source, SavedScores) else "predictions")
    if out is not None and not overwrite:
        _refuse_report(out, stated, protocol)
    if isinstance(source, SavedScores):
        scores, took = score_saved(source, data, protocol, progress)
        return _reported(_Evaluation(stated, scores, took, source.config, source), data, out)
    scores, took = score_predictions(source, data, protocol, stated.limit, progress)
    return _reported(_Evaluation(stated, scores, took, source.config(), source), data, out)


def _clear(out: Path) -> None:
    """Takes away what an evaluation writes."""
    for name in ("predictions.jsonl", ".predictions.jsonl.part", "report.json", "report.html"):
        (out / name).unlink(missing_ok=True)
    for saved in (*(out / "scores").glob("*.npz"), out / "scores" / "header.json"):
        saved.unlink(missing_ok=True)


def _stated(origin: Origin, header: Mapping[str, Any], source: str) -> Origin:
    """The origin of a report on what a header describes.

    Raises:
        ValueError: It is about another data set or split, or states what cannot be.
    """
    made_on = stated_identity(header)
    if made_on is not None and origin.identity is not None and not same_data(made_on, origin.identity):
        raise ValueError(f"--data {origin.data!r}: the predictions were made on {made_on.data!r}"
                         f"{f' ({made_on.data_file})' if made_on.data_file else ''}; that data set, by whatever name "
                         "or path, is accepted")  # fmt: skip
    if header.get("split", origin.split) != origin.split:
        raise ValueError(
            f"--split {origin.split!r}: the predictions were made on {header['split']!r}; that is accepted"
        )
    limit, words = header.get("limit"), header.get("words", "true")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"predictions with the limit {limit!r}: a number of expressions from 1, or none, is accepted")
    if words not in ("true", "shuffled", "swapped"):
        raise ValueError(f"predictions with the words {words!r}: true, shuffled or swapped is accepted")
    model, precision = str(header.get("model", "unknown")), str(header.get("precision", "fp32"))
    return replace(origin, source=source, model=model, words=words, limit=limit, precision=precision)


def _scores_header(header: dict[str, Any], config: InputConfig) -> dict[str, Any]:
    names = ("format", "model", "sha256", "data", "data_name", "data_file", "split", "words", "limit")
    kept = {name: header[name] for name in names}
    return kept | {"input": {"size": list(config.size), "resize": config.resize}}


def _reported(done: _Evaluation, data: Samples, out: Path | None) -> dict[str, Any]:
    """From scores to the report, and to the page with its pictures where there is a folder for it."""
    scores, origin = done.scores, done.origin
    guessed = {} if done.guesses is None else done.guesses.scores
    if done.guesses is None and can_be_guessed(data):
        guessed = evaluate_baselines(data, origin.limit, scores.protocol, done.config)
    report = make_report(scores, done.took, origin, guessed)
    if out is not None:
        prepare_folder(out)
        cases = draw_cases(scores, data, partial(_mask_of, done, data), done.config, origin.seed)
        write_text_beside(out / "report.json", json.dumps(with_results(report, scores)) + "\n")
        write_text_beside(out / "report.html", make_page(report, cases))
    return report


def _mask_of(done: _Evaluation, data: Samples, pair: Scored, sample: Sample) -> tuple[str, np.ndarray]:
    """What was asked about an expression, and the mask (H, W) that was answered."""
    source = done.source
    assert source is not None, "pictures are made of answers that were kept"
    if isinstance(source, PredictionFile):
        text = sample.expressions[pair.number].text
        return str(source.row(pair.sent_id).get("expression", text)), source.mask(pair.sent_id)
    numbers = [i.number for i in done.scores.pairs if i.index == pair.index]
    words: Any = done.origin.words
    texts = asked_of(data, pair.index, words)
    question = Question(pair.index, sample, numbers, [texts[i] for i in numbers])
    return texts[pair.number], source.masks(question, done.scores.protocol)[numbers.index(pair.number)]


def evaluation_table(report: dict[str, Any]) -> Table:
    """The report as a table, in percent: the model with its intervals, groups of expressions, and the guessers."""
    where = f"{report['model']} on {report['data']} {report['split']}"
    table = Table(title=escape(f"{where}, protocol {report['protocol']}, percent"))
    table.add_column("")
    table.add_column("expressions", justify="right")
    for metric in STANDARD:
        table.add_column(metric, justify="right")

    def row(name: str, numbers: dict[str, Any], count: int | str) -> None:
        shown = (f"{100 * numbers[metric]:.2f}" if metric in numbers else "" for metric in STANDARD)
        table.add_row(escape(name), str(count), *shown)

    row("all" if report["words"] == "true" else f"words {report['words']}", report, report["expressions"])
    for i, end in enumerate(("from", "to")):
        row(f"  95 % {end}", {name: interval[i] for name, interval in report["intervals"].items()}, "")
    for group in ("by_kind", "by_length", "by_size", "by_same_category"):
        table.add_section()
        for name, numbers in report[group].items():
            row(f"  {name}" + (" of its category" if group == "by_same_category" else ""), numbers,
                numbers["expressions"])  # fmt: skip
    table.add_section()
    for guesser, numbers in report["baselines"].items():
        row(f"{guesser} (true words)" if report["words"] != "true" else guesser, numbers, numbers["expressions"])
    loss = " + ".join(report["training"].get("loss", ["unknown"]))
    other = [f"{name} {100 * x:.2f}" for name, x in report["published"].items() if name not in STANDARD]
    failures = ", ".join(f"{name} {count}" for name, count in report["outcomes"].items() if count)
    left_out = report["left_out"]
    lines = [
        *([f"{left_out['count']} left out, the first: {left_out['first'][0]}"] if left_out["count"] else []),
        f"{report['images']} images, {report['seconds']} s, {report['rate']:.1f} expressions/s; "
        f"trained with the loss {loss}",
        f"protocol {report['protocol_line']}",
        *([f"as {report['protocol']} names it: {', '.join(other)}"] if other else []),
        *(
            [f"from 8-bit scores: log-odds x off by about {report['rounding']:.4f} sqrt(x² + 1) at most"]
            if "rounding" in report
            else []
        ),
        failures,
    ]
    table.caption = escape("\n".join(lines))
    return table
