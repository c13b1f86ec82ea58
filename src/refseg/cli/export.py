"""`refseg export`: a model as graphs that run without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refseg.cli.options import JsonOption, OverwriteOption, find_any_model


def export(
    model: Annotated[str, typer.Argument(help="Packaged name, folder of a model or run, or user/name on the hub.")],
    out: Annotated[Path, typer.Argument(help="Folder of the export; every command takes it as a model.")],
    model_format: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights as 8-bit numbers: smaller, and slightly other masks.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write MODEL as ONNX graphs, with its tokenizer and preprocessing, for onnxruntime; torch is not needed there."""
    from refseg.export.manifest import find_export
    from refseg.export.write import check_can_export

    check_can_export(model_format, out)
    if find_export(model) is not None:
        raise ValueError(f"model {model!r}: an export already; the model that it was made of is accepted")
    found = find_any_model(model)
    if not isinstance(found, str):
        raise ValueError(f"model {model!r}: a model of the hub, which is not exported; the six methods' models are "
                         "accepted")  # fmt: skip
    from refseg.export.write import export_model, sizes_of
    from refseg.weights.store import load_model

    manifest = export_model(load_model(model), out, int8, overwrite)
    sizes = sizes_of(out)
    if as_json:
        told = {"export": str(out), "model": manifest.name, "method": manifest.method, "precision": manifest.precision}
        typer.echo(json.dumps(told | {"opset": manifest.opset, "bytes": sizes}))
        return
    megabytes = sum(sizes.values()) / 1e6
    typer.echo(f"{manifest.name}, {manifest.precision}, {megabytes:.1f} MB -> {out}")
