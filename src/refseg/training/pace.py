"""Where the time of a training run goes: how often it is scored, and what a user should be told of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from refseg.types import Dataset

LEAST = 100  # steps between evaluations that nobody asked for: a set of ten images has a pass in a step
MANY_EPOCHS = 1000
FORWARDS = 3  # a training example costs as much as so many that are only answered
WAITING = 0.5  # share of a step's time that may go by until its batch is there
SLOW = 0.05  # seconds in which an image and its masks should be read
LOOKED_AT = 4  # items that are read to know
FIRST, WATCHED = 2, 20  # steps that are not measured, and steps that are
Batch = TypeVar("Batch")


def steps_between_evaluations(epoch: int) -> int:
    """Whole passes over the data, of `epoch` steps each, that are at least `LEAST` steps."""
    return epoch * max(1, -(-LEAST // epoch))


def pace_warnings(
    items: int, images_per_step: int, expressions_per_step: int, steps: int, between: int, asked: int | None
) -> list[str]:
    """What will take longer than a user may think.

    Args:
        items: Images or references of the data; 0 for data without an end.
        images_per_step: How many of them a step takes.
        expressions_per_step: How many expressions it takes at most.
        steps: Steps of the run.
        between: Steps between two evaluations.
        asked: Expressions of an evaluation, if known.
    """
    told = []
    epochs = steps * images_per_step / items if items else 0
    if epochs > MANY_EPOCHS:
        told.append(f"{steps} steps are {epochs:,.0f} passes over {items} items: fewer --steps may do")
    trained = min(between, steps) * expressions_per_step
    if asked is not None and asked > FORWARDS * trained:
        told.append(f"evaluations will take most of the time: each asks {asked} expressions, and between two of them "
                    f"{trained} are trained on; --eval-limit or --eval-every changes that")  # fmt: skip
    return told


def reading_warning(data: Dataset, workers: int) -> list[str]:
    """Reads a few items, and says so if they take long."""
    if data.endless:
        return []
    started = time.perf_counter()
    count = sum(1 for _ in islice((data[number] for number in range(len(data))), LOOKED_AT))
    seconds = (time.perf_counter() - started) / max(1, count)
    if seconds < SLOW:
        return []
    many = max(1, workers)
    return [f"reading may take most of the time: an item takes {seconds:.2f} s, so that {many} worker(s) read "
            f"{many / seconds:.1f} a second; smaller images or more --workers change that"]  # fmt: skip


class Stopwatch:
    """Measures how long the first steps wait for their batches, and says so once if it is most of the time.

    Args:
        workers: Processes that prepare batches.
        say: Takes the message.
    """

    def __init__(self, workers: int, say: Callable[[str], object]) -> None:
        self._workers, self._say = workers, say

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; time spent in here is waiting, time spent by whoever takes them is not."""
        waited = took = 0.0
        asked = time.perf_counter()
        for number, batch in enumerate(batches):
            there = time.perf_counter()
            yield batch
            back = time.perf_counter()
            if FIRST <= number < FIRST + WATCHED:  # the first ones start the workers
                waited, took = waited + there - asked, took + back - asked
                if number == FIRST + WATCHED - 1 and (message := waiting_warning(waited, took, self._workers)):
                    self._say(message)
            asked = back


def waiting_warning(waited: float, took: float, workers: int) -> str:
    """What to say of steps that waited for their batches; empty if they did not for long.

    Args:
        waited: Seconds until their batches were there.
        took: Seconds of the steps, waiting included.
        workers: Processes that prepare batches.
    """
    share = waited / max(took, 1e-9)
    if share <= WAITING:
        return ""
    more = "--workers 1 or more reads" if workers == 0 else f"more than --workers {workers} reads"
    return f"{share:.0%} of the time goes by until the next batch is read; {more} beside the training"
