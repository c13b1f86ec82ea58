"""Ctrl-C and a cluster's request to end, between two steps."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupt:
    """Turns Ctrl-C, or a cluster's request to end, into a wish that is asked for between two steps."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    wanted = False

    def __init__(self, insist: bool) -> None:
        """`insist`: whether a second Ctrl-C stops at once; several processes only stop together."""
        self.insist = insist

    def __enter__(self) -> Interrupt:
        self.before: list[Any] = []
        if threading.current_thread() is threading.main_thread():
            self.before = [signal.signal(number, self._note) for number in self.SIGNALS]
        return self

    def _note(self, number: int, _: object) -> None:
        if self.wanted and self.insist and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True

    def __exit__(self, *_: object) -> None:
        for number, before in zip(self.SIGNALS, self.before, strict=False):
            signal.signal(number, before)


def ignore_ctrl_c(_: int) -> None:
    """In a worker: Ctrl-C reaches all processes, but the run decides when to stop; it ends its workers by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
