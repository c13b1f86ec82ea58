"""The command line as a user drives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.data.formats.rle import decode_rle
from refseg.weights.store import save_model
from tiny import tiny_model, tiny_network


def test_segment_writes_a_mask_and_an_overlay_per_expression(refseg, model, photo, tmp_path):
    out = tmp_path / "new" / "folder"
    code, said, _ = refseg("segment", photo, "the red circle", "left one", "--model", model, "--out", out)
    assert code == 0 and said.count("\n") == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "photo.1.mask.png", "photo.1.overlay.png", "photo.2.mask.png", "photo.2.overlay.png", "segments.jsonl",
    ]  # fmt: skip
    mask = np.asarray(Image.open(out / "photo.1.mask.png"))
    assert mask.shape == (60, 90) and set(np.unique(mask)) <= {0, 255}
    with Image.open(out / "photo.1.overlay.png") as overlay:
        assert overlay.size == (90, 60)


def test_segment_json_has_the_promised_keys(refseg, model, photo, tmp_path):
    code, said, _ = refseg("segment", photo, "the red circle", "--model", model, "--out", tmp_path, "--json")
    (found,) = json.loads(said)
    assert code == 0
    assert list(found) == ["image", "expression", "score", "box", "area", "rle", "mask", "overlay"]
    mask = np.asarray(Image.open(found["mask"])) == 255
    assert np.array_equal(decode_rle(found["rle"]), mask)
    assert found["area"] == mask.sum() and found["expression"] == "the red circle"


def test_segment_writes_into_the_current_folder_by_default(refseg, model, photo, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert refseg("segment", photo, "red", "--model", model)[0] == 0
    assert (tmp_path / "here" / "photo.1.mask.png").is_file()


def test_a_list_of_images_is_worked_through_and_resumed(refseg, model, photo, tmp_path):
    (tmp_path / "other").mkdir()
    Image.open(photo).save(tmp_path / "other" / "photo.jpg")
    rows = [
        {"image": "photo.jpg", "expression": "red"},
        {"image": "other/photo.jpg", "expressions": ["blue", "kreis 🙂"]},
    ]
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n\n".join(json.dumps(row) for row in rows))
    out = tmp_path / "out"
    arguments = ("segment", "--list", tasks, "--model", model, "--out", out, "--json")
    code, said, _ = refseg(*arguments)
    first = json.loads(said)
    assert code == 0 and [f["expression"] for f in first] == ["red", "blue", "kreis 🙂"]
    assert len({f["mask"] for f in first}) == 3  # the same stem twice, but no file twice
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    Path(first[1]["mask"]).unlink()
    with (out / "segments.jsonl").open("a") as log:
        log.write('{"cut off in the mid')
    code, said, _ = refseg(*arguments)
    assert code == 0 and json.loads(said) == first
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    unchanged = {name for name in before if before[name] == after[name]}
    assert "photo.1.mask.png" in unchanged and Path(first[1]["mask"]).name not in unchanged
    code, said, _ = refseg(*arguments)
    assert code == 0 and json.loads(said) == first


def test_a_list_is_not_resumed_with_other_weights(refseg, model, photo, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"image": "photo.jpg", "expression": "red"}')
    network = tiny_network("lgformer-shapes", seed=9)
    save_model(replace(tiny_model(), network=network), tmp_path / "other")
    found = []
    for weights in (model, tmp_path / "other", model):
        arguments = ("segment", "--list", tasks, "--model", weights, "--out", tmp_path / "out", "--json")
        found.append(json.loads(refseg(*arguments)[1]))
    assert found[0] == found[2] != found[1]


def test_a_list_is_not_resumed_in_another_precision(refseg, model, photo, tmp_path):
    asked = tmp_path / "asked.jsonl"
    asked.write_text(json.dumps({"image": str(photo), "expression": "red"}) + "\n")
    segment = ("segment", "--list", asked, "--model", model, "--out", tmp_path / "out", "--precision")
    for precision in ("fp32", "auto", "bf16", "bf16"):  # a small network answers in fp32 when it may choose
        code, _, err = refseg(*segment, precision)
        assert (code, err) == (0, "") or (precision == "bf16" and code == 0 and "was kept" in err), (code, err)
    lines = [json.loads(line) for line in (tmp_path / "out" / "segments.jsonl").read_text().splitlines()]
    assert [line["precision"] for line in lines if "files" in line] == ["fp32", "bf16"]


def test_precision_is_in_the_header_of_predictions_and_in_the_report(refseg, model, tmp_path):
    evaluate = ("eval", model, "--limit", "3", "--out", tmp_path / "out", "--precision")
    assert refseg(*evaluate, "bf16")[0] == 0
    header = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    assert header["precision"] == "bf16"
    assert json.loads((tmp_path / "out" / "report.json").read_text())["precision"] == "bf16"
    code, _, err = refseg(*evaluate, "fp32")
    assert code == 2 and "differ in" in err and "precision" in err
    code, _, err = refseg("eval", "--predictions", tmp_path / "out" / "predictions.jsonl", "--precision", "bf16")
    assert code == 2 and "--predictions with --limit, --words, --save-scores or --precision" in err
    rescored = refseg("eval", "--predictions", tmp_path / "out" / "predictions.jsonl", "--json")[1]
    assert json.loads(rescored)["precision"] == "bf16"


@pytest.mark.parametrize("command", ["segment PHOTO red", "eval lgformer-shapes", "serve"])
def test_a_precision_that_means_nothing(refseg, photo, command):
    code, out, err = refseg(*command.replace("PHOTO", str(photo)).split(), "--precision", "fp16")
    assert code == 2 and not out and "precision 'fp16': unknown; accepted are auto, fp32, bf16, int8" in err


def test_a_list_is_not_resumed_with_another_image(refseg, model, photo, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"image": "photo.jpg", "expression": "red"}')
    arguments = ("segment", "--list", tasks, "--model", model, "--out", tmp_path / "out", "--json")
    refseg(*arguments)
    Image.new("RGB", (40, 50), "red").save(photo)
    (found,) = json.loads(refseg(*arguments)[1])
    assert found["rle"]["size"] == [50, 40]
    with Image.open(found["mask"]) as mask:
        assert mask.size == (40, 50)


def test_a_log_that_was_cut_or_damaged_does_not_stop_a_list(refseg, model, photo, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps({"image": "photo.jpg", "expression": "kreis \u2028 🙂"}))
    arguments = ("segment", "--list", tasks, "--model", model, "--out", tmp_path / "out", "--json")
    first = refseg(*arguments)[1]
    log = tmp_path / "out" / "segments.jsonl"
    good = log.read_bytes()
    log.write_bytes(b"[1]\n{}\n" + good + '{"expression": "🙂'.encode()[:-2])
    code, said, _ = refseg(*arguments)
    assert code == 0 and said == first and log.read_bytes().count(good) == 1


def test_a_full_disk_is_said_in_one_line(refseg, photo, tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("I/O error: No space left on device (os error 28)\nmore")

    monkeypatch.setattr("refseg.weights.store.save_file", full)
    arguments = ("train", "lgformer-shapes", "--out", tmp_path / "run", "--steps", 1, "--workers", 0, "--eval-limit", 1)
    code, _, err = refseg(*arguments, "--device", "cpu")
    last = err.strip().splitlines()[-1]
    assert code == 2 and "No space left" in last and last.startswith("refseg: ") and "Traceback" not in err


def test_a_bad_image_in_a_list_is_reported_and_the_rest_is_done(refseg, model, photo, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"image": "none.jpg", "expression": "red"}\n{"image": "photo.jpg", "expression": "red"}\n')
    code, said, err = refseg("segment", "--list", tasks, "--model", model, "--out", tmp_path, "--json")
    assert code == 2 and len(json.loads(said)) == 1
    assert "line 1" in err and "none.jpg: no such file" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "line 1: not JSON"),
        ('{"image": "x.jpg"}', "line 1: expression None"),
        ('\n{"image": 3, "expression": "red"}', 'line 2: needs "image"'),
        ("[1]", "line 1: [1]"),
        ('{"image": "x.jpg", "expression": " "}', "line 1: expression ' ': empty"),
        ('{"image": "x.jpg", "expression": "a", "expressions": ["b"]}', "either"),
    ],
)
def test_a_list_that_is_none_is_refused(refseg, model, tmp_path, content, message):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(content)
    code, said, err = refseg("segment", "--list", tasks, "--model", model, "--out", tmp_path)
    assert code == 2 and message in err and err.count("\n") == 1 and not said


def unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "NONE", "red"), "NONE: no such file"),
        (("segment", "TEXT", "red"), "no image"),
        (("segment", "PHOTO"), "1 argument(s): an image and at least one expression"),
        (("segment",), "0 argument(s)"),
        (("segment", "PHOTO", "TEXT"), "is a file; one image and expressions are accepted"),
        (("segment", "PHOTO", ""), "expression '': empty"),
        (("segment", "PHOTO", "red", "  "), "expression '  ': empty"),
        (("segment", "PHOTO", "red", "--model", "lgformer-shape"), "model 'lgformer-shape': not found"),
        (("segment", "PHOTO", "red", "--out", "UNWRITABLE"), "cannot be written to"),
        (("segment", "PHOTO", "red", "--list", "x"), "one of the two"),
        (("segment", "--list", "NONE"), "NONE: no such file"),
        (("segment", "PHOTO", "red", "--device", "toaster"), "toaster"),
        (("segment", "LONG", "red"), "damaged, truncated or unreadable image (File name too long)"),
        (("segment", "PHOTO", "red \ud83d"), "not valid Unicode"),
        (("train", "lgformer-shapes", "--out", "OUT", "--seed", "99999999999"), "--seed"),
        (("segment", "PHOTO", "red", "--device", "meta"), "meta"),
        ((), ""),
        (("eval", "nothing"), "model 'nothing': not found"),
        (("eval", "MODEL", "--data", "coco"), "data 'coco': unknown; accepted are refshapes"),
        (("eval", "MODEL", "--split", "test"), "'test'"),
        (("eval", "MODEL", "--split", "train"), "endless"),
        (("eval", "MODEL", "--words", "none"), "accepted are true, shuffled, swapped"),
        (("eval", "MODEL", "--limit", "0"), "--limit"),
        (("eval",), "exactly one of the two is accepted"),
        (("eval", "MODEL", "--predictions", "NONE"), "exactly one of the two is accepted"),
        (("eval", "--predictions", "NONE", "--limit", "3"), "the file says what was asked"),
        (("eval", "--predictions", "NONE"), "NONE: no such file"),
        (("eval", "--predictions", "TEXT"), "TEXT line 1: not JSON"),
        (("eval", "MODEL", "--save-scores"), "--save-scores without --out"),
        (("eval", "MODEL", "--protocol", "vlt"), "protocol 'vlt': unknown; accepted are original, lavt"),
        (("eval", "MODEL", "--out", "UNWRITABLE"), "cannot be written to"),
        (("compare", "NONE", "NONE"), "NONE: no report.json"),
        (
            ("train", "lgformer-big", "--out", "OUT"),
            "accepted are alignformer, alignformer-shapes, crformer,",
        ),
        (("train", "lgformer", "--out", "OUT", "--data", "refshapes", "--encoders", "NONE"), "NONE: no such folder"),
        (("train", "eavl", "--out", "OUT"), "preset 'eavl': is trained on photos; --data with a data set"),
        (("train", "lgformer-shapes", "--out", "OUT", "--data", "x"), "data 'x': unknown"),
        (("train", "lgformer-shapes"), "--out DIR with the folder of the run is needed"),
        (("train", "lgformer-shapes", "--out", "OUT", "--precision", "int8"), "accepted are fp32, bf16, fp16"),
        (("train", "lgformer-shapes", "--out", "OUT", "--gpu-memory", "24"), "--plan is accepted"),
        (("train", "lgformer-shapes", "--out", "OUT", "--set", "lr=1"), "--set 'lr=1': KEY=VALUE is accepted"),
        (("train", "lgformer-shapes", "--out", "OUT", "--steps", "1", "--epochs", "1"), "one of the two is accepted"),
        (("train", "lgformer-shapes", "--out", "OUT", "--epochs", "1"), "has no end; --steps is accepted"),
        (("train", "lgformer-shapes", "--out", "OUT", "--init", "nothing"), "model 'nothing': not found"),
        (("train", "lgformer-shapes", "--out", "OUT", "--resume"), "no checkpoint to resume from"),
        (("train", "lgformer-shapes", "--out", "OUT", "--accumulate", "99"), "a step has to have at least 99 images"),
        (("train", "lgformer-shapes", "--out", "OUT", "--data", "refshapes", "--data", "NONE"), "unknown"),
        (("train", "lgformer-shapes", "--plan", "--gpus", "99"), "99 processes: 1 to 16"),
        (("convert", "eavl", "NONE", "OUT"), "method 'eavl': there is no converter; lavt and lgformer are accepted"),
        (("convert", "lavt", "NONE", "OUT"), "NONE: no such file"),
        (("convert", "lavt", "TEXT", "OUT"), "TEXT: not a checkpoint of tensors alone"),
        (("dance",), "dance"),
        (("segment", "PHOTO", "red", "--fast"), "--fast"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(refseg, model, photo, tmp_path, arguments, message):
    (tmp_path / "TEXT").write_text("hello")
    names = {"PHOTO": photo, "MODEL": model, "UNWRITABLE": unwritable(tmp_path)}
    names["LONG"] = tmp_path / ("x" * 300 + ".png")
    names |= {name: tmp_path / name for name in ("NONE", "TEXT", "OUT")}
    code, said, err = refseg(*(names.get(argument, argument) for argument in arguments))
    assert code == 2, err
    assert message in err.replace(str(tmp_path / "NONE"), "NONE")
    assert "Traceback" not in err
    if arguments:
        assert err.startswith("refseg: ") and err.count("\n") == 1
        assert not said
    assert not (tmp_path / "OUT" / "checkpoints").exists()


def test_debug_shows_the_traceback(refseg):
    for arguments in (("--debug", "segment", "none.png", "red"), ("segment", "none.png", "red", "--debug")):
        code, _, err = refseg(*arguments)
    assert code == 2 and "Traceback" in err and err.splitlines()[-1].startswith("refseg: none.png")


@pytest.mark.filterwarnings("always")
def test_a_long_expression_is_cut_with_one_line(refseg, model, photo, tmp_path):
    code, _, err = refseg("segment", photo, "red " * 50, "--model", model, "--out", tmp_path)
    assert code == 0 and "longer than the 20 tokens" in err and err.startswith("refseg: warning: ")


def test_eval_json_has_the_promised_keys(refseg, model):
    code, said, err = refseg("eval", model, "--data", "refshapes", "--split", "testB", "--limit", 12, "--json")
    report = json.loads(said)
    assert code == 0 and not err
    assert {"model", "data", "split", "protocol", "images", "expressions", "oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7",
            "P@0.8", "P@0.9", "by_kind", "seconds", "version"} <= set(report)  # fmt: skip
    assert report["expressions"] == 12 and report["protocol"] == "original" and report["split"] == "testB"
    assert set(report["baselines"]) == {"random object", "largest object", "noun and colour"}
    assert all(0 <= report[key] <= 1 for key in ("oIoU", "mIoU", "P@0.5"))
    assert sum(kind["expressions"] for kind in report["by_kind"].values()) == 12


def test_eval_prints_kinds_and_baselines(refseg, model):
    code, said, _ = refseg("eval", model, "--limit", 40)
    assert code == 0
    for text in ("mIoU", "P@0.9", "relation", "random object", "largest object", "noun and colour", "original"):
        assert text in said


def test_eval_writes_a_folder_that_is_scored_again_and_compared(refseg, model, tmp_path):
    out = tmp_path / "out"
    code, said, _ = refseg("eval", model, "--limit", 12, "--out", out, "--save-scores")
    assert code == 0 and f"report: {out / 'report.html'}" in said and "expressions/s" in said and "95 % from" in said
    first = json.loads((out / "report.json").read_text())
    assert first["command"].startswith("refseg eval") and "--save-scores" in first["command"]
    code, said, err = refseg("eval", "--predictions", out / "predictions.jsonl", "--json")
    assert code == 0 and not err and json.loads(said)["mIoU"] == first["mIoU"]
    code, said, _ = refseg(
        "eval", "--predictions", out / "scores", "--protocol", "cris", "--json", "--out", tmp_path / "b"
    )
    cris = json.loads(said)
    assert code == 0 and cris["protocol"] == "cris" and "oIoU" not in cris["published"] and 0 <= cris["oIoU"] <= 1
    code, _, err = refseg("eval", "--predictions", out / "predictions.jsonl", "--protocol", "cris")
    assert code == 2 and "threshold 0.5, not 0.35" in err and err.count("\n") == 1
    code, _, err = refseg("eval", "--predictions", out / "predictions.jsonl", "--split", "testA")
    assert code == 2 and "were made on 'val'" in err and err.count("\n") == 1
    code, said, _ = refseg("compare", out, out, "--json")
    assert code == 0 and json.loads(said)["ties"] == 12
    code, said, _ = refseg("compare", out, out)
    assert code == 0 and "B - A" in said and "+0.00" in said
    code, _, err = refseg("compare", out, tmp_path / "b")
    assert code == 2 and "protocol name 'original'" in err and err.count("\n") == 1


def test_eval_under_a_protocol_of_ones_own(refseg, model, tmp_path):
    (tmp_path / "mine.json").write_text('{"name": "mine", "threshold": 0.001}')
    code, said, _ = refseg("eval", model, "--limit", 3, "--protocol", tmp_path / "mine.json", "--json")
    assert code == 0 and json.loads(said)["protocol_fields"]["threshold"] == 0.001


def test_train_resume_eval_and_segment_fit_together(refseg, photo, tmp_path, monkeypatch):
    out = tmp_path / "run"
    arguments = ("train", "lgformer-shapes", "--out", out, "--steps", 2, "--save-every", 9, "--eval-every", 9,
                 "--eval-limit", 2, "--workers", 0, "--device", "cpu")  # fmt: skip
    from refseg.training import engine

    step = engine.take_step

    def interrupted(*given):  # Ctrl-C during the first step
        os.kill(os.getpid(), signal.SIGINT)
        return step(*given)

    monkeypatch.setattr(engine, "take_step", interrupted)
    code, _, err = refseg(*arguments)
    assert code == 130 and "--resume goes on" in err and list((out / "checkpoints").iterdir())
    monkeypatch.setattr(engine, "take_step", step)
    code, _, err = refseg(*arguments)
    assert code == 2 and "holds a run already" in err
    code, said, _ = refseg(*arguments, "--resume")
    assert code == 0 and said.startswith("trained; the weights are in ")
    assert refseg("eval", out / "best", "--limit", 2, "--json")[0] == 0
    assert refseg("segment", photo, "red", "--model", out / "last", "--out", tmp_path)[0] == 0


def test_models_lists_weights_and_presets(refseg):
    code, said, _ = refseg("models", "--json")
    report = json.loads(said)
    assert code == 0 and "lgformer-shapes" in [entry["name"] for entry in report["packaged"]]
    presets = {entry["name"]: entry for entry in report["presets"]}
    assert presets["lgformer/vlba-only"]["switches"]["v2la"] is False
    assert presets["lgformer"]["scores"]["refcoco val oIoU"] == 74.69
    code, said, _ = refseg("models")
    assert code == 0 and "lgformer-shapes (default)" in said and "lgformer/query-learnable-10" in said
    hub = {entry["name"]: entry for entry in report["hub"]}
    assert hub["sam3"]["gated"] == "https://huggingface.co/facebook/sam3" and hub["clipseg"]["licence"] == "Apache 2.0"
    assert "florence-2-base-ft" in said and "MIT" in said


def test_version_and_help(refseg):
    import refseg as package

    assert refseg("--version")[1].strip() == package.__version__
    code, said, _ = refseg("--help")
    assert code == 0 and all(command in said for command in ("segment", "eval", "train", "models"))


@pytest.mark.slow
def test_a_plan_says_what_training_takes_and_trains_nothing(refseg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--gpu-memory", "24", "--set", "recipe.lr=1e-4", "--steps", 10, "--json")
    code, said, err = refseg("train", "alignformer", "--plan", *options)
    plan = json.loads(said)
    assert code == 0 and not err and not list(tmp_path.iterdir())
    assert (
        plan["preset"] == "alignformer"
        and plan["changed"] == ["recipe"]
        and plan["steps"] == 10
        and plan["groups"][0]["lr"] == 1e-4
    )
    assert plan["gpu"]["fits"] and plan["gpu"]["accumulate"] > 1 and plan["expressions_per_step"] == 32
    code, said, _ = refseg("train", "lgformer-shapes", "--plan", "--data", "refshapes")
    assert code == 0 and "lgformer-shapes" in said and "--accumulate" in said


def test_training_options_reach_the_run(refseg, tmp_path):
    """One tiny run with all of them; each is tested where it is made."""
    data = tmp_path / "data"
    for split in ("train", "val"):
        refseg("data", "export", "refshapes", tmp_path / split, "--split", split, "--limit", 3)
    rows = []
    for split in ("train", "val"):
        own = [json.loads(line) for line in (tmp_path / split / "data.jsonl").read_text().splitlines()]
        rows += [row | {"image": f"../{split}/{row['image']}"} for row in own]
    data.mkdir()
    (data / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ("--set", "recipe.images_per_batch=2", "--set", "input.size=[64, 64]", "--workers", 0, "--device", "cpu")
    code, said, err = refseg(
        "train", "lgformer-shapes", "--out", tmp_path / "run", "--data", data, "--epochs", 2, "--init", "lavt-shapes",
        "--precision", "bf16", "--accumulate", 2, "--gradient-checkpointing", "--ema", 0.9, "--keep", 1,
        "--save-every", 1, "--eval-batch", 1, "--eval-limit", 2, "--tensorboard", *small,
    )  # fmt: skip
    assert code == 0, err
    assert "--init lavt-shapes: " in err and "tensors are new" in err
    training = json.loads((tmp_path / "run" / "last" / "config.json").read_text())["training"]
    assert (training["precision"], training["ema"], training["steps"]) == ("bf16", 0.9, 2)
    assert training["source"] == "weights of lavt-shapes" and training["data"] == str(data)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002.pt"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert config["input"]["size"] == [64, 64]


def test_runs_as_a_module_and_says_errors_on_stderr_only(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "refseg", "segment", "none.png", "red"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("refseg: none.png: no such file") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("layout", "folder"), [("jsonl", ""), ("refer", "refshapes")])
def test_exported_data_gives_the_same_score_as_the_original(refseg, model, tmp_path, layout, folder):
    out = tmp_path / "data"
    code, said, _ = refseg("data", "export", "refshapes", out, "--split", "val", "--limit", 3, "--layout", layout)
    assert code == 0 and said.startswith("val of refshapes -> ")
    code, said, _ = refseg("eval", model, "--data", out / folder, "--split", "val", "--json")
    exported = json.loads(said)
    assert code == 0
    code, said, _ = refseg("eval", model, "--limit", exported["expressions"], "--json")
    original = json.loads(said)
    for name in ("expressions", "images", "oIoU", "mIoU", "P@0.5"):
        assert exported[name] == original[name], name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("refshapes", "OUT", "--limit", "1", "--layout", "voc"), "accepted are jsonl, refer"),
        (("refshapes", "OUT", "--split", "test"), "there is no split 'test'; accepted are train, val"),
        (("refshapes", "OUT", "--split", "train"), "endless"),
        (("nowhere", "OUT"), "unknown; accepted are refshapes"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(refseg, tmp_path, arguments, message):
    code, _, complaint = refseg("data", "export", *(tmp_path / a if a == "OUT" else a for a in arguments))
    assert code == 2 and message in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "OUT").exists()


def test_names_with_brackets_are_printed_as_they_are(refseg, model, tmp_path):
    out = tmp_path / "data"
    refseg("data", "export", "refshapes", out, "--split", "val", "--limit", 2)
    lines = [json.loads(line) | {"kind": "[/x]"} for line in (out / "data.jsonl").read_text().splitlines()]
    (out / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, said, complaint = refseg("eval", model, "--data", out, "--split", "val")
    assert code == 0 and "[/x]" in said, complaint


def test_two_readings_of_overlapping_parts_are_not_compared(refseg, model, tmp_path):
    out = tmp_path / "data"
    refseg("data", "export", "refshapes", out, "--split", "val", "--limit", 2)
    for overlap in ("union", "lavt"):
        code, _, _ = refseg(
            "eval", model, "--data", out, "--split", "val", "--overlap", overlap, "--out", tmp_path / overlap
        )
        assert code == 0
        assert json.loads((tmp_path / overlap / "report.json").read_text())["overlap"] == overlap
    assert "count as background (lavt)" in (tmp_path / "lavt" / "report.html").read_text()
    code, _, complaint = refseg("compare", tmp_path / "union", tmp_path / "lavt")
    assert code == 2 and "overlap 'union' and 'lavt'" in complaint


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ({"limit": "3"}, {}, "the limit '3': a number of expressions from 1"),
        ({"limit": -5}, {}, "the limit -5"),
        ({"words": "nonsense"}, {}, "the words 'nonsense': true, shuffled or swapped"),
        (
            {"limit": 1},
            {"rle": "abc"},
            "predictions.jsonl: image refshapes-val-000000 (refshapes-val-000000-0): mask abc",
        ),
        ({"limit": 1}, {"rle": "[" * 5000}, "predictions.jsonl: image"),
    ],
)
def test_what_a_foreign_predictions_file_gets_wrong_is_said_in_one_line(refseg, tmp_path, header, row, message):
    path = tmp_path / "predictions.jsonl"
    first = {"model": "theirs", "size": "original", "threshold": 0.5} | header
    answer = {"sent_id": "refshapes-val-000000-0", "rle": {}} | row
    path.write_text(f"{json.dumps(first)}\n{json.dumps(answer)}\n")
    code, _, complaint = refseg("eval", "--predictions", path, "--data", "refshapes", "--split", "val")
    assert code == 2 and message in complaint and complaint.count("\n") == 1, complaint


def test_json_that_is_nested_without_end_is_refused(refseg, tmp_path):
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    for arguments in (("--predictions", deep), ("lgformer-shapes", "--protocol", deep)):
        code, _, complaint = refseg("eval", *arguments)
        assert code == 2 and "not JSON" in complaint and complaint.count("\n") == 1, complaint
