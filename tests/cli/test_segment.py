"""`refseg segment` on folders and lists, with thresholds and without overlays."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(photo, tmp_path):
    """Two photos, one of them damaged, two with one stem, and a file that is no image."""
    found = tmp_path / "photos"
    found.mkdir()
    shutil.copy(photo, found / "a.jpg")
    Image.open(photo).save(found / "a.png")
    (found / "b.jpg").write_bytes(b"no image")
    (found / "notes.txt").write_text("no image either")
    return found


def test_a_folder_of_images(refseg, model, folder, tmp_path):
    out = tmp_path / "out"
    code, said, complaint = refseg("segment", folder, "red", "left", "--model", model, "--out", out, "--json")
    assert code == 2 and "b.jpg: no image" in complaint and complaint.count("\n") == 1
    found = json.loads(said)
    assert [(entry["image"].rsplit("/", 1)[1], entry["expression"]) for entry in found] == [
        ("a.jpg", "red"), ("a.jpg", "left"), ("a.png", "red"), ("a.png", "left")]  # fmt: skip
    assert len({entry["mask"] for entry in found}) == 4
    code, said, _ = refseg("segment", folder, "red", "--model", model, "--out", out, "--json", "--limit", 1)
    assert code == 0 and len(json.loads(said)) == 1


def test_an_empty_folder_is_refused(refseg, model, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, complaint = refseg("segment", tmp_path / "empty", "red", "--model", model)
    assert code == 2 and "holds no images; .bmp, " in complaint


def test_a_threshold_and_masks_alone(refseg, model, photo, tmp_path):
    areas = []
    for threshold in (0.001, 0.5, 0.999):
        out = tmp_path / str(threshold)
        code, said, _ = refseg("segment", photo, "red", "--model", model, "--out", out, "--json", "--masks-only",
                               "--threshold", threshold)  # fmt: skip
        (found,) = json.loads(said)
        assert code == 0 and found["overlay"] is None
        assert sorted(path.name for path in out.iterdir()) == ["photo.1.mask.png", "segments.jsonl"]
        assert found["area"] == (np.asarray(Image.open(found["mask"])) == 255).sum()
        areas.append(found["area"])
    assert areas[0] == 60 * 90 and areas[2] == 0 and areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("threshold", ["0", "1", "-0.5", "nan", "inf"])
def test_a_threshold_that_is_none_is_refused(refseg, model, photo, threshold):
    code, _, complaint = refseg("segment", photo, "red", "--model", model, f"--threshold={threshold}")
    assert code == 2 and "a probability between 0 and 1 is accepted" in complaint


def test_another_threshold_is_not_taken_from_what_was_done(refseg, model, folder, tmp_path):
    (folder / "b.jpg").unlink()
    given = ("segment", folder, "red", "--model", model, "--out", tmp_path / "out", "--json")
    _, first, _ = refseg(*given)
    _, other, _ = refseg(*given, "--threshold", 0.001)
    _, again, _ = refseg(*given)
    assert json.loads(first) == json.loads(again) != json.loads(other)
    assert all(entry["area"] == 60 * 90 for entry in json.loads(other))
    for entry in json.loads(again):
        assert entry["area"] == (np.asarray(Image.open(entry["mask"])) == 255).sum()


def test_the_images_of_a_list_may_lie_elsewhere(refseg, model, folder, tmp_path):
    tasks = tmp_path / "lists" / "tasks.jsonl"
    tasks.parent.mkdir()
    tasks.write_text('{"image": "a.jpg", "expression": "red"}\n')
    given = ("segment", "--list", tasks, "--model", model, "--out", tmp_path / "out", "--json")
    assert refseg(*given)[0] == 2
    code, said, _ = refseg(*given, "--images", folder)
    assert code == 0 and json.loads(said)[0]["image"] == str(folder / "a.jpg")
    code, _, complaint = refseg(*given, "--images", tmp_path / "nowhere")
    assert code == 2 and "nowhere: no such folder" in complaint


def test_an_expression_that_begins_with_a_dash(refseg, model, photo, tmp_path):
    code, _, complaint = refseg("segment", photo, "-shaped", "--model", model, "--out", tmp_path)
    assert code == 2 and "before an expression that begins with -, put --" in complaint
    code, said, _ = refseg("segment", photo, "--model", model, "--out", tmp_path, "--", "-shaped")
    assert code == 0 and said.startswith("-shaped: ")


def test_a_run_folder_is_its_best_model(refseg, model, photo, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    code, _, complaint = refseg("segment", photo, "red", "--model", run)
    assert code == 2 and "has not been scored yet" in complaint
    shutil.copytree(model, run / "best")
    assert refseg("segment", photo, "red", "--model", run, "--out", tmp_path)[0] == 0


def test_a_preset_says_that_it_is_one(refseg, photo):
    code, _, complaint = refseg("segment", photo, "red", "--model", "eavl/queries-8")
    assert code == 2 and "a preset without weights; `refseg train eavl/queries-8` trains it" in complaint


def test_models_are_filtered_and_counted_as_a_person_counts(refseg):
    code, said, _ = refseg("models", "eavl/QUERIES", "--json")
    names = [entry["name"] for entry in json.loads(said)["presets"]]
    numbers = [int(name.rsplit("-", 1)[1]) for name in names]
    assert code == 0 and numbers == sorted(numbers) and len(numbers) > 2
    assert refseg("models", "nothing")[0] == 2
    assert refseg("models", "-h")[0] == 0


def test_nothing_is_written_over_that_is_not_the_same_answer(refseg, model, folder, tmp_path):
    (folder / "b.jpg").unlink()
    out = tmp_path / "out"
    given = ("segment", folder, "red", "--model", model, "--out", out, "--json", "--masks-only")
    _, first, _ = refseg(*given)
    masks = [entry["mask"] for entry in json.loads(first)]
    before = [np.asarray(Image.open(mask)) for mask in masks]
    other = ("segment", folder / "a.jpg", "left", "--model", model, "--out", out, "--masks-only")
    code, said, note = refseg(*other)
    assert code == 0 and "a.3.mask.png" in said and "a.1.mask.png: is not of this image" in note
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(masks[1])  # by hand
    code, again, note = refseg(*given)
    found = json.loads(again)
    assert code == 0 and found[0] == json.loads(first)[0] and found[1]["mask"].endswith("a.4.mask.png")
    assert note.count("was kept") == 1 and not np.asarray(Image.open(masks[1])).any()
    for mask, was in zip([masks[0], found[1]["mask"]], before, strict=True):
        assert np.array_equal(np.asarray(Image.open(mask)), was)
    _, again, note = refseg(*given)  # now it knows where its own is
    assert json.loads(again) == found and note == ""
    _, again, note = refseg("segment", folder / "a.png", "blue", "--model", model, "--out", out, "--json",
                            "--masks-only", "--overwrite")  # fmt: skip
    assert json.loads(again)[0]["mask"] == masks[0] and note == ""


def test_the_same_answer_is_written_where_it_was(refseg, model, photo, tmp_path):
    out = tmp_path / "out"
    given = ("segment", photo, "red", "red", "left", "--model", model, "--out", out)
    assert refseg(*given)[0] == 0
    names = sorted(path.name for path in out.iterdir())
    for more in ((), ("--threshold", 0.3), ("--masks-only",), ()):  # as `make demo` is called again
        code, _, note = refseg(*given, *more)
        assert code == 0 and note == "" and sorted(path.name for path in out.iterdir()) == names
    (out / "photo.2.mask.png").unlink()
    assert refseg(*given)[0] == 0 and sorted(path.name for path in out.iterdir()) == names


def test_two_photos_of_one_name_from_two_folders(refseg, model, folder, tmp_path):
    (tmp_path / "y").mkdir()
    Image.fromarray(np.full((60, 90, 3), 200, np.uint8)).save(tmp_path / "y" / "a.png")
    out, masks = tmp_path / "out", set()
    for image, text in ((folder / "a.png", "red"), (tmp_path / "y" / "a.png", "red"), (folder / "a.png", "blue")):
        code, said, _ = refseg("segment", image, text, "--model", model, "--out", out, "--json")
        masks.add(json.loads(said)[0]["mask"])
    assert len(masks) == 3 == len(list(out.glob("*.mask.png")))


def test_files_that_were_there_before_keep_their_names(refseg, model, photo, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo.1.overlay.png").write_text("mine")
    (out / "photo.2.mask.png").symlink_to("nowhere")
    code, said, note = refseg("segment", photo, "red", "--model", model, "--out", out, "--json")
    assert code == 0 and json.loads(said)[0]["mask"].endswith("photo.3.mask.png") and "photo.1.overlay.png" in note
    assert (out / "photo.1.overlay.png").read_text() == "mine"


def test_a_kill_between_a_file_and_its_line_leaves_no_stranger(refseg, model, photo, tmp_path):
    out = tmp_path / "out"
    given = ("segment", photo, "red", "--model", model, "--out", out)
    refseg(*given)
    log = out / "segments.jsonl"
    begun = log.read_text().splitlines()[0]
    assert '"begun": true' in begun
    log.write_text(begun + "\n")  # the files are there, their line is not
    code, _, note = refseg(*given)
    assert code == 0 and note == "" and len(list(out.glob("*.mask.png"))) == 1


def test_a_list_goes_on_behind_a_bad_row(refseg, model, folder, tmp_path):
    tasks = folder / "tasks.jsonl"
    rows = ['{"image": "a.jpg", "expression": "red"}', "{", '{"image": "a.jpg"}',
            '{"image": "none.jpg", "expression": "x"}',
            '{"image": "a.jpg", "expression": ""}', '{"image": "a\\u0000", "expression": "x"}', "[" * 5000 + "]" * 5000,
            '{"image": "a.png", "expression": "left"}']  # fmt: skip
    tasks.write_text("\n".join(rows))
    code, said, complaint = refseg("segment", "--list", tasks, "--model", model, "--out", tmp_path / "out", "--json")
    assert code == 2 and [entry["expression"] for entry in json.loads(said)] == ["red", "left"]
    lines = complaint.splitlines()
    assert len(lines) == 6 and all(f"tasks.jsonl line {n}: " in line for n, line in enumerate(lines, start=2))


def test_ctrl_c_in_a_list_says_how_far_it_came_and_the_same_command_goes_on(refseg, model, tmp_path, monkeypatch):
    for name in "abc":
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "list.jsonl").write_text("".join(f'{{"image": "{n}.png", "expression": "x"}}\n' for n in "abc"))
    command = ("segment", "--list", tmp_path / "list.jsonl", "--model", model, "--out", tmp_path / "out")
    from refseg.predictor import Predictor

    honest = Predictor.predict

    def interrupted(self, images, expressions, details=False):
        if (tmp_path / "out" / "a.1.mask.png").exists():
            raise KeyboardInterrupt
        return honest(self, images, expressions, details)

    monkeypatch.setattr(Predictor, "predict", interrupted)
    code, _, err = refseg(*command)
    assert code == 130 and "after 1 of 3 images; the same command goes on" in err
    monkeypatch.setattr(Predictor, "predict", honest)
    assert refseg(*command)[0] == 0 and (tmp_path / "out" / "c.1.mask.png").exists()
