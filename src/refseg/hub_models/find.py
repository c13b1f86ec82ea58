"""From the name of a model to the folders of its parts, without torch, so that a wrong name is said at once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from refseg.fields import parse_json, read_text
from refseg.hub_models.catalogue import CATALOGUE, PARTS, HubModel
from refseg.presets import preset_table
from refseg.weights.folders import from_hub, is_hub_name, packaged_models, split_revision

# The family of a repository, by `model_type` in its config.
FAMILIES = {
    "clipseg": "clipseg", "florence2": "florence-2", "sam3": "sam3", "sam3_video": "sam3",
    "grounding-dino": "detector", "mm-grounding-dino": "detector", "owlv2": "detector",
    "sam": "segmenter", "sam2": "segmenter", "sam2_video": "segmenter",
}  # fmt: skip
FILES = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class Part:
    """A repository, or a folder like one.

    Attributes:
        name: What it was called, with its revision if one was given.
        folder: Where its files are.
        kind: `model_type` of its config.
    """

    name: str
    folder: Path
    kind: str


@dataclass(frozen=True)
class Found:
    """A model of the hub, complete on this machine.

    Attributes:
        name: What it was called.
        parts: One, or a detector of boxes and a segmenter of what is in them.
        about: What the catalogue says of it; None where it is not in it.
    """

    name: str
    parts: tuple[Part, ...]
    about: HubModel | None

    @property
    def family(self) -> str:
        """One of the values of `FAMILIES`, or "two-stage"."""
        return "two-stage" if len(self.parts) == 2 else FAMILIES[self.parts[0].kind]


def find_hub_model(name: str | Path) -> Found | None:
    """The model of a name, downloaded if it is not here yet; None for what is one of this package's own, or nothing.

    Args:
        name: A name of `CATALOGUE`; `USER/NAME` (also `hf:USER/NAME`) of a known family; a folder with the files of
            such a repository; or two of these for a detector and a segmenter, as `DETECTOR+SEGMENTER`. Behind each, a
            commit or tag may follow an @.

    Raises:
        ValueError: It cannot be downloaded, or a part does not do what is wanted of it.
    """
    if not isinstance(name, str | Path) or str(name) in packaged_models() or str(name) in preset_table():
        return None  # `find_model` knows them
    text = str(name).removeprefix("hf:")
    about = CATALOGUE.get(text)
    if about is not None:
        _need_library(text)
        return Found(text, tuple(_complete(_part(place, about.gated), place) for place in about.places), about)
    if Path(text).is_dir():
        part = _in_folder(text, Path(text))
        return None if part is None else _alone(text, part)
    if text in PARTS:
        raise ValueError(f"model {text!r}: half of one; " + ", ".join(n for n in CATALOGUE if text in n.split("+"))
                         + " are accepted")  # fmt: skip
    if text.count("+") == 1:
        _need_library(text)
        names = [PARTS.get(place.removeprefix("hf:"), place.removeprefix("hf:")) for place in text.split("+")]
        if not all(names):
            raise ValueError(f"model {text!r}: half of it is missing; DETECTOR+SEGMENTER is accepted")
        parts = [_complete(_part(place), place) for place in names]
        for part, wanted in zip(parts, ("detector", "segmenter"), strict=True):
            if FAMILIES[part.kind] != wanted:
                raise ValueError(f"model {text!r}: {part.name} is a {part.kind}; {_of(wanted)} is accepted there")
        return Found(text, tuple(parts), None)
    if is_hub_name(text):
        split_revision(text)
        try:
            part = _part(text)
        except ValueError as error:
            raise ValueError(f"model {str(name)!r}: no such folder, and {error}") from error
        return None if part is None else _alone(text, _complete(part, text))
    return None


def _alone(name: str, part: Part) -> Found:
    """A model of one part.

    Raises:
        ValueError: It does half of the work.
    """
    _need_library(name)
    family = FAMILIES[part.kind]
    if family in ("detector", "segmenter"):
        other = "segmenter" if family == "detector" else "detector"
        example = f"{name}+sam" if family == "detector" else f"grounding-dino+{name}"
        raise ValueError(f"model {name!r}: a {part.kind} is half of one, a {family}; with a {other} it is accepted, as "
                         f"{example}")  # fmt: skip
    return Found(name, (part,), None)


def _need_library(name: str) -> None:
    """Makes sure that transformers is there before anything large is downloaded.

    Raises:
        ValueError: It is not.
    """
    if find_spec("transformers") is None:
        raise ValueError(f"model {name!r}: needs the library transformers; `pip install 'refseg[hub]'` brings it")


def _of(family: str) -> str:
    return f"a {family} ({', '.join(kind for kind, one in FAMILIES.items() if one == family)})"


def _part(place: str, gated: str = "") -> Part | None:
    """A repository of a known family, of which only the config is here yet; None for another.

    Raises:
        ValueError: The hub does not give its config.
    """
    if Path(place).is_dir():
        return _in_folder(place, Path(place))
    repository, revision = split_revision(place)
    if repository.count("/") != 1:
        raise ValueError(f"model {place!r}: not found; a folder, USER/NAME on the Hugging Face hub or one of "
                         f"{', '.join(PARTS)} is accepted")  # fmt: skip
    return _in_folder(place, from_hub(repository, ["config.json"], revision, gated))


def _in_folder(name: str, folder: Path) -> Part | None:
    file = folder / "config.json"
    if not file.is_file():
        return None
    config: Any = parse_json(read_text(file), str(file))
    kind = config.get("model_type") if isinstance(config, dict) else None
    return Part(name, folder, kind) if isinstance(kind, str) and kind in FAMILIES else None


def _complete(part: Part | None, name: str) -> Part:
    """The same with its weights.

    Raises:
        ValueError: It is of no known family, or the hub does not give them.
    """
    if part is None:
        raise ValueError(f"model {name!r}: of no known family; a config.json with one of the model_type "
                         f"{', '.join(FAMILIES)} is accepted")  # fmt: skip
    if Path(part.name).is_dir():
        return part
    repository, revision = split_revision(part.name)
    folder = from_hub(repository, FILES, revision)
    if not any(folder.glob("*.safetensors")):  # older repositories; read as tensors alone
        folder = from_hub(repository, ["pytorch_model.bin"], revision)
    return Part(part.name, folder, part.kind)
