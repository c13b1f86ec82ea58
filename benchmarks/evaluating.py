"""What of an evaluation is not the model: CPU seconds of `evaluation_report`, and of the network's three parts in it.

    python -m benchmarks.evaluating --json

The model is asked about the first scenes of RefShapes val, in one thread; guessers are scored along with it, as in
`refseg eval`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.side_by_side import machine, say, told

from refseg.data.shapes import RefShapes
from refseg.predictor import Predictor
from refseg.protocols import ORIGINAL
from refseg.scoring.report import Origin
from refseg.scoring.runs import evaluation_report


class First(RefShapes):
    """The first scenes of val."""

    def __init__(self, scenes: int) -> None:
        """Takes so many scenes."""
        super().__init__("refshapes", "val")
        self._scenes = scenes

    def __len__(self) -> int:
        """Number of scenes."""
        return self._scenes


class Clocked:
    """A network whose parts are timed."""

    def __init__(self, network: Any) -> None:
        """Takes the network."""
        self._network, self.seconds = network, 0.0
        self.encode_image, self.encode_text = self._timed(network.encode_image), self._timed(network.encode_text)
        self._forward = self._timed(network)

    def _timed(self, part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            begun = time.process_time()
            found = part(*given, **named)
            self.seconds += time.process_time() - begun
            return found

        return run

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Answers."""
        return self._forward(*given, **named)


def main() -> None:
    """Evaluates several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lgformer-shapes")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.from_pretrained(given.model, "cpu")
    clocked = Clocked(predictor.network)
    predictor.network = clocked
    origin = Origin(given.model, "refshapes", "val", "true", None, "model", {}, "")
    whole, outside = [], []
    for turn in range(given.times + 1):
        clocked.seconds, begun = 0.0, time.process_time()
        report = evaluation_report(predictor, First(given.scenes), origin, ORIGINAL)
        if turn:  # the first is not counted
            whole.append(time.process_time() - begun)
            outside.append(1 - clocked.seconds / whole[-1])
    found = {
        "benchmark": "evaluating", "model": given.model, "images": report["images"],
        "expressions": report["expressions"], "seconds": told(whole), "outside": told(outside),
    }  # fmt: skip
    say(found | machine(1, "cpu"), given.json)


if __name__ == "__main__":
    main()
