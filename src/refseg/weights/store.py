"""Models on disk: write, find, check the hash, load strictly.

A model is a folder with config.json, model.safetensors and tokenizer.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from refseg.data.transforms import InputConfig
from refseg.encoders.tokenizer import Tokenizer
from refseg.fields import as_record, parse_json, read_text
from refseg.files import first_line, flush_folder, hash_of, write_beside, write_text_beside
from refseg.methods import METHODS, Segmenter, build_network
from refseg.weights.folders import MODEL_FILES as FILES
from refseg.weights.folders import find_model
from refseg.weights.versions import FORMAT, check_format, upgraded_config, upgraded_tensors

_TIMES = 4  # a network makes no more parameters than so many times those it keeps


@dataclass(frozen=True)
class Model:
    """A method with its weights and all it needs to answer.

    Attributes:
        name: The preset it was made from, or the name it was asked for by.
        method: Key of `refseg.methods.METHODS`.
        network: The method itself.
        input: What it wants to see.
        tokenizer: Turns sentences into its token ids.
        training: How its weights came to be (steps, data, scores), as stored.
        sha256: Hash of its weights file; empty while it has none.
    """

    name: str
    method: str
    network: Segmenter
    input: InputConfig
    tokenizer: Tokenizer
    training: dict[str, Any]
    sha256: str = ""

    @cached_property
    def identity(self) -> str:
        """Hash of all that decides an answer: weights, method, config, input and words; empty without a file."""
        if not self.sha256:
            return ""
        parts = [self.sha256, self.method, asdict(typing.cast(Any, self.network).config), asdict(self.input)]
        text = json.dumps([*parts, self.tokenizer.to_json()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __post_init__(self) -> None:
        """Refuses a tokenizer whose ids the network does not know.

        Raises:
            ValueError: Its vocabulary is larger, or sentences may be longer, than the text encoder takes.
        """
        rows, positions = self.network.text_encoder.config.vocab, self.network.max_tokens
        if self.tokenizer.size > rows:
            raise ValueError(
                f"{self.name}: the tokenizer has {self.tokenizer.size} entries; the text encoder takes {rows}"
            )
        if self.input.max_tokens > positions:
            own = self.network.text_encoder.config.positions
            hint = ", and more with model.pixel_decoder.max_tokens" if positions < own else ""
            raise ValueError(
                f"{self.name}: the input has {self.input.max_tokens} tokens; the method takes {positions}{hint}"
            )


def config_from_dict(kind: Any, data: Any, where: str = "config") -> Any:
    """Rebuilds a (nested) config dataclass from what JSON made of it.

    Raises:
        ValueError: A field is missing, unknown or of another type.
    """
    if is_dataclass(kind):
        if not isinstance(data, dict):
            raise ValueError(f"{where}: {data!r}; an object is accepted")
        names = {f.name for f in fields(kind)}
        if set(data) != names:
            missing, unknown = sorted(names - set(data)), sorted(set(data) - names)
            raise ValueError(f"{where}: fields missing {missing}, unknown {unknown}")
        hints = typing.get_type_hints(kind)
        values = {name: config_from_dict(hints[name], data[name], f"{where}.{name}") for name in data}
        return typing.cast(typing.Any, kind)(**values)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType and data is None and types.NoneType in inner:
        return None
    if origin is types.UnionType and isinstance(data, dict):  # of dataclasses: the one that has these fields
        named = [k for k in inner if is_dataclass(k) and {f.name for f in fields(k)} == set(data)]
        return config_from_dict(named[0] if named else inner[0], data, where)
    if origin is typing.Literal and data in inner:
        return data
    if origin is tuple and isinstance(data, list):
        kinds = [inner[0]] * len(data) if inner[1:] == (Ellipsis,) else list(inner)
        if len(kinds) == len(data):
            pairs = enumerate(zip(kinds, data, strict=True))
            return tuple(config_from_dict(k, x, f"{where}[{i}]") for i, (k, x) in pairs)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool) and abs(data) < 1e300:
        return float(data)
    if isinstance(kind, type) and type(data) is kind:
        return data
    shown = repr(data) if len(repr(data)) <= 80 else repr(data)[:77] + "..."
    raise ValueError(f"{where}: {shown}; {_told(kind)} is accepted")


def _told(kind: Any) -> str:
    """A type in words."""
    simple = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", types.NoneType: "null"}
    if kind in simple:
        return simple[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(repr(word) for word in inner)
    if origin is types.UnionType:
        return " or ".join(_told(one) for one in inner)
    if origin is tuple:
        many = inner[1:] == (Ellipsis,)
        return (
            f"a list of which each is {_told(inner[0])}"
            if many
            else f"a list of {len(inner)}: " + ", ".join(_told(one) for one in inner)
        )
    return f"an object with the fields of {kind.__name__}"


def save_model(model: Model, folder: Path, half: bool = False) -> None:
    """Writes a model's folder beside the old one and swaps them, so that its files always fit together.

    A folder that holds anything else keeps it.

    Args:
        model: What to write.
        folder: Its folder.
        half: Store float16, where the numbers fit.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("part", "old"))
    try:
        if strangers_in(folder):
            _write_model(model, folder, half)
            return
        _write_model(model, beside, half)
        if folder.exists():
            folder.rename(old)
        try:
            beside.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        flush_folder(folder.parent)
    finally:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def strangers_in(folder: Path) -> list[str]:
    """What a folder holds that no model has."""
    return sorted({path.name for path in folder.iterdir()} - set(FILES)) if folder.is_dir() else []


def recover_model(folder: Path) -> None:
    """Puts a model in its place that `save_model` had written when it was killed, and takes its leftovers away.

    Between its two renames no folder has the model's name; what was to become it is then complete.
    """
    parts = sorted(folder.parent.glob(f".{folder.name}.*.part"))
    olds = sorted(folder.parent.glob(f".{folder.name}.*.old"))
    if not folder.exists() and olds:
        new = olds[0].with_suffix(".part")
        (new if new.exists() else olds[0]).rename(folder)
    for leftover in (*parts, *olds):
        shutil.rmtree(leftover, ignore_errors=True)


def halved(x: Tensor) -> Tensor:
    """A tensor in float16, if it is one of numbers that fit: a running variance can be beyond 65,504."""
    small = x.half() if x.is_floating_point() else x
    return small if bool(small.isfinite().all()) else x


def _write_model(model: Model, folder: Path, half: bool) -> None:
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    if half:
        tensors = {k: halved(v) for k, v in tensors.items()}
    weights = folder / "model.safetensors"
    write_beside(weights, lambda path: save_file(tensors, path))
    write_beside(folder / "tokenizer.json", model.tokenizer.save)
    config = {
        "format": FORMAT,
        "name": model.name,
        "method": model.method,
        "model": asdict(typing.cast(Any, model.network).config),
        "input": asdict(model.input),
        "training": model.training,
        "sha256": hash_of(weights),
        "tokenizer_sha256": hash_of(folder / "tokenizer.json"),
    }
    text = json.dumps(config, indent=1) + "\n"
    write_text_beside(folder / "config.json", text)


def load_model(name: str | Path) -> Model:
    """Finds and loads a model, strictly, with its weights in float32.

    Raises:
        ValueError: It cannot be found, is damaged or does not fit its config.
    """
    folder = find_model(name)
    config_file, weights = folder / "config.json", folder / "model.safetensors"
    for file in (folder / name for name in FILES):
        if not file.is_file():
            raise ValueError(f"model {str(name)!r}: {file.name} is missing; a model is a folder with config.json, "
                             "model.safetensors and tokenizer.json")  # fmt: skip
    try:
        config = as_record(parse_json(read_text(config_file), "the file"), "the file")
        if "encoders" in config:
            raise ValueError(f"these are pretrained encoders, {config['encoders']}; `refseg train PRESET --encoders` "
                             "makes a model of them")  # fmt: skip
        version, method = check_format(config["format"]), config["method"]
        if method not in METHODS:
            raise ValueError(f"method {method!r} is unknown; known are {', '.join(METHODS)}")
        kind, kind_config = METHODS[method]
        size = config_from_dict(InputConfig, config["input"], "input")
        stored = upgraded_config(version, method, as_record(config["model"], "model"))
        built = config_from_dict(kind_config, stored, "model")
    except Exception as error:  # of whatever kind
        raise ValueError(f"{config_file}: not the config of a model ({first_line(error)})") from error
    digest = check_hash(weights, config.get("sha256"))
    header = upgraded_tensors(version, method, read_header(weights))
    try:
        compare_with_header(partial(kind, built), header, str(weights))
        network = build_network(method, built, "model")
    except Exception as error:
        raise ValueError(f"{config_file}: not the config of these weights ({first_line(error)})") from error
    if "tokenizer_sha256" in config:  # the first models did not store it
        check_hash(folder / "tokenizer.json", config["tokenizer_sha256"])
    load_strictly(network, upgraded_tensors(version, method, read_tensors(weights)), str(weights))
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    training = _training(config, config_file)
    try:
        return Model(str(config.get("name", name)), method, network.eval(), size, tokenizer, training, digest)
    except ValueError as error:
        raise ValueError(f"{folder}: its files do not fit each other ({error})") from error


def check_hash(file: Path, stated: Any) -> str:
    """The SHA-256 of a file, if it is the one that its config.json states.

    Raises:
        ValueError: It is another.
    """
    found = hash_of(file)
    if stated != found:
        raise ValueError(f"{file}: its SHA-256 is not the one in config.json; the file is damaged or was replaced")
    return found


def _training(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """How a model says that it was trained.

    Raises:
        ValueError: It says it in another form.
    """
    training = config.get("training", {})
    loss = training.get("loss", []) if isinstance(training, dict) else None
    if not isinstance(loss, list) or not all(isinstance(term, str) for term in loss):
        raise ValueError(
            f"{file}: training {str(training)[:60]!r}; an object, whose loss is a list of words, is accepted"
        )
    return training


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        ValueError: It is damaged or of another format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def read_header(path: Path) -> dict[str, Tensor]:
    """The names, shapes and types in a safetensors file, as tensors without content.

    Raises:
        ValueError: It is damaged or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118: it is no dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def compare_with_header(build: Callable[[], nn.Module], header: Mapping[str, Tensor], source: str) -> None:
    """Makes sure that a network is the one whose weights a file holds, before it takes any memory.

    It is built without content, and given up as soon as it has many times the parameters of the file.

    Args:
        build: Builds the network.
        header: What the file holds, as tensors without content.
        source: The file, for messages.

    Raises:
        ValueError: It is another one.
    """
    most, numbers = len(header), sum(tensor.numel() for tensor in header.values())
    seen = [0, 0]  # some are made, and thrown away or shared

    def watch(_module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        seen[0], seen[1] = seen[0] + 1, seen[1] + parameter.numel()
        if seen[0] > _TIMES * most or seen[1] > _TIMES * numbers:
            raise ValueError(f"its config describes more than the {most} tensors with {numbers} numbers that it holds")

    handle = register_module_parameter_registration_hook(watch)
    try:
        with torch.device("meta"):
            network = build()
    finally:
        handle.remove()
    refuse_misfit(network.state_dict(), header, source)


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Loads every tensor into its place, as float32 where it is a float.

    Raises:
        ValueError: Names the tensors that are missing, unknown or of another shape.
    """
    not_finite = [k for k, v in tensors.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if not_finite:
        raise ValueError(f"{source}: {not_finite[0]} holds numbers that are not finite; the file is damaged, or its "
                         "training was")  # fmt: skip
    refuse_misfit(module.state_dict(), tensors, source)
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})


def refuse_misfit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Compares the tensors of a network with those of a file.

    Raises:
        ValueError: Names the tensors that are missing, unknown or of another shape.
    """
    problems = [f"{k} is missing" for k in own if k not in tensors]
    problems += [f"{k} is unknown" for k in tensors if k not in own]
    problems += [
        f"{k} is {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{source}: does not fit the model: {'; '.join(problems[:5])}{more}")


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())
