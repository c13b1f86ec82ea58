"""`refseg data`: making data sets and looking them over."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refseg.cli.options import (
    ImagesOption,
    JsonOption,
    MaskValuesOption,
    OrientationOption,
    OverlapOption,
    OverwriteOption,
    SkipBadOption,
    complain,
    read_as,
)

if TYPE_CHECKING:
    from rich.table import Table

    from refseg.data.checks.findings import Measure, Report

app = typer.Typer(no_args_is_help=True, help="Make a data set from instance masks; look data sets over.")


@app.command()
def refer(
    coco: Annotated[Path, typer.Argument(metavar="COCO.json", help="Instance masks in COCO's format.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder with the images.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new data set.")],
    seed: Annotated[int, typer.Option(min=0, help="Chooses among what could be said.")] = 0,
    per_object: Annotated[int, typer.Option("--per-object", min=1, help="At most this many expressions each.")] = 3,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at no more than this many images.")] = None,
    val_percent: Annotated[
        int, typer.Option(min=0, max=100, help="Share of the images in val, drawn by what is in their files.")
    ] = 10,
    orientation: OrientationOption = "fitting",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write expressions that each fit exactly one annotated object, with its mask: OUT/data.jsonl and OUT/summary.json.

    OUT/instances.json has all annotations of these images: an evaluation knows then what else could have been meant.

    What they say comes from categories, places, order, sizes and relations. Objects that are tiny, cut off, hidden,
    in pieces or annotated twice are left out, and so is everything on which people could disagree. What nobody
    annotated is not known: look at some of the results.
    """
    from refseg.data.describe import Describer, Options, Photos
    from refseg.files import FolderLock, prepare_folder, write_beside, write_text_beside
    from refseg.progress import ProgressBar

    turned = read_as(orientation=orientation).orientation
    target = out / "data.jsonl"
    mine = out / "instances.json"
    for file in (target, out / "summary.json", mine):
        if file.exists() and coco.exists() and file.samefile(coco):
            raise ValueError(f"{file}: is read and would be replaced; another folder is accepted")
        if file.exists() and not overwrite:
            raise ValueError(f"{file}: exists; a folder without {file.name} is accepted, or --overwrite")
    describer = Describer(Photos(coco), images, out, Options(seed, per_object, limit, val_percent, turned))
    prepare_folder(out)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for row in describer.rows(bar.advance):
                file.write(json.dumps(row) + "\n")

    with FolderLock(out), ProgressBar("describing", len(describer), hidden=_unseen(as_json)) as bar:
        try:
            write_beside(target, write)
        except OSError as error:
            if isinstance(error.__cause__, ValueError):  # what the input lacks is no failure to write
                raise error.__cause__ from None
            raise
        summary = describer.summary()
        write_text_beside(mine, json.dumps(describer.instances()) + "\n")
        write_text_beside(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(summary))
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary["kinds"].items())
    typer.echo(f"{summary['expressions']} expressions ({kinds}) about {summary['objects']} objects "
               f"in {summary['images']} images -> {target}")  # fmt: skip
    for what in ("left_out", "images_left_out"):
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary[what].items())
        typer.echo(f"{'objects' if what == 'left_out' else 'images'} left out: {reasons or 'none'}")
    typer.echo(summary["notice"])


@app.command()
def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder with data sets, or the file of one.")],
    fast: Annotated[bool, typer.Option("--fast", help="Do not open the images.")] = False,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json, vocab.txt or vocab.json; else words and signs are counted.")
    ] = None,
    train_list: Annotated[
        Path | None,
        typer.Option("--train-list", help="Names or paths of images that are trained on, one a line."),
    ] = None,
    images: ImagesOption = None,
    mask_values: MaskValuesOption = None,
    orientation: OrientationOption = "fitting",
    as_json: JsonOption = False,
) -> None:
    """Look over the data sets in and below ROOT: files, counts, images, masks, expressions, lengths and leakage.

    Images of a training split that another set scores are a warning, as whoever trains on one set only may have them;
    with --train-list the list decides, and every image on it that some set scores is an error. Paths in the list are
    compared from their end, as far as both sides have them.

    The exit code is 1 if an error was found; warnings leave it 0.
    """
    from refseg.data.checks.doctor import check as check_data
    from refseg.data.checks.findings import WORDS
    from refseg.progress import ProgressBar

    measure = WORDS if tokenizer is None else _measure(tokenizer)
    reading = read_as(images, mask_values=mask_values, orientation=orientation)
    with ProgressBar("checking", None, hidden=_unseen(as_json)) as bar:
        report = check_data(root, fast, measure, train_list, lambda what: bar.advance(1), reading)
    if as_json:
        typer.echo(json.dumps(report.summary()))
    else:
        from rich.console import Console

        Console(width=140).print(*_tables(report))
    if report.count("error"):
        raise typer.Exit(1)


@app.command()
def export(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Name or folder of a data set, as for `refseg eval`.")],
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="New or empty folder.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write these answers instead of DATA: --predictions FILE OUT.json.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A split; may be given again. All that end by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images of each split.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="jsonl, or refer with refs(BY).p's kin beside instances.json; of --predictions coco-results."
        ),
    ] = None,
    images: ImagesOption = None,
    overlap: OverlapOption = "union",
    mask_values: MaskValuesOption = None,
    orientation: OrientationOption = "fitting",
    skip_bad: SkipBadOption = False,
    name: Annotated[
        str | None, typer.Option(help="Of the new data set in the layout refer, in OUT/NAME; DATA's own by default.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the images, masks and expressions of DATA in the layout of data.jsonl or of REFER."""
    from refseg.data.formats.export import export_jsonl, export_refer
    from refseg.data.index import IndexedSamples
    from refseg.data.sets import open_splits
    from refseg.data.verify import without_bad

    if predictions is not None:
        others = {"--split": split, "--limit": limit, "--images": images, "--mask-values": mask_values, "--name": name,
                  "--skip-bad": skip_bad or None, "--overlap": overlap if overlap != "union" else None,
                  "--orientation": orientation if orientation != "fitting" else None}  # fmt: skip
        if given := [option for option, value in others.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} with --predictions: the file says what was asked; --layout and "
                             "--overwrite are accepted")  # fmt: skip
        _export_answers(predictions, Path(data), out, layout, overwrite, as_json)
        return
    layout = "jsonl" if layout is None else layout
    if layout not in ("jsonl", "refer"):
        other = " of DATA; --predictions FILE has it" if layout == "coco-results" else ""
        raise ValueError(f"--layout {layout!r}: unknown{other}; accepted are jsonl, refer")
    if out is None:
        raise ValueError(f"{data!r} alone: DATA and OUT are accepted, or --predictions FILE OUT.json")
    if name is not None and layout != "refer":
        raise ValueError(f"--name {name!r} with --layout {layout}: a set in this layout is called as its folder; "
                         "--layout refer is accepted")  # fmt: skip
    splits = open_splits(data, read_as(images, overlap, mask_values, orientation, skip_bad))
    if missing := [chosen for chosen in split or () if chosen not in splits]:
        raise ValueError(f"{data}: there is no split {missing[0]!r}; accepted are {', '.join(splits)}")
    wanted = [splits[chosen] for chosen in split or splits if split or limit or not splits[chosen].endless]
    if skip_bad:
        wanted = [without_bad(part) if isinstance(part, IndexedSamples) else part for part in wanted]
        for message in dict.fromkeys(told for part in wanted for told in getattr(part, "left_out", ())):
            complain(f"left out: {message}")
    if layout == "jsonl":
        path = export_jsonl(wanted, out, limit, overwrite)
    else:
        called = name if name is not None else _exported_name(wanted[0].name)
        path = export_refer(wanted, out, called, limit=limit, overwrite=overwrite)
    if as_json:
        splits_written = [part.split for part in wanted]
        typer.echo(json.dumps({"data": wanted[0].name, "splits": splits_written, "layout": layout, "out": str(path)}))
        return
    typer.echo(f"{', '.join(part.split for part in wanted)} of {wanted[0].name} -> {path}")


def _export_answers(
    predictions: Path, target: Path, second: Path | None, layout: str | None, overwrite: bool, as_json: bool
) -> None:
    """Writes answers for the tools that people have."""
    from refseg.scoring.coco_results import write_coco_results

    if layout not in (None, "coco-results"):
        raise ValueError(f"--layout {layout!r} with --predictions: coco-results is accepted")
    if second is not None:
        raise ValueError(f"{str(target)!r} and {str(second)!r} with --predictions: OUT.json alone is accepted")
    written = write_coco_results(predictions, target, overwrite)
    if as_json:
        typer.echo(json.dumps({"predictions": str(predictions), "layout": "coco-results", "out": str(target),
                               "expressions": written}))  # fmt: skip
        return
    typer.echo(f"{written} answers -> {target}")


def _unseen(as_json: bool) -> bool:
    """Whether nobody would look at a progress bar: scripts read JSON and keep stderr in files."""
    return as_json or not sys.stderr.isatty()


def _exported_name(name: str) -> str:
    """The name of a data set as that of its export.

    Raises:
        ValueError: The layout does not allow it.
    """
    from refseg.data.formats.export import NAME_ACCEPTED, is_name

    if not is_name(name):
        raise ValueError(f"the data set's name {name!r}: {NAME_ACCEPTED}; give another with --name")
    return name


def _measure(path: Path) -> Measure:
    from refseg.data.checks.findings import LIMITS, Measure
    from refseg.encoders.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    # Only CLIP's keeps its last token when a sentence is cut.
    clip = tokenizer(["a a a a"], 3).ids[0, -1] == tokenizer([""], 2).ids[0, -1]

    def lengths(sentences: Any) -> list[int]:
        longest = max(len(sentence.encode()) for sentence in sentences) + 2  # no token is shorter than a byte
        return [int(n) for n in tokenizer(sentences, longest).mask.sum(1)]

    encoder = "CLIP" if clip else "BERT"
    assert encoder in LIMITS
    return Measure(f"tokens of {path}", lengths, (encoder,))


def _tables(report: Report) -> list[Table | str]:
    from rich.markup import escape
    from rich.table import Table

    sets = Table(title=f"data sets in {escape(report.root)}")
    for column in ("data", "split", "references", "sentences", "images"):
        sets.add_column(column, justify="right" if column not in ("data", "split") else "left")
    for entry in report.sets:
        for split, counts in entry["splits"].items():
            sets.add_row(escape(entry["name"]), escape(split), *(str(number) for number in counts.values()))
    found = Table(title=f"{report.count('error')} errors, {report.count('warning')} warnings", show_lines=True)
    for column in ("", "finding", "where", "count", "examples"):
        found.add_column(column, overflow="fold", justify="right" if column == "count" else "left")
    for finding in report.findings:
        name = f"[bold]{finding.name}[/bold]\n{escape(finding.says)}"
        examples = escape("\n".join(finding.examples))
        found.add_row(finding.severity, name, escape(finding.where), str(finding.count), examples)
    notes = [f"lengths: {report.tokens}", *(f"not looked at: {what}" for what in report.skipped)]
    return [sets, found, escape("\n".join(notes))]
