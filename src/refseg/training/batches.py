"""What the engine reads in a step, whatever is trained, and how a worker tells what went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, Protocol


class Batches(Protocol):
    """What is read in a step: the batches of this process, which know `ids` and `to`."""

    def __len__(self) -> int:
        """Steps of the run."""
        ...

    def __getitem__(self, step: int) -> Sequence[Any]:
        """The batches of one step."""
        ...


class Told:
    """Batches whose error is handed over instead of raised: a worker's own would arrive with its whole traceback."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        """Steps of the run."""
        return len(self.batches)

    def __getitem__(self, step: int) -> Sequence[Any] | Exception:
        """The batches of one step, or what went wrong."""
        try:
            return self.batches[step]
        except Exception as error:
            error.add_note(traceback.format_exc())
            return error
