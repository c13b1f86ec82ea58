"""Networks with the published weights in their encoders: Swin, BERT, CLIP."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from refseg.encoders.clip import ClipResNet, ClipText, ClipViT
from refseg.encoders.clip_names import Tower, tower_tensors, transformers_names
from refseg.encoders.tokenizer import Tokenizer
from refseg.files import first_line
from refseg.presets.base import Encoders
from refseg.weights.folders import from_hub
from refseg.weights.store import load_strictly, read_tensors

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# OpenCLIP's names first: beside them, `model.safetensors` is timm's image tower alone. Pickles come last.
CLIP_WEIGHTS = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")


def find_encoder(hub_id: str, folder: Path | None) -> Path:
    """The folder of a published Swin or BERT: inside `folder` under its name, else on the hub.

    Raises:
        ValueError: `folder` is given and does not hold it.
    """
    if folder is not None:
        return _in_folder(hub_id, folder)
    return _first_on_hub(hub_id, [["*.json", "vocab.txt", name] for name in WEIGHTS])


def find_clip(hub_id: str, folder: Path | None) -> Path:
    """The folder of a published CLIP: inside `folder` under its name, else on the hub, from where one file is fetched.

    Raises:
        ValueError: `folder` is given and does not hold it.
    """
    if folder is not None:
        return _in_folder(hub_id, folder)
    return _first_on_hub(hub_id, [["config.json", name] for name in CLIP_WEIGHTS])


def find_tokenizer(hub_id: str, folder: Path | None) -> Path:
    """The folder of a published tokenizer: inside `folder` under its name, else on the hub, without any weights.

    Raises:
        ValueError: `folder` is given and does not hold it.
    """
    if folder is not None:
        return _in_folder(hub_id, folder)
    beside = {"vocab.json": ["merges.txt"]}
    return _first_on_hub(hub_id, [["config.json", *beside.get(name, []), name] for name in TOKENIZERS])


def find_clip_tokenizer(encoders: Encoders, clip: Path, folder: Path | None) -> Path:
    """The folder of CLIP's tokenizer: the checkpoint's own where it has one, else the repository that has.

    Raises:
        ValueError: Neither is there.
    """
    if any((clip / name).is_file() for name in TOKENIZERS):
        return clip
    return find_tokenizer(encoders.clip_tokenizer or encoders.clip, folder)


def _in_folder(hub_id: str, folder: Path) -> Path:
    for candidate in (folder / hub_id, folder / hub_id.split("/")[-1]):
        if candidate.is_dir():
            return candidate
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; one with the published encoders is accepted as --encoders")
    raise ValueError(f"{folder}: holds no folder {hub_id.split('/')[-1]!r} with the files of {hub_id}")


def _first_on_hub(hub_id: str, choices: list[list[str]]) -> Path:
    """Fetches the first choice whose last file the repository has.

    Every choice also has a file that is always there, as the hub warns where nothing fits.

    Raises:
        ValueError: The hub does not answer, or the repository has none of them.
    """
    for patterns in choices:
        try:
            found = from_hub(hub_id, patterns)
        except ValueError as error:
            raise ValueError(f"{error}; a folder with {hub_id.split('/')[-1]} is accepted as --encoders") from error
        if (found / patterns[-1]).is_file():
            return found
    names = ", ".join(patterns[-1] for patterns in choices)
    raise ValueError(f"{hub_id}: the repository on the Hugging Face hub has none of {names}")


def _published(source: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a checkpoint: a file, or the first of `names` in a folder.

    Of a PyTorch file only tensors are read; nothing in it is executed.

    Raises:
        ValueError: There is no such file, or it is damaged, or holds more than tensors.
    """
    file = next((path for path in (source, *(source / name for name in names)) if path.is_file()), None)
    if file is None:
        raise ValueError(f"{source}: holds no weights; {', '.join(names[:-1])} or {names[-1]} is accepted")
    if file.suffix == ".safetensors":
        return read_tensors(file)
    if _is_torchscript(file):
        raise ValueError(
            f"{file}: a TorchScript archive, which holds a program; a safetensors file is accepted, such as "
            "open_clip_model.safetensors of timm/resnet101_clip.openai on the Hugging Face hub"
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none or wants more than tensors
        raise ValueError(f"{file}: not a file of tensors alone ({first_line(error)})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):  # a checkpoint of OpenCLIP's training
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(x, Tensor) for x in content.values()):
        raise ValueError(f"{file}: not a file of tensors alone; tensors by name are accepted")
    return content


def _is_torchscript(file: Path) -> bool:
    """Whether a file is what `torch.jit.save` writes, told by the names in the archive alone."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("constants.pkl") or "/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def load_swin(swin: nn.Module, folder: Path) -> None:
    """Loads a published Hugging Face Swin (backbone, model or classifier) into `refseg.encoders.swin.Swin`.

    Raises:
        ValueError: A tensor is missing or of another shape.
    """
    tensors = {k.removeprefix("swin."): v for k, v in _published(folder, WEIGHTS).items()}
    aside = ("classifier.", "layernorm.", "hidden_states_norms.", "pooler.", "decoder.")
    kept = {k: v for k, v in tensors.items() if not k.startswith(aside) and not k.endswith("relative_position_index")}
    load_strictly(swin, kept, str(folder))


def load_bert(bert: nn.Module, folder: Path, pooler: nn.Module | None = None) -> None:
    """Loads a published Hugging Face BERT (any head) into `refseg.encoders.bert.BertModel`.

    Args:
        bert: The model.
        folder: Its published folder.
        pooler: Where the published pooler goes, for a method that reads it.

    Raises:
        ValueError: A tensor is missing or of another shape.
    """
    tensors = {k.removeprefix("bert."): v for k, v in _published(folder, WEIGHTS).items()}
    old = {".gamma": ".weight", ".beta": ".bias"}
    for ending, new in old.items():
        tensors = {k.removesuffix(ending) + new if k.endswith(ending) else k: v for k, v in tensors.items()}
    aside = ("cls.", "pooler.", "embeddings.position_ids")
    kept = {k: v for k, v in tensors.items() if not k.startswith(aside)}
    load_strictly(bert, kept, str(folder))
    if pooler is not None:
        load_strictly(pooler, {k.removeprefix("pooler."): v for k, v in tensors.items() if k.startswith("pooler.")},
                      f"pooler of {folder}")  # fmt: skip


def load_clip_text(text: ClipText, source: Path) -> None:
    """Loads the text tower of a published CLIP, in OpenAI's (OpenCLIP's) or transformers' layout.

    Args:
        text: The tower, of the shape that was published.
        source: A folder with the weights under one of `CLIP_WEIGHTS`, or a file.

    Raises:
        ValueError: The file cannot be read, or a tensor is missing, unknown or of another shape.
    """
    tensors, openai = _clip_tower(source, "text")
    load_strictly(text.model, transformers_names(tensors, "text") if openai else tensors, str(source))


def load_clip_resnet(resnet: ClipResNet, source: Path) -> None:
    """Loads the convolutional image tower of a published CLIP, in OpenAI's layout; arguments as `load_clip_text`.

    Raises:
        ValueError: As there, also for transformers' layout, in which no ResNet exists.
    """
    tensors, openai = _clip_tower(source, "image")
    if not openai:
        raise ValueError(f"{source}: in transformers' layout, which has no ResNet; OpenAI's is accepted")
    if resnet.attnpool is None:
        tensors = {k: v for k, v in tensors.items() if not k.startswith("attnpool.")}
    # BatchNorm's counter of batches, which its running means do not need; not every copy of the weights has it.
    counters = {k: v for k, v in resnet.state_dict().items() if k.endswith(".num_batches_tracked")}
    load_strictly(resnet, counters | tensors, str(source))


def load_clip_vit(vit: ClipViT, source: Path) -> None:
    """Loads the vision transformer of a published CLIP; arguments, layouts and errors as `load_clip_text`.

    Raises:
        ValueError: As there.
    """
    tensors, openai = _clip_tower(source, "image")
    load_strictly(vit.model, transformers_names(tensors, "image") if openai else tensors, str(source))


def _clip_tower(source: Path, tower: Tower) -> tuple[dict[str, Tensor], bool]:
    tensors = {k.removeprefix("module."): v for k, v in _published(source, CLIP_WEIGHTS).items()}
    return tower_tensors(tensors, tower, str(source))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a published folder: tokenizer.json, else BERT's vocab.txt or CLIP's vocab.json.

    Raises:
        ValueError: There is none of them.
    """
    for name in TOKENIZERS:
        if (folder / name).is_file():
            return Tokenizer.from_file(folder / name)
    raise ValueError(f"{folder}: holds no tokenizer; tokenizer.json, vocab.txt or vocab.json is accepted")
