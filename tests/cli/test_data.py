"""`refseg data` as a user drives it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from refseg.cli.main import main
from refseg.data.sets import open_data
from refseg.encoders.tokenizer import small_wordpiece


@pytest.fixture
def refseg(monkeypatch, capsys):
    """Runs `refseg data ARGUMENTS` and returns its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["refseg", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def coco(tmp_path):
    """Three photos with two dogs each; the file of instances."""
    (tmp_path / "photos").mkdir()
    images, annotations = [], []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (100, 150, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 100, "width": 150})
        for place, x in enumerate((10, 100)):
            outline = [[x, 30, x + 35, 30, x + 35, 80, x, 80]]
            annotations.append({"id": 2 * number + place, "image_id": number, "category_id": 7, "iscrowd": 0,
                                "segmentation": outline})  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "dog"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path / "coco.json"


def test_annotations_that_are_read_are_never_replaced(refseg, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "a.png")
    box = [8, 8, 40, 8, 40, 40, 8, 40]
    content = {"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
               "categories": [{"id": 1, "name": "dog"}],
               "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "segmentation": [box], "area": 1024,
                                "bbox": [8, 8, 32, 32], "iscrowd": 0}]}  # fmt: skip
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    before = file.read_bytes()
    for options in ((), ("--overwrite",)):
        code, _, complaint = refseg("refer", file, tmp_path / "images", tmp_path, *options)
        assert code == 2 and "instances.json" in complaint and file.read_bytes() == before
    assert refseg("refer", file, tmp_path / "images", tmp_path / "own")[0] == 0


def test_options_that_have_no_effect_on_answers_are_refused(refseg, tmp_path):
    given = ("export", tmp_path / "o.json", "--predictions", "p.jsonl", "--split", "val", "--limit", 2)
    code, _, complaint = refseg(*given)
    assert code == 2 and "--split, --limit with --predictions" in complaint


def test_refer_makes_a_data_set_that_check_finds_nothing_in(refseg, coco, tmp_path):
    out = tmp_path / "new" / "set"
    code, said, err = refseg("refer", coco, tmp_path / "photos", out, "--per-object", 2)
    assert code == 0 and not err and f"-> {out / 'data.jsonl'}" in said and "nobody" not in said
    assert sorted(path.name for path in out.iterdir()) == ["data.jsonl", "instances.json", "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["expressions"] == 12 and summary["objects"] == 6 and summary["options"]["per_object"] == 2
    assert "not annotated" in summary["notice"] and "not annotated" in said.replace("\n", " ")
    samples = [sample for split in summary["splits"] for sample in open_data(str(out), split)]
    assert sum(len(sample.expressions) for sample in samples) == 12
    for sample in samples:
        for number, expression in enumerate(sample.expressions):
            left = np.flatnonzero(sample.mask(number).any(0))[0] < 75
            assert ("left" in expression.text) == left and ("right" in expression.text) != left
    code, said, _ = refseg("check", out)
    assert code == 0 and "0 errors, 0 warnings" in said and "words and signs" in said


def test_refer_is_reproducible_and_prints_its_summary(refseg, coco, tmp_path):
    for name in ("a", "b"):
        code, said, _ = refseg("refer", coco, tmp_path / "photos", tmp_path / name, "--json", "--seed", 3, "--limit", 2)
        assert code == 0 and json.loads(said) == json.loads((tmp_path / name / "summary.json").read_text())
    assert (tmp_path / "a" / "data.jsonl").read_bytes() == (tmp_path / "b" / "data.jsonl").read_bytes()
    assert json.loads(said)["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("refer", "NONE", "PHOTOS", "OUT"), "NONE: cannot be read"),
        (("refer", "COCO", "NONE", "OUT"), "NONE: no such folder"),
        (("refer", "COCO", "EMPTY", "OUT"), "holds none of the images"),
        (("refer", "PHOTO", "PHOTOS", "OUT"), "not text in UTF-8"),
        (("refer", "COCO", "PHOTOS", "FULL"), "data.jsonl: exists"),
        (("refer", "COCO", "PHOTOS", "OUT", "--per-object", "0"), "--per-object"),
        (("refer", "COCO", "PHOTOS"), "OUT"),
        (("check", "NONE"), "NONE: no such folder"),
        (("check", "PHOTOS", "--tokenizer", "COCO"), "not a tokenizer"),
        (("check", "PHOTOS", "--train-list", "NONE"), "NONE: cannot be read"),
        (("check",), "ROOT"),
        (
            ("export", "refshapes", "OUT", "--split", "val", "--limit", "1", "--name", "mine"),
            "--layout refer is accept",
        ),
        (
            ("export", "refshapes", "OUT", "--split", "val", "--limit", "1", "--layout", "refer", "--name", "a/b"),
            "name 'a/b': letters, digits and +, - or _ are accepted",
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(refseg, coco, tmp_path, arguments, message):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "data.jsonl").write_text("kept")
    names = {name: tmp_path / name for name in ("NONE", "EMPTY", "FULL", "OUT")}
    names |= {"COCO": coco, "PHOTOS": tmp_path / "photos", "PHOTO": tmp_path / "photos" / "0.jpg"}
    code, said, err = refseg(*(names.get(argument, argument) for argument in arguments))
    assert code == 2 and message in err.replace(f"{tmp_path}/", "") and not said
    assert err.startswith("refseg: ") and err.count("\n") == 1
    assert (tmp_path / "FULL" / "data.jsonl").read_text() == "kept"
    assert not (tmp_path / "OUT" / "data.jsonl").exists() and not list(tmp_path.glob("OUT/.*"))


@pytest.fixture
def broken(tmp_path):
    """A folder with an error and a warning."""
    root = tmp_path / "broken"
    root.mkdir()
    Image.new("RGB", (40, 30)).save(root / "a.png")
    words = " ".join(["dog"] * 16)
    rows = [{"image": "a.png", "expression": text, "mask": [[5, 5, 20, 5, 20, 20]]} for text in ("", words)]
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_check_has_exit_code_1_for_errors(refseg, broken):
    code, said, err = refseg("check", broken)
    assert code == 1 and not err
    for text in ("1 errors, 1 warnings", "empty expressions", "row-1", "long expressions", "all"):
        assert text in said
    code, said, _ = refseg("check", broken, "--json")
    report = json.loads(said)
    assert code == 1 and (report["errors"], report["warnings"]) == (1, 1)
    assert [set(finding) for finding in report["findings"]] == [
        {"name", "severity", "where", "says", "count", "examples"}] * 2  # fmt: skip
    lines = (broken / "data.jsonl").read_text().splitlines()
    (broken / "data.jsonl").write_text(lines[1] + "\n")
    assert refseg("check", broken)[0] == 0  # a warning alone


@pytest.mark.parametrize(("clip", "over"), [(False, []), (True, ["(CLIP, 17 tokens)"])])
def test_check_counts_a_tokenizers_tokens_against_its_models_limits(refseg, broken, tmp_path, clip, over):
    small_wordpiece(["dog"], clip).save(tmp_path / "tokenizer.json")
    code, said, _ = refseg("check", broken, "--tokenizer", tmp_path / "tokenizer.json", "--json", "--fast")
    report = json.loads(said)
    long = [finding for finding in report["findings"] if finding["name"] == "long expressions"]
    assert [finding["says"][-len("(CLIP, 17 tokens)") :] for finding in long] == over
    assert all(finding["examples"] == ["row-2 (18)"] for finding in long)
    assert report["tokens"] == f"tokens of {tmp_path / 'tokenizer.json'}" and code == 1


def test_commands_are_listed(refseg):
    code, said, _ = refseg("--help")
    assert code == 0 and "refer" in said and "check" in said


def test_export_in_the_layout_refer_is_called_as_the_data_or_as_asked(refseg, tmp_path):
    arguments = ("--split", "val", "--limit", 2, "--layout", "refer")
    code, said, _ = refseg("export", "refshapes", tmp_path / "root", *arguments)
    assert code == 0 and str(tmp_path / "root" / "refshapes" / "refs(refseg).p") in said
    code, said, _ = refseg("export", "refshapes", tmp_path / "root", *arguments, "--name", "mine+2")
    made = tmp_path / "root" / "mine+2" / "refs(refseg).p"
    assert code == 0 and str(made) in said
    data = open_data(str(made.parent), "val")
    assert data.name == "mine+2-refseg" and len(data) == 2


def test_a_name_that_the_layout_refer_does_not_allow_asks_for_another(refseg, coco, tmp_path):
    own = tmp_path / "my data.v2"
    assert refseg("refer", coco, tmp_path / "photos", own, "--limit", 1)[0] == 0
    export = ("export", own, tmp_path / "root", "--layout", "refer")
    code, said, err = refseg(*export)
    assert code == 2 and not said and "name 'my data.v2': letters, digits" in err and "--name" in err
    assert not (tmp_path / "root").exists()
    assert refseg(*export, "--name", "v2")[0] == 0 and (tmp_path / "root" / "v2" / "instances.json").is_file()


def test_a_malformed_row_of_a_published_layout_is_printed_and_is_an_error(refseg, tmp_path):
    assert refseg("export", "refshapes", tmp_path, "--split", "val", "--limit", 2, "--layout", "refer")[0] == 0
    path = tmp_path / "refshapes" / "instances.json"
    content = json.loads(path.read_text())
    del content["annotations"][0]["image_id"]
    path.write_text(json.dumps(content))
    code, said, _ = refseg("check", tmp_path, "--json", "--fast")
    (finding,) = [finding for finding in json.loads(said)["findings"] if finding["name"] == "unreadable rows"]
    assert code == 1 and finding["count"] == 2  # the annotation, and the reference that means it
    assert "annotation 1: image_id is missing" in finding["examples"][0]


@pytest.mark.parametrize(
    ("terminal", "as_json", "drawn"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_progress_is_for_people_at_a_terminal(refseg, broken, monkeypatch, terminal, as_json, drawn):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    _, said, err = refseg("check", broken, *["--json"] * as_json)
    assert ("checking" in err) == drawn and "checking" not in said
