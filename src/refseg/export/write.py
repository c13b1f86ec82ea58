"""From a model to the folder of an export."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import refseg
from refseg.export.manifest import FILES, FORMATS, GRAPHS, MANIFEST, Graph, Manifest, Port, read_manifest
from refseg.files import FolderLock, flush_folder, hash_of, prepare_folder, sweep
from refseg.weights.store import Model

NEEDED = ("onnx", "onnxscript", "onnxruntime")
# What ONNX calls the types of the graphs' inputs and outputs.
TYPES = {1: "float32", 7: "int64", 9: "bool"}


def check_can_export(model_format: str, out: Path) -> None:
    """Makes sure of what can be known before a model is loaded.

    Raises:
        ValueError: The format is unknown, a library is missing, or `out` cannot be the folder of an export.
    """
    if model_format not in FORMATS:
        raise ValueError(f"--format {model_format!r}: unknown; accepted is {', '.join(FORMATS)}")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(f"--format onnx: needs the library {' and '.join(missing)}; `pip install 'refseg[export]'` "
                         "brings it")  # fmt: skip
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: a file; a new folder is accepted")
    if (out / "config.json").exists() or (out / "model.safetensors").exists():
        raise ValueError(f"{out}: holds a model, whose files an export would take the place of; another folder is "
                         "accepted")  # fmt: skip


def check_replaceable(model: Model, out: Path) -> None:
    """Makes sure that nothing is replaced but an earlier export of the same model.

    Raises:
        ValueError: The folder holds something else.
    """
    if not out.is_dir() or not any(path.name != ".refseg.lock" for path in out.iterdir()):
        return
    accepted = "a new folder is accepted, or --overwrite"
    try:
        there = read_manifest(out)
    except ValueError as error:
        raise ValueError(f"{out}: holds what is no export; {accepted}") from error
    if not model.identity or there.identity != model.identity:
        which = f"another {there.name}" if there.name == model.name else there.name
        raise ValueError(f"{out}: holds an export of {which}; {accepted}")


def export_model(model: Model, out: Path, int8: bool = False, overwrite: bool = False) -> Manifest:
    """Writes a model as ONNX graphs with all that is needed to run them.

    The files are written beside those of an earlier export and take their places together, the manifest last. Whatever
    else is in the folder stays.

    Args:
        model: What to export; it is traced on the CPU.
        out: The folder.
        int8: Whether the weights become 8-bit numbers.
        overwrite: Whether an export of another model, or other files of the same names, may be replaced.

    Raises:
        ValueError: `out` holds something else, or another process is writing into it.
        OSError: It cannot be written.
    """
    new = not out.exists()
    prepare_folder(out)
    part = out / f".export.{os.getpid()}.part"
    try:
        with FolderLock(out):
            sweep(out, "export")  # what a killed export left
            if not overwrite:
                check_replaceable(model, out)
            part.mkdir()
            manifest = _write(model, part, int8)
            if (out / MANIFEST).exists():
                (out / MANIFEST).unlink()  # from here to the end the folder is none of an export
            for name in (*FILES, MANIFEST):
                os.replace(part / name, out / name)
            flush_folder(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if new and not any(out.iterdir()):
            out.rmdir()
    return manifest


def _write(model: Model, folder: Path, int8: bool) -> Manifest:
    from refseg.export.graphs import OPSET, write_graphs

    network = model.network.eval().cpu()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    write_graphs(replace(model, network=network), folder)
    if int8:
        from refseg.export.int8 import quantise

        for name in GRAPHS:
            quantise(folder / name)
    model.tokenizer.save(folder / "tokenizer.json")
    graphs = {name: _described(folder / name) for name in GRAPHS}
    height, width = model.input.size
    manifest = Manifest(
        format="onnx",
        precision="int8" if int8 else "float32",
        name=model.name,
        preset=str(model.training.get("preset", "")),
        method=model.method,
        identity=model.identity,
        training=model.training,
        input=model.input,
        opset=OPSET,
        dynamic={"images": (1, None), "expressions": (1, None), "words": (1, model.network.max_tokens)},
        fixed={"height": height, "width": width},
        graphs=graphs,
        sha256={name: hash_of(folder / name) for name in FILES},
        versions={"refseg": refseg.__version__} | {name: version(name) for name in ("torch", *NEEDED)},
    )
    manifest.write(folder)
    return manifest


def _described(file: Path) -> Graph:
    """The inputs and outputs of a graph."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    return Graph(tuple(map(_port, graph.input)), tuple(map(_port, graph.output)))


def _port(value: Any) -> Port:
    kind = value.type.tensor_type
    sides = tuple(side.dim_param if side.dim_param else side.dim_value for side in kind.shape.dim)
    return Port(value.name, TYPES[kind.elem_type], sides)


def sizes_of(folder: Path) -> Mapping[str, int]:
    """Bytes of the files of an export."""
    return {name: (folder / name).stat().st_size for name in FILES}
