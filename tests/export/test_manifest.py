"""What an export says of itself, and what is said of one that is damaged."""

from __future__ import annotations

import json
import shutil

import pytest
from drawn_export import drawn_manifest

from refseg.export.manifest import FILES, check_files, find_export, read_manifest
from refseg.export.run import OnnxPredictor


def test_what_is_written_is_read(drawn):
    assert read_manifest(drawn) == drawn_manifest(drawn)
    check_files(drawn, read_manifest(drawn))


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_exchanged_file_is_named_with_its_hash(drawn, name):
    stated = read_manifest(drawn).sha256[name]
    with (drawn / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=f"{name}: its SHA-256 is .* not {stated[:12]}.*damaged or of another export"):
        OnnxPredictor(drawn)
    (drawn / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: missing"):
        OnnxPredictor(drawn)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"refseg_export": 2}, "of version 2; this refseg reads up to 1"),
        ({"refseg_export": True}, "no number refseg_export"),
        ({"format": "pickle"}, "format 'pickle'; onnx is accepted"),
        ({"precision": "int2"}, "precision 'int2'"),
        ({"training": []}, "training"),
        ({"input": {"size": [16, 24]}}, "input: fields missing"),
        ({"dynamic": {"words": [1]}}, "words"),
        ({"graphs": {}}, "graphs"),
        ({"sha256": {"image.onnx": "0"}}, "sha256 of image.onnx"),
        ({"opset": "18"}, "opset '18'"),
        ({"extra": 1}, "extra is unknown"),
        ({"name": 3}, "name 3"),
    ],
)
def test_a_manifest_of_another_form_is_refused_in_one_line(drawn, change, told):
    file = drawn / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match="not the manifest of an export") as refused:
        read_manifest(drawn)
    assert told in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"refseg_export": 1}', "\x00", "[" * 200])
def test_what_is_no_manifest_is_refused(drawn, text):
    (drawn / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="not the manifest of an export"):
        read_manifest(drawn)


def test_a_packaged_name_and_a_model_come_first(drawn, monkeypatch):
    assert find_export(drawn) == drawn and find_export(str(drawn)) == drawn
    assert find_export(None) is None and find_export(3) is None and find_export("") is None
    assert find_export("x" * 5000) is None
    monkeypatch.chdir(drawn.parent)
    shutil.copytree(drawn, "lgformer-shapes")
    assert find_export("lgformer-shapes") is None and find_export("./lgformer-shapes") is not None
    (drawn / "config.json").write_text("{}")
    assert find_export(drawn) is None


def test_the_identity_tells_exports_apart(drawn):
    one = drawn_manifest(drawn)
    others = [drawn_manifest(drawn, precision="int8"), drawn_manifest(drawn, sha256=one.sha256 | {"image.onnx": "1"})]
    assert len({each.own_identity for each in (one, *others)}) == 3
    assert drawn_manifest(drawn, name="other").own_identity == one.own_identity
