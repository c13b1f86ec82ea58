"""The state of a run on disk: everything that decides what the next step computes."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from refseg.checked import accepted, hints
from refseg.data.reading import TOLD
from refseg.files import first_line, write_beside
from refseg.presets import preset_table
from refseg.weights.versions import FORMAT, check_format, upgraded_config, upgraded_tensors

_NAME = re.compile(r"step-(\d+)\.pt")


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        step: Steps done; also the number of the next one.
        seed: Seed of the run.
        steps: Steps the run is planned for.
        preset: The preset's name, model, input and recipe, as JSON.
        data: Names of the data sets, joined by " + ".
        precision: What the network computed in.
        ema: Decay of the averaged weights; 0 for none.
        source: Where the first weights came from, in words.
        tokenizer: The tokenizer's file.
        texts: Fingerprint of the training sentences; empty in the first checkpoints.
        reading: How files were read that leave a choice, but for `overlap`.
        best: Best validation score so far, None before the first.
        seconds: Time trained so far.
    """

    step: int
    seed: int
    steps: int
    preset: str
    data: str
    items: int
    overlap: str
    eval_limit: int | None
    precision: str
    ema: float
    source: str
    tokenizer: str
    texts: str = ""
    reading: dict[str, Any] = field(default_factory=lambda: dict(TOLD))
    terms: list[str] = field(default_factory=list)
    best: float | None = None
    evaluated: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    # What another run must have in common to go on with this one.
    FIXED: ClassVar = (
        "data",
        "items",
        "texts",
        "overlap",
        "reading",
        "seed",
        "steps",
        "preset",
        "precision",
        "ema",
        "eval_limit",
    )


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        run: Where the run stands.
        parts: State by name: network, optimiser, loss scale, averaged weights.
        random: Random states of every process, of the CPU and of its GPU.
    """

    run: RunState
    parts: dict[str, dict[str, Any]]
    random: list[dict[str, Any]]


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [(int(name[1]), path) for path in out.glob("checkpoints/*") if (name := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(out: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Writes a checkpoint beside the others and takes away all but the last `keep`.

    Raises:
        OSError: It cannot be written, as on a full disk; the earlier ones stay.
    """
    path = out / "checkpoints" / name_of(checkpoint.run.step)
    held = {"run": vars(checkpoint.run), "parts": checkpoint.parts, "random": checkpoint.random}
    content = {"format": FORMAT, **held, "hashes": _hashes(held)}

    def write(beside: Path) -> None:
        with beside.open("wb") as file:  # Python's own file says why it cannot be written, torch's does not
            torch.save(content, file)

    write_beside(path, write)
    for old in checkpoints(out)[:-keep]:
        old.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; nothing in the file is executed.

    Raises:
        ValueError: The file is damaged or none.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = check_format(content.get("format", 1))  # the first one did not say which it is
        if "hashes" in content:  # the first ones had none
            found = _hashes({name: content[name] for name in ("run", "parts", "random")})
            if wrong := [name for name in found if content["hashes"].get(name) != found[name]]:
                raise ValueError(f"{wrong[0]} is not what was written")
        checkpoint = Checkpoint(RunState(**content["run"]), dict(content["parts"]), list(content["random"]))
        _check_types(checkpoint)
        return checkpoint if version == FORMAT else _upgraded(version, checkpoint)
    except pickle.UnpicklingError as error:  # whose text tells how to execute what the file says
        raise ValueError(f"{path}: not a checkpoint of this version (damaged, or more than tensors)") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path}: not a checkpoint of this version ({first_line(error)})") from error


def _hashes(held: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each part of a checkpoint: where the run stands, the state of each thing, the random states."""
    parts = {"run": held["run"], "random": held["random"], **held["parts"]}
    found = {}
    for name, part in parts.items():
        digest = hashlib.sha256()
        _feed(digest, part)
        found[name] = digest.hexdigest()
    return found


def _feed(digest: Any, value: Any) -> None:
    """Feeds a hash with tensors, containers and plain values, so that different ones feed it differently."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)};".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)};".encode())
        for key, inner in value.items():
            _feed(digest, key)
            _feed(digest, inner)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)};".encode())
        for inner in value:
            _feed(digest, inner)
    else:
        text = repr(value).encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__} {len(text)};".encode() + text)


def _check_types(checkpoint: Checkpoint) -> None:
    """Refuses what no run writes.

    Raises:
        ValueError: Names it.
    """
    for name, kind in hints(RunState).items():
        if name != "FIXED" and (told := accepted(kind, getattr(checkpoint.run, name), 0)):
            raise ValueError(f"{name} is not {told}")
    for name, part in checkpoint.parts.items():
        if not isinstance(name, str) or not isinstance(part, dict):
            raise ValueError(f"{name!s} is no state")
    if not all(isinstance(state, dict) for state in checkpoint.random):
        raise ValueError("random holds no states")


def _upgraded(version: int, stored: Checkpoint) -> Checkpoint:
    """A checkpoint of an earlier format under today's names; the optimiser counts parameters and needs none."""
    preset = json.loads(stored.run.preset)
    method = preset_table()[preset["name"]]["method"]
    preset["model"] = upgraded_config(version, method, preset["model"])
    parts = dict(stored.parts)
    for name, prefix in (("network", ""), ("average", "module.")):
        if name in parts:
            parts[name] = upgraded_tensors(version, method, parts[name], prefix)
    run = replace(stored.run, preset=json.dumps(preset, sort_keys=True))
    return Checkpoint(run, parts, stored.random)


def last_checkpoint(out: Path, before: int | None = None) -> Checkpoint:
    """The newest checkpoint of a run that can be read; a damaged one is passed over with a warning.

    Args:
        out: The folder of the run.
        before: Take one of fewer steps than this.

    Raises:
        ValueError: There is none.
    """
    found = [path for path in checkpoints(out) if before is None or path.name < name_of(before)]
    if not found:
        has = (
            f"; --init {out / 'last'} with another --out starts from its weights"
            if (out / "last").is_dir()
            else ("; start without --resume")
        )
        raise ValueError(f"{out}: no checkpoint to resume from{has}")
    for path in reversed(found):
        try:
            return load_checkpoint(path)
        except ValueError as error:
            if path == found[0]:
                raise
            warnings.warn(f"{error}; the one before it is taken", stacklevel=2)
    raise AssertionError


def tidy(out: Path, step: int) -> None:
    """Takes away what a killed run left half-written, and damaged checkpoints behind the step it goes on from."""
    for leftover in (*out.glob("checkpoints/.*.part"), *out.glob(".log.jsonl.*.part")):
        leftover.unlink(missing_ok=True)
    for path in checkpoints(out):
        if path.name > name_of(step):
            path.unlink(missing_ok=True)


def name_of(step: int) -> str:
    """The file of a checkpoint."""
    return f"step-{step:08d}.pt"


def random_state(device: torch.device) -> dict[str, Any]:
    """The random states of this process: of the CPU and, if the network is on one, of its GPU."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts random states back."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
