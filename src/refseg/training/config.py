"""What a training run is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from refseg.checked import Checked
from refseg.data.formats.refer import NAMED
from refseg.data.reading import AS_IT_IS, Reading
from refseg.data.shapes import SETS
from refseg.fields import as_record, parse_json, read_text
from refseg.files import first_line
from refseg.presets import get_preset
from refseg.presets.base import Preset
from refseg.training.history import RUN_FILE
from refseg.training.step import Precision
from refseg.weights.folders import ENCODERS, packaged_models
from refseg.weights.store import config_from_dict
from refseg.weights.versions import FORMAT, check_format, upgraded_config

_PATHS = ("out", "encoders", "images")
PARTS = ("model", "input", "recipe")
READING = tuple(field.name for field in fields(Reading))  # which stand beside the other things in the file


@dataclass(frozen=True)
class Run(Checked):
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
        reading: How the data sets' files are read that leave a choice.
        trust_data: Begin without looking at the data sets' files.
        init: Model whose weights the run begins with instead of the preset's encoders.
        precision: What the network computes in; weights, losses and optimiser stay in float32.
        accumulate: Parts that every process divides its share of a step into, to need less memory.
        recompute: Compute the inside of blocks again on the way back, to need less memory.
        ema: Decay of averaged weights, which are then the ones that are scored and saved; 0 for none.
        tensorboard: Write `tensorboard/` too.
        overwrite: Begin anew in a folder that holds another run, or anything else of its names, which is lost.
    """

    least = {"seed": 0, "workers": 0}

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
    reading: Reading = AS_IT_IS
    trust_data: bool = False
    init: str | None = None
    precision: Precision = "fp32"
    accumulate: int = 1
    recompute: bool = False
    ema: float = 0.0
    tensorboard: bool = False
    overwrite: bool = False


def data_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of data sets as they are from every folder: a path becomes absolute, a set that has a name keeps it."""
    return tuple(_from_everywhere(name, {*SETS, *NAMED}) for name in names)


def init_name(name: str) -> str:
    """The same with the name of a model."""
    return _from_everywhere(name, packaged_models())


def _from_everywhere(name: str, known: Collection[str]) -> str:
    return os.path.abspath(name) if name not in known and os.path.exists(name) else name


def describe(preset: Preset) -> str:
    """All that decides what a preset computes; a checkpoint is only resumed with the same."""
    parts = {"model": asdict(preset.model), "input": asdict(preset.input), "recipe": asdict(preset.recipe)}
    return json.dumps({"name": preset.name, **parts}, sort_keys=True)


def run_to_json(run: Run) -> str:
    """What a run was told, so that it can go on without being told again; paths become absolute."""
    told: dict[str, Any] = {field.name: getattr(run, field.name) for field in fields(Run)}
    told |= {name: getattr(run.reading, name) for name in READING}
    del told["preset"], told["reading"], told["overwrite"]
    told |= {name: str(told[name].absolute()) for name in _PATHS if told[name] is not None}
    told["data"] = list(data_names(run.data))
    told["init"] = None if run.init is None else init_name(run.init)
    return json.dumps({"format": FORMAT, "preset": json.loads(describe(run.preset)), **told}, indent=1) + "\n"


def read_run(out: Path, find: Callable[[str], Preset] = get_preset) -> Run:
    """What the run in a folder was told.

    Args:
        out: The folder.
        find: Finds the preset of a name.

    Raises:
        ValueError: There is no run, one from before this was kept, or its file is damaged.
    """
    file = out / RUN_FILE
    if not file.is_file():
        raise ValueError(f"{out}: holds no {RUN_FILE}, which says what a run was told; --resume with PRESET and the "
                         "options of the run is accepted")  # fmt: skip
    try:
        told = dict(as_record(parse_json(read_text(file), "the file"), "the file"))
        version, stored = check_format(told.pop("format")), dict(as_record(told.pop("preset"), "preset"))
        if stored["name"] in ENCODERS and find is get_preset:
            raise ValueError(f"a pretraining; `refseg pretrain {stored['name']} --resume` goes on with it")
        base = find(stored["name"])
        stored["model"] = upgraded_config(version, base.method, as_record(stored["model"], "model"))
        parts = {name: config_from_dict(type(getattr(base, name)), stored[name], name) for name in PARTS}
        told |= {name: Path(told[name]) for name in _PATHS if told[name] is not None}
        told["data"] = tuple(told["data"]) if isinstance(told["data"], list) else told["data"]
        told["reading"] = Reading(**{name: told.pop(name) for name in READING if name in told})
        return Run(preset=replace(base, **parts), **(told | {"out": out}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not what a run was told ({first_line(error)})") from error
