"""What a run writes down: `log.jsonl`, one object per line, and the same numbers for TensorBoard if asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from refseg.files import write_text_beside, writing


class Log:
    """The log of a run in its folder.

    Args:
        out: The run's folder.
        step: Steps done; what an earlier process wrote about later ones is taken back, since they are run again. None
            for a run that begins, of which nothing may stand there.
        tensorboard: Also write `tensorboard/`.

    Raises:
        ValueError: TensorBoard is wanted and not installed.
    """

    def __init__(self, out: Path, step: int | None, tensorboard: bool = False) -> None:
        self.path = out / "log.jsonl"
        writer = find_tensorboard() if tensorboard else None
        first = 0 if step is None else step + 1
        self._writer: Any = writer(str(out / "tensorboard"), purge_step=first) if writer is not None else None
        self._trim(first)

    def write(self, step: int, seconds: float, **entry: Any) -> None:
        """Appends one line; every number, also in a mapping such as `val`, is a point of a curve in TensorBoard."""
        finite = {name: x if not isinstance(x, float) or math.isfinite(x) else None for name, x in entry.items()}
        line = json.dumps({"step": step, "seconds": round(seconds, 1), **finite})
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._writer is not None:
            for name, value in entry.items():
                curves = value if isinstance(value, dict) else {name: value}
                group = name if isinstance(value, dict) else "train"
                for curve, number in curves.items():
                    if isinstance(number, int | float):
                        self._writer.add_scalar(f"{group}/{curve}", number, step)
            self._writer.flush()

    def close(self) -> None:
        """Lets go of TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()

    def _trim(self, first: int) -> None:
        """Takes the lines from a step on away."""
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = "".join(f"{line}\n" for line in lines if _step_of(line) < first)
        write_text_beside(self.path, kept)


def find_tensorboard() -> Any:
    """TensorBoard's writer.

    Raises:
        ValueError: It is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard: not installed; pip install 'refseg[train]' is accepted") from error
    return SummaryWriter


def _step_of(line: str) -> float:
    """The step of a line; infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return math.inf
