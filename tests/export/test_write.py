"""What `refseg export` writes, and what it leaves alone. The graphs are drawn by hand: tracing takes a minute."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

import drawn_export
import pytest

from refseg.export import write
from refseg.export.manifest import FILES, read_manifest
from refseg.export.run import OnnxPredictor
from refseg.export.write import export_model
from refseg.files import FolderLock
from refseg.weights.store import load_model, save_model
from tiny import tiny_model


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A stored model, whose graphs are another's."""
    save_model(tiny_model("lavt"), tmp_path / "model")
    monkeypatch.setattr("refseg.export.graphs.write_graphs", lambda model, folder: drawn_export.write_graphs(folder))
    return load_model(str(tmp_path / "model"))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_manifest_says_all_of_the_model(model, tmp_path):
    out = tmp_path / "deep" / "out"
    export_model(model, out)
    told = read_manifest(out)
    assert sorted(os.listdir(out)) == sorted([*FILES, "manifest.json"])
    assert (told.method, told.name, told.identity, told.input) == ("lavt", model.name, model.identity, model.input)
    assert told.training == model.training and told.precision == "float32" and told.opset == 18
    assert told.dynamic == {"images": (1, None), "expressions": (1, None), "words": (1, 32)}
    assert told.fixed == {"height": 64, "width": 64}
    answer = told.graphs["answer.onnx"]
    assert [port.name for port in answer.inputs] == ["tokens", "mask", "image_index", "coarse"]
    assert answer.inputs[1].type == "bool" and answer.inputs[3].shape == ("images", 3, 4, 6)
    assert OnnxPredictor(out).about.training == model.training


def test_an_earlier_export_of_the_model_is_replaced_and_nothing_else(model, tmp_path):
    out = tmp_path / "out"
    export_model(model, out)
    (out / "notes.txt").write_text("mine")
    export_model(model, out, int8=True)
    assert read_manifest(out).precision == "int8" and (out / "notes.txt").read_text() == "mine"
    before = content(out)
    other = replace(model, sha256="1" * 64)
    nameless = replace(model, sha256="")
    for another in (other, nameless):
        with pytest.raises(ValueError, match=f"holds an export of another {model.name}; .*--overwrite"):
            export_model(another, out)
        assert content(out) == before
    export_model(other, out, overwrite=True)
    assert read_manifest(out).identity == other.identity != model.identity


def test_other_files_stay(model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "image.onnx").write_text("mine")
    with pytest.raises(ValueError, match="holds what is no export"):
        export_model(model, out)
    assert content(out) == {"image.onnx": b"mine"}


def test_an_error_in_the_middle_leaves_what_was_there(model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_model(model, out)
    before = content(out)
    for error in (RuntimeError, KeyboardInterrupt):

        def broken(model, folder, error=error):
            (folder / "image.onnx").write_bytes(b"half")
            raise error

        monkeypatch.setattr("refseg.export.graphs.write_graphs", broken)
        with pytest.raises(error):
            export_model(model, out)
        assert content(out) == before
        with pytest.raises(error):
            export_model(model, tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_two_at_once_do_not_mix_and_a_killed_one_is_swept(model, tmp_path):
    out = tmp_path / "out"
    (out / f".export.{2**30}.part").mkdir(parents=True)  # of a process that has ended
    with FolderLock(out), pytest.raises(ValueError, match="is writing into it"):
        export_model(model, out)
    export_model(model, out)
    assert sorted(os.listdir(out)) == sorted([*FILES, "manifest.json"])


def test_the_command_refuses_in_one_line(model, tmp_path, refseg, monkeypatch):
    folder, out = tmp_path / "model", tmp_path / "out"
    code, said, told = refseg("export", folder, out)
    assert (code, told) == (0, "") and f"{model.name}, float32," in said
    file = tmp_path / "file"
    file.write_text("mine")
    for arguments, reason in (
        ((folder, tmp_path / "x", "--format", "coreml"), "--format 'coreml': unknown; accepted is onnx"),
        ((folder, file), "file: a file"),
        ((folder, file / "below"), "file/below: cannot be written to"),
        ((folder, folder), "holds a model"),
        ((folder, folder, "--overwrite"), "holds a model"),
        ((out, tmp_path / "x"), "an export already"),
        ((tmp_path / "nothing", tmp_path / "x"), "not found"),
        (("lavt", tmp_path / "x"), "a preset without weights"),
        (("lgformer-shapes", out), "holds an export of"),
    ):
        code, said, told = refseg("export", *arguments)
        assert code == 2 and reason in told and told.count("\n") == 1 and not said, arguments
        assert not (tmp_path / "x").exists() and file.read_text() == "mine"
    monkeypatch.setattr(write, "find_spec", lambda name: None if name == "onnxscript" else name)
    code, _, told = refseg("export", folder, tmp_path / "x")
    assert (
        code == 2 and "needs the library onnxscript; `pip install 'refseg[export]'`" in told and told.count("\n") == 1
    )


def test_a_model_of_the_hub_is_refused_by_name(tmp_path, refseg, monkeypatch):
    from refseg.hub_models.find import Found

    monkeypatch.setattr("refseg.hub_models.find.find_hub_model", lambda name: Found(str(name), (), None))
    code, _, told = refseg("export", "florence-2-base", tmp_path / "x")
    assert code == 2 and "model 'florence-2-base': a model of the hub, which is not exported" in told
    assert not (tmp_path / "x").exists()


def test_every_command_takes_the_export(model, tmp_path, refseg):
    out = tmp_path / "out"
    refseg("export", tmp_path / "model", out)
    shutil.copy(out / "manifest.json", tmp_path / "kept.json")
    text = (out / "manifest.json").read_text().replace("64,\n   64", "16,\n   24")
    (out / "manifest.json").write_text(text)  # the size of the drawn graphs
    code, said, told = refseg("eval", out, "--limit", "6", "--json")
    assert code == 0, told
    assert '"expressions": 6' in said
    assert sys.modules["torch"]
