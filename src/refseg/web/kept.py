"""Log-odds of the last answers, kept for a while, so that another threshold needs no model."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from refseg.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Entry:
    """The answers to one request.

    Attributes:
        model: Who gave them.
        predictions: With log-odds, without images.
        bytes: Their memory.
        until: When they are forgotten.
    """

    model: str
    predictions: tuple[Prediction, ...]
    bytes: int
    until: float


class Kept:
    """Entries by names that cannot be guessed; the oldest go first, and each when its time is over.

    Args:
        most_bytes: Memory of all together.
        seconds: For so long each is kept.
        clock: Seconds that only grow.
    """

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most_bytes, seconds, clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = Lock()

    def keep(self, model: str, predictions: list[Prediction]) -> str | None:
        """Keeps predictions and returns their name; None where one has no log-odds or they are too large together."""
        size = memory_of(predictions)
        if size > self._most or any(prediction.logits is None for prediction in predictions):
            return None
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._forget_old()
            while self._entries and self._bytes() + size > self._most:
                self._entries.popitem(last=False)
            self._entries[name] = Entry(model, tuple(predictions), size, self._clock() + self._seconds)
        return name

    def find(self, name: str) -> Entry | None:
        """What is kept under a name; None where nothing is, or not any more."""
        with self._lock:
            self._forget_old()
            return self._entries.get(name)

    def forget_old(self) -> None:
        """Frees what has had its time."""
        with self._lock:
            self._forget_old()

    @property
    def bytes(self) -> int:
        """Memory of what is kept."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return sum(entry.bytes for entry in self._entries.values())

    def _forget_old(self) -> None:
        now = self._clock()
        for name in [name for name, entry in self._entries.items() if entry.until <= now]:
            del self._entries[name]


def memory_of(predictions: list[Prediction]) -> int:
    """Bytes of masks and log-odds."""
    return sum(
        prediction.mask.nbytes + (0 if prediction.logits is None else prediction.logits.nbytes)
        for prediction in predictions
    )
