from __future__ import annotations

import copy
import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rectangles import SIZE, box, filled
from refseg.data.formats import refer
from refseg.data.formats.refer import EXPECTED, NAMED, PRINTED, data_name, find_named, read_refer
from refseg.data.formats.regions import rasterise
from refseg.data.reading import Reading
from refseg.data.sets import open_data, open_splits, splits_of

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "refer_fixture" / "refcocog" / "refs(umd).p"


def instances():
    return {
        "images": [
            {"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 12, "width": 16} for n in (1, 2, 3, 4)
        ],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 1, "segmentation": [box(2, 1, 6, 5), box(5, 3, 6, 6)]},
            {"id": 11, "image_id": 1, "category_id": 1, "segmentation": [box(12, 0, 3, 3)]},
            {"id": 12, "image_id": 2, "category_id": 3, "segmentation": {"size": [12, 16], "counts": [12, 24, 156]}},
            {
                "id": 13,
                "image_id": 3,
                "category_id": 3,
                "segmentation": [
                    {"size": [12, 16], "counts": [0, 12, 180]},
                    {"size": [12, 16], "counts": [180, 12]},
                ],
            },
            {"id": 14, "image_id": 4, "category_id": 1, "segmentation": [box(0, 0, 2, 2)]},
            {"id": 15, "image_id": 4, "category_id": 3, "segmentation": []},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "hat"}],
    }


def ref(number, ann_id, image_id, split, *sentences):
    return {
        "ref_id": number, "ann_id": ann_id, "image_id": image_id, "category_id": 1, "split": split,
        "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg", "sent_ids": [n for n, _ in sentences],
        "sentences": [
            {"sent_id": n, "raw": text, "sent": text.lower(), "tokens": text.lower().split()} for n, text in sentences
        ],
    }  # fmt: skip


def refs():
    return [
        ref(100, 10, 1, "train", (0, "The LEFT man!"), (1, "man")),
        ref(101, 12, 2, "testA", (2, "hat")),
        ref(102, 11, 1, "train", (3, "right one")),
        ref(103, 13, 3, "testB", (4, "both hats")),
        ref(104, 14, 4, "val", (5, "child")),
    ]


def root(tmp_path, references=None, annotations=None, name="refcoco/refs(unc).p", photos=True, protocol=2):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("instances.json").write_text(json.dumps(instances() if annotations is None else annotations))
    references = refs() if references is None else references
    if path.suffix == ".p":
        path.write_bytes(pickle.dumps(references, protocol))
    else:
        path.write_text(json.dumps(references))
    folder = tmp_path / "images/mscoco/images/train2014"
    if photos and not folder.exists():
        folder.mkdir(parents=True)
        for n in (1, 2, 3, 4):
            picture = np.full((*SIZE, 3), 40 * n, np.uint8)
            Image.fromarray(picture).save(folder / f"COCO_train2014_{n:012d}.jpg", quality=100)
    return path


def test_images_come_once_with_all_their_sentences(tmp_path):
    data = open_data(str(root(tmp_path)), "train")
    assert (data.name, data.split, data.endless, len(data)) == ("refcoco", "train", False, 1)
    sample = data[0]
    assert sample.image_id == "1" and abs(int(sample.image.mean()) - 40) <= 1
    assert [(e.sent_id, e.text, e.reference) for e in sample.expressions] == [
        ("0", "The LEFT man!", 0),  # as it was written, not cleaned
        ("1", "man", 0),
        ("3", "right one", 1),
    ]
    assert [(r.ref_id, r.category) for r in sample.references] == [("100", "person"), ("102", "person")]
    assert np.array_equal(sample.mask(1), filled(2, 1, 6, 5) | filled(5, 3, 6, 6))
    assert np.array_equal(sample.mask(2), filled(12, 0, 3, 3))
    assert data.entries[0].references[0].extra == {"ann_ids": ("10",), "same_category": 2}
    assert data[0].references[0].same_category == 2


def test_overlapping_polygons_as_in_lavt(tmp_path):
    data = open_data(str(root(tmp_path)), "train", Reading(overlap="lavt"))
    assert np.array_equal(data[0].mask(0), filled(2, 1, 6, 5) ^ filled(5, 3, 6, 6))


def test_codes_and_lists_of_codes(tmp_path):
    path = root(tmp_path, name="refclef/refs(berkeley).p")
    assert np.array_equal(open_data(str(path), "testA")[0].mask(0), filled(1, 0, 2, 12))
    assert np.array_equal(open_data(str(path), "testB")[0].mask(0), filled(0, 0, 1, 12) | filled(15, 0, 1, 12))


def test_a_split_is_its_exact_name(tmp_path):
    path = root(tmp_path)
    assert splits_of(str(path)) == ["train", "val", "testA", "testB"] == list(open_splits(str(path)))
    with pytest.raises(ValueError, match="no split 'test'; accepted are train, val, testA, testB"):
        open_data(str(path), "test")


def test_several_targets_and_none(tmp_path):
    references = [
        ref(1, [10, 11], 1, "val", (0, "both")),
        ref(2, [-1], 1, "val", (1, "the elephant")),
        ref(3, [14, 15], 4, "val", (2, "child and hat")),
        ref(4, [11], 1, "val", (3, "right")),
        ref(5, -1, 1, "val", (4, "nobody")),
    ]
    path = root(tmp_path, references, name="grefcoco/grefs(unc).json")
    data = open_data(str(tmp_path / "grefcoco"), "val")
    assert data.name == "grefcoco" and len(data) == 2
    sample = data[0]
    both = filled(2, 1, 6, 5) | filled(5, 3, 6, 6) | filled(12, 0, 3, 3)
    expected = [both, filled(0, 0, 0, 0), filled(12, 0, 3, 3), filled(0, 0, 0, 0)]
    assert all(np.array_equal(sample.mask(i), mask) for i, mask in enumerate(expected))
    assert [r.category for r in sample.references] == ["person", None, "person", None]
    assert data[1].references[0].category is None  # of two kinds
    assert not data.entries[0].references[1].regions
    again = ref(6, [-1, 10], 1, "val", (0, "x"))
    with pytest.raises(ValueError, match=r"reference 6: ann_id \[-1, 10\]"):
        read_refer(root(tmp_path, [again], name="grefcoco/grefs(unc).json"))
    assert path.is_file()


def test_sent_where_raw_is_missing(tmp_path):
    references = refs()
    del references[0]["sentences"][0]["raw"]
    references[0]["sentences"][1]["raw"] = None
    entry = read_refer(root(tmp_path, references))["train"][0]
    assert [e.text for e in entry.expressions] == ["the left man!", "man", "right one"]


@pytest.mark.parametrize("place", ["images/mscoco/images/train2014", "images/saiapr_tc-12", "images/train2014", "x"])
def test_photos_are_found_where_they_are(tmp_path, place):
    path = root(tmp_path, photos=False)
    (tmp_path / place).mkdir(parents=True)
    photo = tmp_path / place / "COCO_train2014_000000000001.jpg"
    Image.new("RGB", SIZE[::-1]).save(photo)
    given = tmp_path / place if place == "x" else None
    assert open_data(str(path), "train", Reading(images=given)).entries[0].file == photo
    if given is not None:
        missing = open_data(str(path), "train").entries[0].file
        assert missing == tmp_path / "images/mscoco/images/train2014" / photo.name  # the documented place
        with pytest.raises(ValueError, match="no such folder"):
            open_data(str(path), "train", Reading(images=tmp_path / "none"))


def test_no_image_is_opened_to_read_the_index(tmp_path, monkeypatch):
    path = root(tmp_path)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    assert sum(len(entries) for entries in read_refer(path).values()) == 4


def test_python_2_wrote_the_file(tmp_path):
    """Byte strings, as `refs(unc).p` has them, in protocols 0 and 2."""
    text = (
        b"(lp0\n(dp1\nS'ref_id'\np2\nI7\nsS'ann_id'\nI14\nsS'image_id'\nI4\nsS'split'\nS'val'\nsS'sentences'\n"
        b"(lp3\n(dp4\nS'raw'\nS'a na\\xc3\\xafve \"child\"'\nsS'sent_id'\nL5L\nsas" + b"a."
    )
    binary = (
        b"\x80\x02]q\x00}q\x01(U\x06ref_idK\x07U\x06ann_idK\x0eU\x08image_idK\x04U\x05splitU\x03val"
        b'U\tsentences]q\x02}q\x03(U\x03rawU\x10a na\xc3\xafve "child"U\x07sent_idK\x05uaua.'
    )
    for content in (text, binary):
        path = root(tmp_path)
        path.write_bytes(content)
        (entry,) = read_refer(path)["val"]
        assert [(e.sent_id, e.text) for e in entry.expressions] == [("5", 'a naïve "child"')]


def test_a_pickle_that_wants_more_is_refused(tmp_path):
    path = root(tmp_path)
    path.write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p: a pickle that wants 'os\.system'"):
        open_data(str(path), "train")


def test_identifiers_that_occur_twice_are_kept_apart(tmp_path):
    references = [ref(1, 10, 1, "val", (0, "a"), (0, "b")), ref(1, 12, 2, "val", (0, "c"))]
    entries = read_refer(root(tmp_path, references))["val"]
    assert [r.ref_id for entry in entries for r in entry.references] == ["1", "1~2"]
    assert [e.sent_id for entry in entries for e in entry.expressions] == ["0", "0~2", "0~3"]


def changed(where, value):
    def change(references, annotations):
        target = {"refs": references, "instances": annotations}
        for step in where[:-1]:
            target = target[step]
        if value is KeyError:
            del target[where[-1]]
        else:
            target[where[-1]] = value

    return change


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("refs",), {}, r"refs\(unc\)\.p: \{\}; a list"),
        (("refs", 0), 5, "reference number 0: 5; an object"),
        (("refs", 1, "ref_id"), KeyError, "reference number 1: ref_id is missing"),
        (("refs", 1, "ref_id"), 1.5, "reference number 1: ref_id: 1.5"),
        (("refs", 1, "split"), None, "reference 101: split"),
        (("refs", 1, "split"), "x" * 5001, "reference 101: split: 'x.*a name of at most 5000 characters"),
        (("refs", 1, "ref_id"), "x" * 1001, "reference number 1: ref_id: 'x.*a string of at most 1000 characters"),
        (("refs", 1, "image_id"), 99, "reference 101: image 99 is not in .*instances.json"),
        (("refs", 1, "image_id"), True, "reference 101: image_id: True"),
        (("refs", 1, "ann_id"), 99, "reference 101: annotation 99 is not in"),
        (("refs", 1, "ann_id"), 10, "reference 101: annotation 10 is of image 1, not of 2"),
        (("refs", 1, "ann_id"), [], "reference 101: ann_id is empty"),
        (("refs", 1, "sentences"), "hat", "reference 101: sentences: 'hat'; a list"),
        (("refs", 1, "sentences", 0), "hat", "reference 101: sentence number 0: 'hat'; an object"),
        (("refs", 1, "sentences", 0, "raw"), 5, "sentence number 0: raw or sent: 5; a string"),
        (("refs", 1, "sentences", 0, "raw"), "\ud800", "sentence number 0: raw or sent: .*not valid Unicode"),
        (("refs", 1, "sentences", 0, "sent_id"), KeyError, "sentence number 0: sent_id is missing"),
        (("refs", 1, "sentences", 0, "position"), "x", "sentence number 0: position"),
        (("instances", "images"), KeyError, "instances.json: images is missing"),
        (("instances", "images", 0), [], "instances.json: image number 0"),
        (("instances", "images", 0, "height"), "12 px", "instances.json: image 1: width 16, height '12 px'"),
        (("instances", "images", 0, "id"), 2, "instances.json: image 2: there twice"),
        (("instances", "images", 0, "file_name"), "", "instances.json: image 1: file_name"),
        (("instances", "annotations"), 3, "instances.json: annotations: 3; a list"),
        (("instances", "annotations", 0, "id"), 11, "annotation 11: there twice"),
        (("instances", "annotations", 0, "image_id"), 77, "annotation 10: image 77 is not among the images"),
        (("instances", "annotations", 0, "category_id"), 77, "annotation 10: category 77 is not among"),
        (("instances", "annotations", 0, "segmentation"), [[1, 2, 3]], "annotation 10: polygon"),
        (("instances", "annotations", 0, "segmentation"), KeyError, "annotation 10: mask None"),
        (("instances", "categories", 0), 7, "instances.json: category number 0"),
    ],
)  # fmt: skip
def test_malformed_fields_are_named(tmp_path, where, value, message):
    content = {"refs": refs(), "instances": instances()}
    if where == ("refs",):
        content["refs"] = value
    else:
        changed(where, value)(content["refs"], content["instances"])
    with pytest.raises(ValueError, match=message):
        read_refer(root(tmp_path, content["refs"], content["instances"], photos=False))


def test_files_that_are_missing_or_no_json(tmp_path):
    path = root(tmp_path, photos=False)
    path.with_name("instances.json").write_text("{")
    with pytest.raises(ValueError, match=r"instances\.json: not JSON"):
        read_refer(path)
    path.with_name("instances.json").write_text("[" * 100000)
    with pytest.raises(ValueError, match="nested too deeply|not JSON"):
        read_refer(path)
    path.with_name("instances.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_refer(path)
    path.with_name("instances.json").unlink()
    with pytest.raises(ValueError, match=r"instances\.json: cannot be read"):
        read_refer(path)


def steps(value, path=()):
    """Every place in nested containers."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from steps(inner, (*path, key))


ODD = [None, True, -1, 0, 10**30, 1.5, float("nan"), "", "\0", "\ud800", "text", [], [[]], {}, [1], {"a": 1}, KeyError]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_changes_are_read_or_value_errors(tmp_path, data):
    content = {"refs": refs(), "instances": instances()}
    for _ in range(data.draw(st.integers(1, 2))):
        places = [place for place in steps(content) if len(place) > 1]
        where, value = data.draw(st.sampled_from(places)), data.draw(st.sampled_from(ODD))
        changed(where, copy.deepcopy(value))(content["refs"], content["instances"])
    json_refs = data.draw(st.booleans())
    name = "refcoco/refs(unc).json" if json_refs else "refcoco/refs(unc).p"
    try:
        splits = read_refer(root(tmp_path, content["refs"], content["instances"], name, photos=False))
    except ValueError:
        return
    for entries in splits.values():
        for entry in entries:
            for reference in entry.references:
                try:
                    rasterise(reference, entry.size or SIZE)
                except ValueError:
                    pass


def test_names_and_places(tmp_path):
    for name, (folder, stem) in NAMED.items():
        path = tmp_path / folder / f"{stem}.{'json' if name == 'grefcoco' else 'p'}"
        with pytest.raises(ValueError, match="is missing"):
            find_named(name, tmp_path)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert find_named(name, tmp_path) == path and data_name(path) == name
    assert data_name(tmp_path / "refcoco" / "refs(google).p") == "refcoco-google"


def test_expected_counts_add_up():
    """Against the totals that the data sets' authors and the papers print."""
    totals = {
        ("refcoco", "unc"): (50000, 142210, 19994),
        ("refcoco+", "unc"): (49856, 141564, 19992),
        ("refcocog", "umd"): (49822, 95010, 25799),
    }
    for which, total in totals.items():
        assert tuple(sum(counts) for counts in zip(*EXPECTED[which].values(), strict=True)) == total
    google = list(EXPECTED["refcocog", "google"].values())  # images are in both of its splits
    assert tuple(sum(counts) for counts in list(zip(*google, strict=True))[:2]) == (49822, 95010)
    assert sum(references for references, *_ in EXPECTED["refcoco", "google"].values()) == 50000
    assert set(EXPECTED) | set(PRINTED) >= {
        (folder, stem[5:-1]) for folder, stem in NAMED.values() if folder != "grefcoco"
    }


def test_malformed_rows_are_left_out_where_somebody_collects_them(tmp_path):
    references, annotations = refs(), instances()
    references[0]["sentences"].insert(1, {"raw": 5, "sent_id": 90})
    references[0]["sentences"][2]["kind"] = "attribute"
    references[1]["ann_id"] = 99
    references[3]["image_id"] = 1
    references += [7, ref(105, 10, 1, "train", (6, "the big man")) | {"split": ""}, ref(102, 11, 1, "train", (7, "x"))]
    annotations["annotations"][4]["segmentation"] = [[1, 2, 3]]
    annotations["annotations"].append({"id": 16})
    annotations["images"].append({"id": 5})
    annotations["categories"].append([])
    path = root(tmp_path, references, annotations, photos=False)
    problems = []
    splits = read_refer(path, problems=problems)
    named = [problem.replace(f"{path}: ", "").replace(f"{path.with_name('instances.json')}: ", "I ").split(";")[0]
             for problem in problems]  # fmt: skip
    assert [text.split(": ")[0] for text in named] == [
        "I category number 2", "I image 5", "I annotation 16", "reference 100", "reference 101", "reference 103",
        "I annotation 14", "reference number 5", "reference 105"]  # fmt: skip
    assert named[3] == "reference 100: sentence number 1: raw or sent: 5"
    ((entry,),) = splits.values()
    assert [(e.sent_id, e.text, e.reference) for e in entry.expressions] == [
        ("0", "The LEFT man!", 0), ("1", "man", 0), ("3", "right one", 1), ("7", "x", 2)]  # fmt: skip
    assert [r.ref_id for r in entry.references] == ["100", "102", "102~2"]
    with pytest.raises(ValueError, match="category number 2"):  # training and evaluation stop at the first
        read_refer(path)
    root(tmp_path, [7], annotations, photos=False)
    with pytest.raises(ValueError, match="holds no expressions"):
        read_refer(path, problems=[])


def shared_lists(sentences, count, name="sentences"):
    """A pickle of references that share one list: short, however much they hold together."""
    one = ref(1, 10, 1, "train") | {"sentences": [{"raw": "man", "sent_id": 0}]} | {name: sentences}
    return [one | {"ref_id": number} for number in range(count)]


def test_lists_that_references_share_are_not_expanded_without_end(tmp_path):
    sentences = [{"raw": "man", "sent": "man", "sent_id": n} for n in range(5000)]
    path = root(tmp_path, shared_lists(sentences, 3000), photos=False)
    assert path.stat().st_size < 500_000  # 15 million sentences
    for problems in (None, []):
        started = time.perf_counter()
        with pytest.raises(
            ValueError, match=r"refs\(unc\)\.p: its references use the same lists .* at most 2000000 ref"
        ):
            read_refer(path, problems=problems)
        assert time.perf_counter() - started < 5
    root(tmp_path, shared_lists([{"raw": "man " * 100_000, "sent_id": 0}] * 10, 100), photos=False)
    with pytest.raises(ValueError, match="with 268435456 characters"):
        read_refer(path)
    root(tmp_path, shared_lists([10] * 5000, 3000, "ann_id"), photos=False)
    with pytest.raises(ValueError, match="use the same lists"):
        read_refer(path)
    one = refs()[0]
    root(tmp_path, [one] * 700_000, photos=False)  # the same reference again and again
    with pytest.raises(ValueError, match="use the same lists"):
        read_refer(path)


def test_a_few_shared_lists_are_read_and_written_out_ones_have_no_bound(tmp_path, monkeypatch):
    path = root(tmp_path, shared_lists([{"raw": "man", "sent_id": 5}, {"raw": "he", "sent_id": 6}], 3), photos=False)
    (entry,) = read_refer(path)["train"]
    assert [(e.sent_id, e.reference) for e in entry.expressions] == [
        ("5", 0), ("6", 0), ("5~2", 1), ("6~2", 1), ("5~3", 2), ("6~3", 2)]  # fmt: skip
    monkeypatch.setattr(refer, "MOST_USES", 8)
    with pytest.raises(ValueError, match="at most 8 references"):
        read_refer(path)
    monkeypatch.setattr(refer, "MOST_USES", 9)
    assert len(read_refer(path)) == 1
    monkeypatch.setattr(refer, "MOST_USES", 1)
    json_path = root(tmp_path, name="refcoco/refs(unc).json", photos=False)  # JSON has no shared lists
    assert len(read_refer(json_path)) == 4


def test_an_outline_that_many_references_mean_is_kept_once(tmp_path):
    entries = read_refer(root(tmp_path, [ref(n, 10, 1, "val", (n, "x")) for n in range(5)], photos=False))["val"]
    assert len({id(region) for r in entries[0].references for region in r.regions}) == 1


@pytest.mark.skipif(not GENUINE.is_file(), reason="the genuine file pair is not there")
def test_the_genuine_files_are_read_as_they_are():
    assert splits_of(str(GENUINE.parent)) == ["train", "val", "test"]
    annotations = json.loads(GENUINE.with_name("instances.json").read_text())
    of = {a["id"]: a for a in annotations["annotations"]}
    size = {i["id"]: (i["height"], i["width"]) for i in annotations["images"]}
    file = {i["id"]: i["file_name"] for i in annotations["images"]}
    published = pickle.loads(GENUINE.read_bytes())  # our own copy, known to be plain
    seen = 0
    for split in ("train", "val", "test"):
        data = open_data(str(GENUINE), split)
        assert data.name == "refcocog-umd" and len(data) == 5
        expected = [r for r in published if r["split"] == split]
        assert len(expected) == sum(len(entry.references) for entry in data.entries) == 5
        found = {r.ref_id: (entry, n, r) for entry in data.entries for n, r in enumerate(entry.references)}
        for r in expected:
            entry, number, raw = found[str(r["ref_id"])]
            assert entry.image_id == str(r["image_id"]) and entry.file.name == file[r["image_id"]]
            assert entry.size == size[r["image_id"]]
            texts = [(e.sent_id, e.text) for e in entry.expressions if e.reference == number]
            assert texts == [(str(s["sent_id"]), s["raw"]) for s in r["sentences"]]
            seen += len(texts)
            polygons = of[r["ann_id"]]["segmentation"]
            assert [p.tolist() for region in raw.regions for p in region.polygons] == polygons
            mask = rasterise(raw, entry.size)
            # An independent area: COCO's own number, for which it counted the same pixels or took the outline's.
            assert abs(int(mask.sum()) - of[r["ann_id"]]["area"]) < 0.03 * of[r["ann_id"]]["area"] + 30
    assert seen == 28
