"""The progress bar of the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping

LINES = 50  # steps between two lines in a file


class ProgressBar:
    """A progress bar with rate and time left; it writes to stderr, so that stdout stays clean.

    It is a context manager, and is drawn from the first step on: a refused input leaves one line and no bar.

    Args:
        title: What is being done.
        total: How many there are; None where nobody knows.
        hidden: Write nothing.
    """

    def __init__(self, title: str, total: int | None, hidden: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        rate = TextColumn("{task.fields[rate]}")
        # What a narrow terminal cuts off comes last.
        columns = (MofNCompleteColumn(), BarColumn(20), TimeRemainingColumn(), rate, TextColumn("{task.description}"))
        self._console = Console(stderr=True)
        # What is printed meanwhile stands above the bar, unless it goes somewhere else.
        self._progress = Progress(*columns, console=self._console, disable=hidden, redirect_stdout=sys.stdout.isatty())
        self._hidden = hidden
        self._task = self._progress.add_task(title, total=total, rate="")
        self._title = title
        self._placed = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._progress.start()
        self._progress.update(self._task, advance=count, rate=self._rate())

    def reached(self, done: int, of: int) -> None:
        """So many are done, of so many; the bar ends with the last."""
        self._progress.start()
        self._progress.update(self._task, completed=done, total=of, rate=self._rate())
        if done == of:
            self._progress.stop()

    def at(self, step: int, of: int, losses: Mapping[str, float]) -> None:
        """Step number `step` of so many is done, with these losses; a file gets a line now and then, and no bar."""
        shown = " ".join(f"{name} {value:.3g}" for name, value in losses.items())
        if not self._console.is_terminal:
            if not self._hidden and (step % LINES == 0 or step == of):
                self._console.print(f"{self._title} step {step}/{of}: {shown}", soft_wrap=True, highlight=False)
            return
        self._progress.start()
        if not self._placed:  # a resumed run starts in the middle, and its rate must not count what was done before
            self._placed = True
            self._progress.reset(self._task, completed=step - 1, total=of)
        room = max(len(self._title), self._console.width - 50)  # what is longer would squeeze the other columns
        self._progress.update(
            self._task, completed=step, description=f"{self._title} {shown}"[:room], rate=self._rate()
        )

    def _rate(self) -> str:
        speed = self._progress.tasks[self._task].speed
        return f"{speed:.2f}/s" if speed else ""
