"""What a training run is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refseg.data.formats.regions import Overlap
from refseg.presets.base import Preset
from refseg.training.step import Precision


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        preset: What is trained, and how.
        data: Names of the data sets.
        out: Folder for `checkpoints/`, `log.jsonl`, `last/` and `best/`.
        steps: Steps of the run, at the end of which the learning rate reaches zero; None for the preset's.
        epochs: Passes over the data instead of steps; of data that has an end.
        seed: Seed of weights, order and expressions.
        save_every: Steps between checkpoints.
        keep: How many checkpoints stay.
        eval_every: Steps between evaluations on `val`; None for a pass over the data.
        eval_limit: Expressions of an evaluation; None for all.
        eval_batch: Images, and expressions, that the model sees at a time in an evaluation.
        workers: Processes that prepare batches, for every process that trains.
        device: Where the network is; CUDA where there is one by default.
        encoders: Folder of the published encoder weights.
        images: Folder of the data sets' images, where they are not in their usual place.
        overlap: What becomes of pixels that two parts of a mask cover.
        init: Model whose weights the run begins with instead of the preset's encoders.
        precision: What the network computes in; weights, losses and optimiser stay in float32.
        accumulate: Parts that every process divides its share of a step into, to need less memory.
        recompute: Compute the inside of blocks again on the way back, to need less memory.
        ema: Decay of averaged weights, which are then the ones that are scored and saved; 0 for none.
        tensorboard: Write `tensorboard/` too.
    """

    preset: Preset
    data: tuple[str, ...]
    out: Path
    steps: int | None = None
    epochs: int | None = None
    seed: int = 0
    save_every: int = 500
    keep: int = 2
    eval_every: int | None = None
    eval_limit: int | None = None
    eval_batch: int = 16
    workers: int = 1
    device: str | None = None
    encoders: Path | None = None
    images: Path | None = None
    overlap: Overlap = "union"
    init: str | None = None
    precision: Precision = "fp32"
    accumulate: int = 1
    recompute: bool = False
    ema: float = 0.0
    tensorboard: bool = False
