"""`refseg`: all commands, and what becomes of an error."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from refseg.cli import (
    annotate,
    compare,
    convert,
    evaluate,
    explain,
    export,
    models,
    pretrain,
    push,
    runs,
    segment,
    serve,
    train,
)
from refseg.cli.data import app as data_app
from refseg.cli.options import complain, last_line


class Interrupted(Exception):
    """Ctrl-C, with what the command says of it; typer keeps a code alone of a KeyboardInterrupt."""


class _Commands(TyperGroup):
    """All commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(str(error)) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Referring image segmentation: an image and a sentence go in, the mask of that one object comes out.",
)
app.command()(segment.segment)
app.command()(annotate.annotate)
app.command()(explain.explain)
app.command()(serve.serve)
app.command("eval")(evaluate.evaluate)
app.command()(compare.compare)
app.command()(train.train)
app.command()(pretrain.pretrain)
app.command()(runs.runs)
app.command()(runs.report)
app.command()(convert.convert)
app.command()(export.export)
app.command()(models.models)
app.command()(push.push)
app.add_typer(data_app, name="data")

INTERRUPTED = 130  # the shell's code for Ctrl-C; typer returns it or raises, depending on its version


def _print_version(wanted: bool) -> None:
    if wanted:
        from refseg import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _app(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def _hint(said: str) -> str:
    """What helps whoever's expression was taken for an option."""
    if "No such option" in said and sys.argv[1:2] in (["segment"], ["explain"]):
        return "; before an expression that begins with -, put --"
    return ""


def _told(error: Exception) -> str:
    """What an error says; of one that the system raised the file and why, and not its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def main() -> None:
    """Runs the command line; an error is one line on stderr and exit code 2, or a traceback with --debug."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    debug = "--debug" in sys.argv[1:end]
    # It may stand anywhere in front of what is no option any more.
    sys.argv = [argument for argument in sys.argv[:end] if argument != "--debug"] + sys.argv[end:]
    warnings.showwarning = lambda message, *_args, **_kwargs: complain(f"warning: {message}")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    stopped = ""
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort, Interrupted) as error:
        code, stopped = INTERRUPTED, str(error)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # of typer's own errors, whose classes are not public
        full = isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)
        if usage is None and not full and not isinstance(error, ValueError | OSError | FloatingPointError):
            raise
        if debug:
            traceback.print_exc()
        if said := usage() if usage else f"not enough memory ({last_line(error)})" if full else _told(error):
            complain(said + _hint(said))
        sys.exit(2)
    if code == INTERRUPTED and not os.environ.get("RANK", "0").strip("0"):  # of several processes the first
        complain(f"interrupted {stopped}; what was written is kept".replace(" ;", ";"))
    sys.exit(code if isinstance(code, int) else 0)
