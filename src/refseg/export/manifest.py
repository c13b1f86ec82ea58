"""What lies in the folder of an export, and how it is known to be whole. Needs neither torch nor onnxruntime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refseg.checked import Checked, config_from_dict
from refseg.data.inputs import InputConfig
from refseg.fields import as_record, parse_json, read_text
from refseg.files import first_line, hash_of, is_file, write_text_beside
from refseg.weights.folders import packaged_models

MANIFEST = "manifest.json"
VERSION = 1  # of the manifest; changes when an older reader would misunderstand it
GRAPHS = ("image.onnx", "answer.onnx")
FILES = (*GRAPHS, "tokenizer.json")
FORMATS = ("onnx",)
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class Port(Checked):
    """An input or output of a graph.

    Attributes:
        name: Its name in the graph.
        type: Type of its numbers, as numpy calls it.
        shape: Its sides; a dynamic one has a name instead of a number.
    """

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph(Checked):
    """One ONNX graph.

    Attributes:
        inputs: What it reads.
        outputs: What it returns.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Manifest:
    """All that is said of an export beside its graphs.

    Attributes:
        format: One of `FORMATS`.
        precision: One of `PRECISIONS`, of the weights.
        name: Name of the model.
        preset: The preset that it was trained as; empty where that is not known.
        method: Its method.
        identity: Hash of all that decides an answer of the model that was exported; empty where it was never stored.
        training: How that model was trained.
        input: What its network sees.
        opset: Version of ONNX's operators.
        dynamic: Smallest and largest value of every dynamic side, by its name; the largest is None where there is none.
        fixed: Sides that are fixed, by what they are called elsewhere.
        graphs: The graphs by the names of their files.
        sha256: Hashes of `FILES`.
        versions: Of refseg and of the libraries that wrote it.
    """

    format: str
    precision: str
    name: str
    preset: str
    method: str
    identity: str
    training: Mapping[str, Any]
    input: InputConfig
    opset: int
    dynamic: Mapping[str, tuple[int, int | None]]
    fixed: Mapping[str, int]
    graphs: Mapping[str, Graph]
    sha256: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def own_identity(self) -> str:
        """Hash of all that decides an answer of the export itself, which is not bit for bit that of the model."""
        parts = [self.format, self.precision, self.method, asdict(self.input), dict(self.sha256)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Writes it into a folder.

        Raises:
            OSError: It cannot be written.
        """
        text = json.dumps({"refseg_export": VERSION} | asdict(self), indent=1) + "\n"
        write_text_beside(folder / MANIFEST, text)


def find_export(name: Any) -> Path | None:
    """The folder of an export, if that is what a name of a model stands for.

    A packaged name and the folder of a model come first.
    """
    if not isinstance(name, str | Path) or str(name) in packaged_models():
        return None
    folder = Path(name)
    return folder if is_file(folder / MANIFEST) and not is_file(folder / "config.json") else None


def read_manifest(folder: Path) -> Manifest:
    """Reads what `Manifest.write` wrote.

    Raises:
        ValueError: It is something else, damaged, or of a newer version.
    """
    file = folder / MANIFEST
    try:
        record = as_record(parse_json(read_text(file), "the file"), "the file")
        version = record.get("refseg_export")
        if type(version) is not int or version < 1:
            raise ValueError("it has no number refseg_export, which says that a folder is an export")
        if version > VERSION:
            raise ValueError(f"of version {version}; this refseg reads up to {VERSION}, and a newer one is needed")
        return _manifest(record)
    except ValueError as error:
        raise ValueError(f"{file}: not the manifest of an export ({first_line(error)}); a folder that `refseg export` "
                         "wrote is accepted") from error  # fmt: skip


def _manifest(record: Mapping[str, Any]) -> Manifest:
    names = set(Manifest.__dataclass_fields__)
    if missing := sorted(names - set(record)):
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(set(record) - names - {"refseg_export"}):
        raise ValueError(f"{unknown[0]} is unknown")
    for name, accepted in (("format", FORMATS), ("precision", PRECISIONS)):
        if record[name] not in accepted:
            raise ValueError(f"{name} {record[name]!r}; {' or '.join(accepted)} is accepted")
    for name in ("name", "preset", "method", "identity"):
        if not isinstance(record[name], str):
            raise ValueError(f"{name} {record[name]!r}; a word is accepted")
    if type(record["opset"]) is not int:
        raise ValueError(f"opset {record['opset']!r}; a whole number is accepted")
    tables = ("training", "dynamic", "fixed", "graphs", "sha256", "versions")
    values: dict[str, Any] = {name: as_record(record[name], name) for name in tables}
    hashes, graphs = values["sha256"], values["graphs"]
    if set(hashes) != set(FILES) or not all(isinstance(value, str) for value in hashes.values()):
        raise ValueError(f"sha256 of {', '.join(map(str, hashes))}; of {', '.join(FILES)} is accepted")
    if set(graphs) != set(GRAPHS):
        raise ValueError(f"graphs {', '.join(map(str, graphs))}; {', '.join(GRAPHS)} are accepted")
    values["graphs"] = {name: config_from_dict(Graph, graph, name) for name, graph in graphs.items()}
    values["dynamic"] = {
        name: config_from_dict(tuple[int, int | None], bounds, name) for name, bounds in values["dynamic"].items()
    }
    kept = {name: record[name] for name in names - set(tables) - {"input"}}
    return Manifest(**kept, **values, input=config_from_dict(InputConfig, record["input"], "input"))


def check_files(folder: Path, manifest: Manifest) -> None:
    """Makes sure that the files of an export are those it was written with.

    Raises:
        ValueError: One is missing, damaged or of another export.
    """
    for name, stated in manifest.sha256.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file}: missing; an export is a folder with {MANIFEST}, {', '.join(FILES)}")
        if (found := hash_of(file)) != stated:
            raise ValueError(f"{file}: its SHA-256 is {found[:12]}... and not {stated[:12]}..., as {MANIFEST} has it; "
                             "the file is damaged or of another export")  # fmt: skip
