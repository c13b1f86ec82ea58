"""Models on disk: find, check the hash, load strictly; published encoder weights to ours.

A model is a folder with config.json, model.safetensors and tokenizer.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import typing
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refseg.data.transforms import InputConfig
from refseg.encoders.tokenizer import Tokenizer
from refseg.methods import METHODS, Segmenter
from refseg.presets import Preset, shapes_tokenizer

PACKAGED = Path(__file__).parent / "models"
DEFAULT_MODEL = "lgformer-shapes"


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


def packaged_models() -> list[str]:
    """Names of the models whose weights ship with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


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
    if origin is typing.Literal and data in inner:
        return data
    if origin is tuple and isinstance(data, list):
        kinds = [inner[0]] * len(data) if inner[1:] == (Ellipsis,) else list(inner)
        if len(kinds) == len(data):
            pairs = enumerate(zip(kinds, data, strict=True))
            return tuple(config_from_dict(k, x, f"{where}[{i}]") for i, (k, x) in pairs)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if isinstance(kind, type) and type(data) is kind:
        return data
    raise ValueError(f"{where}: {data!r}; {kind} is accepted")


def build(preset: Preset, encoders: Path | None = None) -> Model:
    """Builds a preset, with the published weights in its encoders where it has any.

    Args:
        preset: What to build.
        encoders: Folder that holds the encoder checkpoints by name; without it they come from the hub.

    Raises:
        ValueError: A checkpoint is missing or does not fit.
    """
    kind: Any = METHODS[preset.method][0]
    if preset.encoders is None:
        return Model(preset.name, preset.method, kind(preset.model), preset.input, shapes_tokenizer(), {})
    swin, bert = (find_encoder(hub_id, encoders) for hub_id in (preset.encoders.swin, preset.encoders.bert))
    tokenizer = load_tokenizer(bert)
    network = kind(preset.model)
    load_swin(network.encoder.swin, swin)
    load_bert(network.text_encoder.model, bert)
    return Model(preset.name, preset.method, network, preset.input, tokenizer, {})


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def hash_of(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_folder(out: Path) -> None:
    """Makes sure that files can be written into a folder.

    Raises:
        ValueError: They cannot.
    """
    probe = out / f".refseg-write-test-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written to ({error.strerror}); a writable folder is accepted") from error


def write_beside(path: Path, write: typing.Callable[[Path], object]) -> None:
    """Writes a file under another name, flushes it and renames it, so that `path` is never half written.

    Raises:
        OSError: It cannot be written; says why in one line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)  # some writers create their file for the owner alone
        beside.replace(path)
    except OSError:
        raise
    except Exception as error:  # the libraries' writers wrap a full disk in errors of their own
        raise OSError(f"{path}: cannot be written ({first_line(error)})") from error
    finally:
        beside.unlink(missing_ok=True)


def save_model(model: Model, folder: Path, half: bool = False) -> None:
    """Writes a model's folder beside the old one and swaps them, so that its files always fit together.

    Args:
        model: What to write.
        folder: Its folder.
        half: Store float16.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("part", "old"))
    try:
        _write_model(model, beside, half)
        if folder.exists():
            folder.rename(old)
        try:
            beside.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_model(model: Model, folder: Path, half: bool) -> None:
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    weights = folder / "model.safetensors"
    write_beside(weights, lambda path: save_file(tensors, path))
    write_beside(folder / "tokenizer.json", model.tokenizer.save)
    config = {
        "format": 1,
        "name": model.name,
        "method": model.method,
        "model": asdict(typing.cast(Any, model.network).config),
        "input": asdict(model.input),
        "training": model.training,
        "sha256": hash_of(weights),
    }
    text = json.dumps(config, indent=1) + "\n"
    write_beside(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def find_model(name: str) -> Path:
    """The folder of a model: a packaged name, a folder, or `user/name` (also `hf:user/name`) on the Hugging Face hub.

    Raises:
        ValueError: There is no such model.
    """
    if name in packaged_models():
        return PACKAGED / name
    if name and Path(name).is_dir():
        return Path(name)
    hub = name.removeprefix("hf:")
    if hub.count("/") == 1 and not name.startswith((".", "/")) and not hub.endswith("/"):
        try:
            return from_hub(hub, ["config.json", "model.safetensors", "tokenizer.json"])
        except ValueError as error:
            raise ValueError(f"model {name!r}: no such folder, and {error}") from error
    accepted = f"a packaged model ({', '.join(packaged_models())}), a folder, or user/name on the Hugging Face hub"
    raise ValueError(f"model {name!r}: not found; accepted is {accepted}")


def from_hub(repository: str, patterns: list[str]) -> Path:
    """Downloads files of a repository on the Hugging Face hub and returns their folder.

    Raises:
        ValueError: The hub does not answer or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # the hub's errors share no base class with those of its connection
        raise ValueError(f"{repository}: cannot be read from the Hugging Face hub ({first_line(error)})") from error


def load_model(name: str) -> Model:
    """Finds and loads a model, strictly, with its weights in float32.

    Raises:
        ValueError: It cannot be found, is damaged or does not fit its config.
    """
    folder = find_model(name)
    config_file, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config_file, weights, folder / "tokenizer.json"):
        if not file.is_file():
            raise ValueError(f"model {name!r}: {file.name} is missing; a model is a folder with config.json, "
                             "model.safetensors and tokenizer.json")  # fmt: skip
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if config["format"] != 1:
            raise ValueError(f"format {config['format']!r}; this version reads format 1")
        method, stored = config["method"], config["model"]
        if method not in METHODS:
            raise ValueError(f"method {method!r} is unknown; known are {', '.join(METHODS)}")
        kind, kind_config = METHODS[method]
        size = config_from_dict(InputConfig, config["input"], "input")
        network = kind(config_from_dict(kind_config, stored, "model"))
    except Exception as error:  # torch refuses impossible widths in many ways
        raise ValueError(f"{config_file}: not the config of a model ({first_line(error)})") from error
    digest = hash_of(weights)
    if config.get("sha256") != digest:
        raise ValueError(f"{weights}: its SHA-256 is not the one in config.json; the file is damaged or was replaced")
    load_strictly(network, read_tensors(weights), str(weights))
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    rows, positions = stored["bert"]["vocab"], stored["bert"]["positions"]
    if tokenizer.size > rows or size.max_tokens > positions:
        given = f"the tokenizer has {tokenizer.size} entries and the input {size.max_tokens} tokens"
        raise ValueError(f"{folder}: {given}; the text encoder takes {rows} and {positions}")
    training = config.get("training", {})
    return Model(config.get("name", name), method, network.eval(), size, tokenizer, training, digest)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        ValueError: It is damaged or of another format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Loads every tensor into its place, as float32 where it is a float.

    Raises:
        ValueError: Names the tensors that are missing, unknown or of another shape.
    """
    own = module.state_dict()
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
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})


def find_encoder(hub_id: str, folder: Path | None) -> Path:
    """The folder of a published encoder: inside `folder` under its name, else on the hub.

    Raises:
        ValueError: `folder` is given and does not hold it.
    """
    if folder is None:
        found = from_hub(hub_id, ["*.json", "vocab.txt", "model.safetensors"])
        if (found / "model.safetensors").is_file():
            return found
        return from_hub(hub_id, ["*.json", "vocab.txt", "pytorch_model.bin"])  # older repositories have only this
    for candidate in (folder / hub_id, folder / hub_id.split("/")[-1]):
        if candidate.is_dir():
            return candidate
    raise ValueError(f"{folder}: holds no folder {hub_id.split('/')[-1]!r} with the weights of {hub_id}")


def _published(folder: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint; of a PyTorch file only tensors are read, nothing in it is executed."""
    if (folder / "model.safetensors").is_file():
        return read_tensors(folder / "model.safetensors")
    old = folder / "pytorch_model.bin"
    if not old.is_file():
        raise ValueError(f"{folder}: holds no weights; model.safetensors or pytorch_model.bin is accepted")
    try:
        tensors: dict[str, Tensor] = torch.load(old, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none or wants more than tensors
        raise ValueError(f"{old}: not a file of tensors alone ({first_line(error)})") from error
    return tensors


def load_swin(swin: nn.Module, folder: Path) -> None:
    """Loads a published Hugging Face Swin (backbone, model or classifier) into `refseg.encoders.swin.Swin`.

    Raises:
        ValueError: A tensor is missing or of another shape.
    """
    tensors = {k.removeprefix("swin."): v for k, v in _published(folder).items()}
    aside = ("classifier.", "layernorm.", "hidden_states_norms.", "pooler.", "decoder.")
    kept = {k: v for k, v in tensors.items() if not k.startswith(aside) and not k.endswith("relative_position_index")}
    load_strictly(swin, kept, str(folder))


def load_bert(bert: nn.Module, folder: Path) -> None:
    """Loads a published Hugging Face BERT (any head) into transformers' `BertModel` without pooler.

    Raises:
        ValueError: A tensor is missing or of another shape.
    """
    tensors = {k.removeprefix("bert."): v for k, v in _published(folder).items()}
    old = {".gamma": ".weight", ".beta": ".bias"}
    for ending, new in old.items():
        tensors = {k.removesuffix(ending) + new if k.endswith(ending) else k: v for k, v in tensors.items()}
    aside = ("cls.", "pooler.", "embeddings.position_ids")
    kept = {k: v for k, v in tensors.items() if not k.startswith(aside)}
    load_strictly(bert, kept, str(folder))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a published folder: tokenizer.json, else vocab.txt.

    Raises:
        ValueError: There is neither.
    """
    for name in ("tokenizer.json", "vocab.txt"):
        if (folder / name).is_file():
            return Tokenizer.from_file(folder / name)
    raise ValueError(f"{folder}: holds no tokenizer; tokenizer.json or vocab.txt is accepted")


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())


def seeded(preset: Preset, seed: int, encoders: Path | None = None) -> Model:
    """`build` with initial weights that depend on nothing but the seed."""
    torch.manual_seed(seed)
    return build(preset, encoders)
