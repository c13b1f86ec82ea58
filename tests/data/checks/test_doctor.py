"""Every finding of the data doctor, planted; and nothing found in a good folder."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from refseg.data.checks.doctor import check
from refseg.data.checks.findings import FINDINGS, LIMITS, Measure, words_and_signs
from refseg.data.checks.leakage import Images, find_leaks, read_list
from refseg.data.formats.rle import encode_rle
from refseg.presets import presets

H, W = 60, 80
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (H, W, 3), np.uint8)).save(path)


def write(root, rows, name="data.jsonl", photos=True):
    """A data set of rows (split, image, expression, mask[, ref_id]); photos that are not there yet are made."""
    root.mkdir(parents=True, exist_ok=True)
    records = []
    for split, image, text, mask, *ref in rows:
        record = {"split": split, "image": image, "expression": text, "mask": mask}
        records.append(record | ({"ref_id": ref[0]} if ref else {}))
        if photos and not (root / image).exists():
            photo(root / image, sum(map(ord, image)))
    (root / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


GOOD = [
    ("train", "a.png", "the dog", SQUARE),
    ("train", "a.png", "the cat on the left", [[40, 10, 70, 10, 70, 50]]),
    ("train", "b.png", "the dog", SQUARE),
    ("val", "c.png", "the dog", SQUARE),
    ("test", "d.png", "nothing of the kind", None),
]


def found(root, **options):
    """Severity, place and count of what is found, by name."""
    report = check(root, **options)
    for finding in report.findings:
        assert FINDINGS[finding.name][0] in (finding.severity, "error") and finding.count >= len(finding.examples) > 0
        assert len(finding.examples) <= 5
    return {finding.name: (finding.severity, finding.where, finding.count) for finding in report.findings}


def examples(root, name, **options):
    return [text for finding in check(root, **options).findings if finding.name == name for text in finding.examples]


def test_a_good_folder_has_no_findings_and_is_counted(tmp_path):
    report = check(write(tmp_path, GOOD))
    assert report.findings == [] and report.skipped == [] and report.count("error") == 0
    (entry,) = report.sets
    assert entry["name"] == "data.jsonl"
    assert entry["splits"] == {
        "train": {"references": 3, "sentences": 3, "images": 2},
        "val": {"references": 1, "sentences": 1, "images": 1},
        "test": {"references": 1, "sentences": 1, "images": 1},
    }
    assert json.loads(json.dumps(report.summary()))["warnings"] == 0


def test_no_data(tmp_path):
    assert found(tmp_path)["no data"] == ("error", str(tmp_path), 1)
    assert "lichengunc/refer" in check(tmp_path).findings[0].says
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        check(tmp_path / "nowhere")


def test_one_file_can_be_given(tmp_path):
    write(tmp_path, GOOD)
    write(tmp_path / "other", [("val", "c.png", " ", SQUARE)])
    assert check(tmp_path / "data.jsonl").findings == []
    assert len(check(tmp_path).sets) == 2 and "empty expressions" in found(tmp_path)


def test_unreadable_files(tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.csv").write_text("nonsense\n1\n")
    assert found(tmp_path) == {"unreadable files": ("error", str(tmp_path / "bad" / "data.csv"), 1)}
    assert len(check(tmp_path).sets) == 1


def row(**changes):
    split, image, text, mask = GOOD[3]
    return tuple((dict(split=split, image=image, text=text, mask=mask) | changes).values())


def rle(height, width, filled=True):
    return encode_rle(np.full((height, width), filled))


@pytest.mark.parametrize(
    ("name", "planted", "count"),
    [
        ("masks outside images", [row(mask=[[10, 10, W + 2, 10, 30, 30]])], 1),
        ("masks outside images", [row(mask=[[-3, 10, 20, 10, 30, 30]])], 1),
        ("empty masks", [row(mask=rle(H, W, False))], 1),
        ("empty masks", [row(mask=[[10, 10, 10, 10, 10, 10]]), row(image="e.png", mask=[])], 2),
        ("unreadable masks", [row(mask="none.png")], 1),
        ("overlapping parts", [row(mask=SQUARE + [[20, 20, 40, 20, 40, 40, 20, 40]])], 1),
        ("empty expressions", [row(text=""), row(text="  ?! ")], 2),
        ("ambiguous expressions", [row(), row(text="The  dog", mask=[[40, 10, 70, 10, 70, 50]])], 1),
        ("repeated expressions", [row(), row(), row(text="the DOG")], 2),
        ("images shared by train and test", [row(image="a.png"), row(image="b.png")], 2),
        ("images shared by scored splits", [row(image="d.png")], 1),
    ],
)
def test_what_is_planted_is_found_alone(tmp_path, name, planted, count):
    write(tmp_path, GOOD[:3] + GOOD[4:] + planted)
    got = found(tmp_path)
    assert set(got) == {name} and got[name][0] == FINDINGS[name][0] and got[name][2] == count
    assert "val" in got[name][1]


def test_an_image_that_is_not_the_annotated_one(tmp_path):
    photo(tmp_path / "e.png", 0)
    write(tmp_path, [*GOOD, row(image="e.png", mask=rle(W, H))])  # a code tells the size of what was annotated
    assert found(tmp_path) == {"images of another size": ("error", "data.jsonl val", 1)}
    assert examples(tmp_path, "images of another size") == [
        f"image e.png: annotated as {H}x{W} pixels, {tmp_path / 'e.png'} has {W}x{H}; the image that was annotated is "
        "accepted"
    ]
    assert found(tmp_path, fast=True) == {}


def test_a_picture_of_a_mask_may_have_another_size(tmp_path):
    Image.new("L", (W + 1, H), 255).save(tmp_path / "mask.png")
    write(tmp_path, [row(mask="mask.png", image="e.png")])
    assert found(tmp_path) == {"masks of another size": ("error", "data.jsonl val", 1)}


def test_points_on_the_border_are_inside(tmp_path):
    write(tmp_path, [row(mask=[[0, 0, W, 0, W + 0.5, H, -0.5, H]])])
    assert found(tmp_path) == {}


def test_missing_and_damaged_images(tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "a.png").unlink()
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    got = found(tmp_path)
    assert got["missing images"] == ("error", "data.jsonl train", 1)
    assert got["unreadable images"] == ("error", "data.jsonl val", 1)
    (told,) = examples(tmp_path, "unreadable images")
    assert told.startswith(f"image c.png: {tmp_path / 'c.png'}: damaged, truncated")
    assert set(found(tmp_path, fast=True)) == {"missing images"}
    report = check(tmp_path, fast=True)
    assert "not opened" in report.skipped[0] and report.skipped[1].startswith("4 masks")


def test_copies_under_another_name_are_leaks_unless_images_stay_closed(tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes())
    assert found(tmp_path) == {"images shared by train and test": ("error", "data.jsonl train, data.jsonl val", 1)}
    assert examples(tmp_path, "images shared by train and test") == [str(tmp_path / "c.png")]
    assert found(tmp_path, fast=True) == {}


def test_leaks_between_sets_go_by_coco_numbers(tmp_path):
    one, two = "COCO_train2014_000000000139.png", "train2017/000000000139.png"
    write(tmp_path / "mine", [("train", one, "the dog", SQUARE), ("val", "x.png", "the dog", SQUARE)])
    write(tmp_path / "theirs", [("train", "y.png", "the cat", SQUARE), ("testA", two, "the cat", SQUARE)])
    place = "mine/data.jsonl train, theirs/data.jsonl testA"
    assert found(tmp_path, fast=True) == {"images shared with another set": ("warning", place, 1)}
    report = check(tmp_path, fast=True)
    assert report.count("error") == 0
    assert "`refseg train --data A --data B` takes every val and test image out" in report.findings[0].says


def test_with_a_training_list_it_alone_says_what_leaks_between_sets(tmp_path):
    """Otherwise no list could ever pass on RefCOCO and RefCOCO+, whose training splits hold each other's val."""
    one, two = "COCO_train2014_000000000139.png", "train2017/000000000139.png"
    write(tmp_path / "mine", [("train", one, "the dog", SQUARE), ("train", "z.png", "the dog", SQUARE)])
    write(tmp_path / "theirs", [("train", "y.png", "the cat", SQUARE), ("testA", two, "the cat", SQUARE)])
    listed = tmp_path / "list.txt"
    listed.write_text("z.png\ny.png\n")
    assert found(tmp_path, fast=True, train_list=listed) == {}
    listed.write_text(f"z.png\n{one}\n")
    place = "theirs/data.jsonl testA"
    assert found(tmp_path, fast=True, train_list=listed) == {"images on the training list": ("error", place, 1)}
    write(tmp_path / "mine", [("train", one, "the dog", SQUARE), ("val", one, "the dog", SQUARE)])
    assert found(tmp_path, fast=True, train_list=listed)["images shared by train and test"][0] == "error"


def test_two_sets_may_train_on_the_same_or_be_scored_on_the_same():
    def split(data, name, *images):
        return Images(data, name, {image: image for image in images})

    splits = [split("a", "train", "1"), split("b", "train", "1"), split("a", "val", "2"), split("b", "test", "2"),
              split("c", "all", "3", "2")]  # fmt: skip
    leaks = [(leak.one.data, leak.two.data, leak.two.split, leak.kind, leak.shared) for leak in find_leaks(splits)]
    assert leaks == [("c", "a", "val", "images shared with another set", ["2"]),
                     ("c", "b", "test", "images shared with another set", ["2"])]  # fmt: skip


def test_a_training_list(tmp_path):
    numbered = "COCO_train2014_000000000139.png"
    write(tmp_path, [*GOOD, ("val", numbered, "the cat", SQUARE)])
    listed = tmp_path / "list.txt"
    listed.write_text("train2017/000000000139.jpg\n\nsomewhere/d.png\na.png\nother.png\n")
    report = check(tmp_path, train_list=listed)
    assert [(f.name, f.where, f.severity) for f in report.findings] == [
        ("images on the training list", "data.jsonl val", "error"),
        ("images on the training list", "data.jsonl test", "error"),
    ]
    assert [f.examples for f in report.findings] == [[str(tmp_path / numbered)], [str(tmp_path / "d.png")]]
    listed.write_text("\n \n")
    with pytest.raises(ValueError, match="names no image"):
        read_list(listed)


@pytest.mark.parametrize(
    ("line", "on_it"),
    [
        ("0001.png", {"a", "b"}),  # a bare name
        ("0001", {"a", "b"}),
        ("a/0001.png", {"a"}),
        ("./b/0001.png", {"b"}),
        ("c/0001.png", set()),
        ("a/0001", {"a"}),
        ("C:\\data\\a\\0001.png", {"a"}),
        ("/another/machine/a/0001.png", {"a"}),
        ("a/0001.png/", {"a"}),
        ("a/0002.png", set()),
        ("a/0001.jpg", set()),
        ("ba/0001.png", set()),
    ],
)
@pytest.mark.parametrize("sets", [1, 2])
def test_paths_in_a_training_list_are_compared_as_far_as_both_have_them(tmp_path, line, on_it, sets):
    for folder in "ab":
        photo(tmp_path / folder / "0001.png", ord(folder))
    if sets == 1:
        write(tmp_path, [(f"val_{folder}", f"{folder}/0001.png", "it", SQUARE) for folder in "ab"])
    else:
        for folder in "ab":
            write(tmp_path / folder, [(f"val_{folder}", "0001.png", "it", SQUARE)])
    listed = tmp_path / "list.txt"
    listed.write_text(f"other/0009.png\n{line}\n")
    where = {finding.where[-1] for finding in check(tmp_path, train_list=listed).findings}
    assert where == on_it


def test_a_training_list_with_the_whole_paths_of_this_machine(tmp_path):
    write(tmp_path / "set", [("val", "../photos/deep/0001.png", "it", SQUARE)])
    listed = tmp_path / "list.txt"
    for line, count in ((tmp_path / "photos/deep/0001.png", 1), (tmp_path / "photos/other/0001.png", 0)):
        listed.write_text(f"{line}\n")
        for root in (tmp_path, tmp_path / "set", tmp_path / "set/data.jsonl"):
            assert check(root, train_list=listed).count("error") == count


def test_long_expressions_are_measured_as_asked(tmp_path):
    text = " ".join(["word"] * 16)  # 18 tokens with both ends
    write(tmp_path, [row(text=text)])
    assert found(tmp_path)["long expressions"] == ("warning", "data.jsonl val", 1)
    says = [finding.says for finding in check(tmp_path).findings]
    assert len(says) == 1 and "(CLIP, 17 tokens)" in says[0] and "words and signs" in check(tmp_path).tokens
    double = Measure("double", lambda sentences: [2 * len(s.split()) for s in sentences], ("BERT",))
    assert [finding.says[-17:] for finding in check(tmp_path, measure=double).findings] == ["(BERT, 20 tokens)"]
    assert examples(tmp_path, "long expressions", measure=double) == ["row-1 (32)"]
    assert words_and_signs(["the man's dog, left", ""]) == [9, 2]


def test_limits_are_those_of_the_presets():
    read = {preset.input.max_tokens for preset in presets().values() if "shapes" not in preset.name}
    assert read <= {limit for limits in LIMITS.values() for limit in limits} and 20 in read and 17 in read


def refer_layout(root, references, by="unc", name="refcoco"):
    """A set in the layout of the RefCOCO family: references (split, image number)."""
    folder = root / name
    folder.mkdir(parents=True)
    images, annotations, refs = {}, [], []
    for number, (split, image) in enumerate(references):
        file = f"COCO_train2014_{image:012d}.jpg"
        images[image] = {"id": image, "file_name": file, "height": H, "width": W}
        photo(root / "images" / "mscoco" / "images" / "train2014" / file, image)
        annotations.append({"id": number, "image_id": image, "category_id": 1, "segmentation": SQUARE})
        refs.append({"ref_id": number, "ann_id": number, "image_id": image, "category_id": 1, "split": split,
                     "file_name": "none.jpg", "sent_ids": [number],
                     "sentences": [{"raw": f"dog {number}", "sent": f"dog {number}", "sent_id": number,
                                    "tokens": ["dog", str(number)]}]})  # fmt: skip
    content = {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": 1, "name": "dog"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, 2))
    return folder


def test_a_published_set_has_the_published_counts(tmp_path, monkeypatch):
    refer_layout(tmp_path, [("train", 1), ("train", 1), ("val", 2)])
    got = found(tmp_path)
    assert set(got) == {"unexpected counts"} and got["unexpected counts"][:2] == ("error", "refcoco")
    assert got["unexpected counts"][2] == 12  # four splits, three numbers each
    assert examples(tmp_path, "unexpected counts")[:2] == [
        "train: 2 references instead of 42404", "train: 2 sentences instead of 120624"]  # fmt: skip
    counts = {("refcoco", "unc"): {"train": (2, None, 1), "val": (1, 1, 1)}}
    monkeypatch.setattr("refseg.data.checks.doctor.EXPECTED", counts)
    assert found(tmp_path) == {}
    counts["refcoco", "unc"]["train"] = (2, 2, 2)
    assert examples(tmp_path, "unexpected counts") == ["train: 1 images instead of 2"]
    del counts["refcoco", "unc"]["val"]
    counts["refcoco", "unc"]["train"] = (2, 2, 1)
    assert found(tmp_path)["unexpected counts"][2] == 3  # a split that should not be there


def test_sentences_of_refcocog_and_refclef_are_counted(tmp_path):
    refer_layout(tmp_path, [("train", 1), ("val", 2)], by="google", name="refcocog")
    counts = examples(tmp_path, "unexpected counts")
    assert "train: 1 sentences instead of 85474" in counts and "val: 1 sentences instead of 9536" in counts
    refer_layout(tmp_path / "g", [("train", 1), ("val", 2)], by="umd", name="refcocog")
    counts = examples(tmp_path / "g", "unexpected counts")
    assert "train: 1 sentences instead of 80512" in counts and "val: 1 sentences instead of 4896" in counts
    refer_layout(tmp_path / "c", [("train", 1), ("val", 2), ("testAB", 3)], by="unc", name="refclef")
    counts = examples(tmp_path / "c", "unexpected counts")
    assert counts == ["train: 1 images instead of 17978", "val: 1 sentences instead of 12029",
                      "val: 1 images instead of 2000", "testA: 0 sentences instead of 3449",
                      "testB: 0 sentences instead of 3221"]  # fmt: skip
    assert found(tmp_path / "c")["unexpected counts"][2] == 8  # and testC, testAB, testBC


def test_figures_of_papers_are_a_warning_from_one_percent_on(tmp_path, monkeypatch):
    refer_layout(tmp_path, [("train", 1)], by="berkeley", name="refclef")
    assert found(tmp_path) == {"unconfirmed counts": ("warning", "refclef-berkeley", 3)}
    assert examples(tmp_path, "unconfirmed counts")[0] == "train: 1 sentences, papers print 54127"
    printed = {("refclef", "berkeley"): {"train": 100}}
    monkeypatch.setattr("refseg.data.checks.doctor.PRINTED", printed)
    refer_layout(tmp_path / "more", [("train", 1)] * 99, by="berkeley", name="refclef")
    assert "unconfirmed counts" not in found(tmp_path / "more")
    printed["refclef", "berkeley"]["train"] = 101
    assert "unconfirmed counts" in found(tmp_path / "more")


def test_counts_are_for_the_published_file_name(tmp_path):
    folder = refer_layout(tmp_path, [("train", 1)], by="unc", name="refcoco")
    (folder / "refs(unc).p").rename(folder / "refs(mine).p")
    assert found(tmp_path) == {}
    (folder / "refs(mine).p").rename(folder / "refs(google).p")
    assert "train: 1 references instead of 40000" in examples(tmp_path, "unexpected counts")


def test_missing_parts_of_a_published_set_name_their_source(tmp_path, monkeypatch):
    monkeypatch.setattr("refseg.data.checks.doctor.EXPECTED", {})
    folder = refer_layout(tmp_path, [("train", 1), ("val", 2)])
    for file in (tmp_path / "images").rglob("*.jpg"):
        file.unlink()
    report = check(tmp_path)
    assert [(f.name, f.where) for f in report.findings] == [
        ("missing images", "refcoco train"), ("missing images", "refcoco val")]  # fmt: skip
    assert "cocodataset.org" in report.findings[0].says
    (folder / "refs(unc).p").unlink()
    report = check(tmp_path)
    assert [f.name for f in report.findings] == ["missing files", "no data"]
    assert "lichengunc/refer" in report.findings[0].says


def test_a_file_of_references_that_wants_to_execute_is_unreadable(tmp_path):
    folder = refer_layout(tmp_path, [("train", 1)])
    (folder / "refs(unc).p").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    got = check(tmp_path).findings
    assert [f.name for f in got] == ["unreadable files"] and "system" in got[0].says


def test_sets_that_were_split_by_object_are_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr("refseg.data.checks.doctor.EXPECTED", {})
    refer_layout(tmp_path, [("train", 1), ("val", 1)], by="google", name="refcocog")
    (finding,) = check(tmp_path).findings
    assert finding.name == "images shared by train and test" and finding.severity == "warning"
    assert "split objects" in finding.says
    refer_layout(tmp_path / "clef", [("train", 1), ("val", 1)], by="unc", name="refclef")
    (finding,) = check(tmp_path / "clef").findings
    assert finding.severity == "warning" and "more images than the data set has" in finding.says
    refer_layout(tmp_path / "umd", [("train", 1), ("val", 1)], by="umd", name="refcocog")
    (finding,) = check(tmp_path / "umd").findings
    assert finding.severity == "error"


def test_examples_are_few_however_much_is_wrong(tmp_path):
    write(tmp_path, [row(image=f"{number}.png", text="") for number in range(9)])
    (finding,) = check(tmp_path).findings
    assert finding.count == 9 and len(finding.examples) == 5 and finding.examples[0] == "row-1"


def test_every_malformed_row_is_found_and_the_others_are_looked_over(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    good = {"image": "a.png", "expression": "the thing", "mask": [[1, 1, 6, 1, 6, 6]]}
    lines = [
        json.dumps(good),
        "{",
        json.dumps({"image": "a.png", "mask": None}),
        json.dumps(good | {"mask": "none.png"}),
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")
    report = check(tmp_path)
    found = {finding.name: finding for finding in report.findings}
    assert found["unreadable rows"].count == 2 and "line 2" in found["unreadable rows"].examples[0]
    assert found["unreadable masks"].count == 1
    assert report.sets[0]["splits"]["all"]["sentences"] == 2


def test_a_malformed_row_of_refer_is_found_and_the_others_are_looked_over(tmp_path, monkeypatch):
    monkeypatch.setattr("refseg.data.checks.doctor.EXPECTED", {})
    folder = refer_layout(tmp_path, [("train", 1), ("train", 1), ("val", 2)])
    references = pickle.loads((folder / "refs(unc).p").read_bytes())
    del references[1]["sentences"][0]["sent_id"]
    references[2]["sentences"][0]["raw"] = " ?"
    references.append(None)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(references, 2))
    report = check(tmp_path)
    got = {finding.name: finding for finding in report.findings}
    assert set(got) == {"unreadable rows", "empty expressions"} and got["unreadable rows"].severity == "error"
    assert [example.split(";")[0] for example in got["unreadable rows"].examples] == [
        "reference 1: sentence number 0: sent_id is missing", "reference number 3: None"]  # fmt: skip
    assert {split: counts["sentences"] for split, counts in report.sets[0]["splits"].items()} == {"train": 1, "val": 1}


def test_a_malformed_row_of_coco_is_found_and_the_others_are_looked_over(tmp_path):
    photo(tmp_path / "a.png", 0)
    annotations = [{"id": n, "image_id": 1, "category_id": 1, "segmentation": SQUARE} for n in (1, 2)]
    content = {"images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}], "annotations": annotations,
               "categories": [{"id": 1, "name": "dog"}]}  # fmt: skip
    annotations[1]["category_id"] = 5
    (tmp_path / "instances.json").write_text(json.dumps(content))
    rows = [{"expression": "dog", "ann_id": 1}, {"expression": "cat", "ann_id": 2}, {"ann_id": 1}]
    (tmp_path / "expressions.json").write_text(json.dumps(rows))
    (finding,) = check(tmp_path).findings
    assert (finding.name, finding.count) == ("unreadable rows", 3)
    assert "instances.json: annotation 2: category 5" in finding.examples[0]
    assert [example[:5] for example in finding.examples[1:]] == ["row 2", "row 3"]


def test_a_file_whose_rows_are_all_malformed_says_why(tmp_path):
    (tmp_path / "data.csv").write_text("image,expression,mask\na.png,it\n")
    got = {finding.name: finding for finding in check(tmp_path).findings}
    assert set(got) == {"unreadable rows", "unreadable files"} and "2 cells" in got["unreadable rows"].examples[0]


def test_linked_data_sets_are_found_and_links_in_a_circle_end(tmp_path):
    real = tmp_path / "elsewhere"
    real.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(real / "a.png")
    (real / "data.jsonl").write_text(json.dumps({"image": "a.png", "expression": "it", "mask": [[1, 1, 6, 1, 6, 6]]}))
    root = tmp_path / "root"
    root.mkdir()
    (root / "set").symlink_to(real)
    (root / "again").symlink_to(root)
    assert [entry["name"] for entry in check(root).sets] == ["set/data.jsonl"]


def test_a_missing_instances_file_is_said_with_where_it_is_described(tmp_path):
    folder = tmp_path / "refcocog"
    folder.mkdir()
    (folder / "refs(umd).p").write_bytes(pickle.dumps([], protocol=2))
    [finding] = [finding for finding in check(tmp_path).findings if finding.name == "missing files"]
    assert finding.examples == ["instances.json"] and "github.com/lichengunc/refer" in finding.says
