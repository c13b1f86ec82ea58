from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.data.formats.export import export_jsonl
from refseg.data.questions import ask
from refseg.data.sets import open_data
from refseg.data.shapes import RefShapes
from refseg.predictor import Predictor
from refseg.protocols import CRIS, GRES, LAVT, ORIGINAL
from refseg.scoring.bootstrap import intervals, resampled, sums_by_image
from refseg.scoring.breakdown import OUTCOMES, alike_of, breakdowns, length_of, outcome_of, outcomes, share_of
from refseg.scoring.cases import choose
from refseg.scoring.guessers import evaluate_baselines
from refseg.scoring.metrics import Scored, Scores
from refseg.scoring.report import Origin, make_report, read_report
from refseg.scoring.report_page import make_page
from refseg.scoring.runs import evaluation_report, predictions_report
from refseg.types import Expression, Reference, Sample
from tiny import tiny_model
from webpage import Reader

EVIL = "<script>alert('x')</script> & \"q\""


class Evil:
    """Two photos whose texts are not to be trusted; no guessers, one of the expressions without a target."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        mask = np.zeros((40, 60), bool)
        mask[5:20, 5:30] = True
        references = (Reference(f"r{index}", mask, "dog"), Reference(f"n{index}", np.zeros((40, 60), bool)))
        expressions = (Expression(f"{index}-0", EVIL, 0, EVIL), Expression(f"{index}-1", "nothing", 1))
        image = np.random.default_rng(index).integers(0, 255, (40, 60, 3), np.uint8)
        return Sample(f"{EVIL} {index}", image, references, expressions)


class Short(RefShapes):
    def __len__(self):
        return 8


class Two(RefShapes):
    def __len__(self):
        return 2


DATA = Short("refshapes", "val")
ORIGIN = Origin("tiny", "refshapes", "val", "true", None, "model", {"loss": ["dice"]}, "refseg eval tiny", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    report = evaluation_report(Predictor(tiny_model(), "cpu"), DATA, ORIGIN, ORIGINAL, out, save_scores=True)
    return out, report


def random_scores(count=90, images=30, seed=0, protocol=ORIGINAL):
    random = np.random.default_rng(seed)
    counts = random.integers(1, 60, (count, 3))
    return Scores(
        [
            Scored(f"s{i}", f"i{i % images:03d}", int(min(row)), int(row[1]), int(row[2]), index=i)
            for i, row in enumerate(counts)
        ],
        protocol,
    )


def test_intervals_equal_a_plain_loop_over_resamples():
    scores = random_scores()
    random = np.random.default_rng(7)
    images = sorted({pair.image_id for pair in scores.pairs})
    drawn = random.integers(0, len(images), (40, len(images)))
    expected = []
    for row in drawn:
        pairs = [pair for i in row for pair in scores.pairs if pair.image_id == images[i]]
        inter, union = sum(p.intersection for p in pairs), sum(p.predicted + p.target - p.intersection for p in pairs)
        ious = [p.intersection / (p.predicted + p.target - p.intersection) for p in pairs]
        expected.append((inter / union, np.mean(ious), np.mean(np.array(ious) >= 0.5)))
    names = ("oIoU", "mIoU", "P@0.5")
    np.testing.assert_allclose(resampled(sums_by_image(scores, names), 7, 40), expected, rtol=1e-12)
    found = intervals(scores, names, 7, 40)
    np.testing.assert_allclose(
        [found[name] for name in names], np.percentile(expected, [2.5, 97.5], axis=0).T, rtol=1e-12
    )


def test_intervals_depend_on_the_seed_alone_and_cover_the_number():
    scores = random_scores()
    shuffled = Scores(scores.pairs[::-1])
    found = intervals(scores, ["mIoU", "oIoU"])
    assert found == intervals(shuffled, ["mIoU", "oIoU"]) != intervals(scores, ["mIoU", "oIoU"], seed=1)
    summary = scores.summary()
    for name, (low, high) in found.items():
        assert low < summary[name] < high
    ious = [pair.intersection / pair.union for pair in scores.pairs]
    by_image = np.array(ious).reshape(3, 30).mean(0)
    width = 2 * 1.96 * by_image.std() / np.sqrt(30)  # of the mean of 30 images, by the textbook
    assert found["mIoU"][1] - found["mIoU"][0] == pytest.approx(width, rel=0.1)


def test_an_interval_of_what_never_occurs_is_left_out():
    scores = Scores([Scored("a", "i", 0, 0, 0), Scored("b", "j", 0, 5, 0)], GRES)
    assert set(intervals(scores, ["gIoU", "T_acc", "N_acc"], resamples=50)) == {"gIoU", "N_acc"}


def test_groups_by_hand():
    words = {1: "1 to 2 words", 2: "1 to 2 words", 3: "3 to 7 words", 7: "3 to 7 words", 8: "8 to 12 words"}
    words |= {12: "8 to 12 words", 13: "13 or more words", 40: "13 or more words"}
    for count, label in words.items():
        assert length_of(Scored("s", "i", 0, 0, 1, words=count)) == label
    shares = {0: "no target", 9: "0% to 1% of the image", 10: "1% to 5% of the image", 50: "5% to 20% of the image"}
    shares |= {200: "20% of the image or more", 1000: "20% of the image or more"}
    for pixels, label in shares.items():
        assert share_of(Scored("s", "i", 0, 0, pixels, pixels=1000)) == label
    for alike, label in {None: None, 1: "1", 3: "3", 4: "4 or more", 9: "4 or more"}.items():
        assert alike_of(Scored("s", "i", 0, 0, 1, same_category=alike)) == label


def test_outcomes_by_hand():
    cases = {  # intersection, predicted, target, rival
        "right": (10, 10, 20, 0.9),
        "poor mask": (8, 10, 20, 0.1),
        "wrong object": (2, 10, 20, 0.5),
        "elsewhere": (0, 10, 20, 0.0),
        "nothing found": (0, 0, 20, 0.0),
        "rightly nothing": (0, 0, 0, 0.0),
        "should be nothing": (0, 5, 0, 0.7),
    }
    assert list(cases) == list(OUTCOMES)
    pairs = []
    for name, (*counts, rival) in cases.items():
        pairs.append(Scored(name, "i", *counts, rival=rival))
        assert outcome_of(pairs[-1], ORIGINAL) == name
    assert outcomes(Scores(pairs)) == dict.fromkeys(OUTCOMES, 1)
    assert outcome_of(Scored("s", "i", 0, 10, 20, rival=None), ORIGINAL) == "elsewhere"
    assert outcome_of(pairs[0], CRIS) == "poor mask" or outcome_of(pairs[0], CRIS) == "wrong object"


def test_breakdowns_add_up_and_keep_their_order(folder):
    _, report = folder
    assert list(breakdowns(Scores([Scored(str(n), "i", 0, 1, 1, words=n) for n in (20, 2, 9)]))["by_length"]) == [
        "1 to 2 words",
        "8 to 12 words",
        "13 or more words",
    ]
    for group in ("by_kind", "by_length", "by_size", "by_same_category"):
        assert sum(part["expressions"] for part in report[group].values()) == report["expressions"]
    assert sum(report["outcomes"].values()) == report["expressions"]


def test_best_median_and_worst():
    scores = random_scores()
    ious = np.array([pair.intersection / pair.union for pair in scores.pairs])
    found = choose(scores, seed=0, count=4)
    for name in ("best", "median", "worst"):
        assert len({pair.image_id for pair in found[name]}) == len(found[name]) == 4
    value = {name: [pair.intersection / pair.union for pair in pairs] for name, pairs in found.items()}
    assert value["best"][0] == ious.max() and value["worst"][0] == ious.min()
    assert np.abs(np.array(value["median"]) - np.median(ious)).max() < 0.05
    assert choose(Scores(scores.pairs[::-1]), seed=0, count=4) == found


def test_a_folder_holds_predictions_report_and_page(folder):
    out, report = folder
    assert sorted(p.name for p in out.iterdir()) == ["predictions.jsonl", "report.html", "report.json", "scores"]
    assert {"oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9", "protocol_line", "date", "seed", "version",
            "command", "training", "rate", "intervals", "baselines", "outcomes"} <= set(report)  # fmt: skip
    stored, scores = read_report(out)
    assert {name: stored[name] for name in report} == json.loads(json.dumps(report))
    assert scores.summary() == {name: report[name] for name in scores.summary()}
    for path in (out / "predictions.jsonl", out / "scores"):
        again = predictions_report(path, DATA, ORIGIN, ORIGINAL, out / f"again-{path.stem}")
        assert again["mIoU"] == pytest.approx(report["mIoU"], abs=0.01) and again["model"] == "tiny"
        assert (out / f"again-{path.stem}" / "report.html").is_file()
        assert ("rounding" in again) == (path.stem == "scores")
    assert predictions_report(out / "scores", DATA, ORIGIN, LAVT)["protocol"] == "lavt"


def test_the_page_is_one_file_without_scripts_and_escapes_every_text(tmp_path):
    origin = Origin(EVIL, EVIL, EVIL, "true", None, "model", {EVIL: EVIL}, EVIL, 0)
    report = evaluation_report(Predictor(tiny_model(), "cpu"), Evil(), origin, ORIGINAL, tmp_path)
    assert not report["baselines"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert not reader.open and "script" not in reader.tags and "<script" not in text
    assert "http" not in re.sub(r"http-equiv", "", text) and "url(" not in text and "@import" not in text
    assert reader.addresses == reader.pictures and all(a.startswith("data:image/jpeg;base64,") for a in reader.pictures)
    said = "".join(reader.text)
    assert said.count(EVIL) >= 6 + len(reader.pictures) // 2  # title, heading, kind, training, command; every case
    assert report["protocol_line"] in said and "8-bit" not in said
    for word in ("oIoU", "mIoU", "P@0.9", "95 % interval", "Best", "Worst", "median", "should be nothing"):
        assert word in said
    for address in reader.pictures:
        with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as picture:
            assert picture.size == (60, 40)


def intervals_by_hand(pairs, seed=0, resamples=2000):
    """Of mean IoU, by a plain loop over resamples of images."""
    by_image = {}
    for pair in pairs:
        by_image.setdefault(pair.image_id, []).append(pair.intersection / pair.union)
    images, random = sorted(by_image), np.random.default_rng(seed)
    found = []
    for first in range(0, resamples, 100):
        drawn = random.integers(0, len(images), (min(100, resamples - first), len(images)))
        found += [np.mean([x for i in row for x in by_image[images[i]]]) for row in drawn]
    return np.percentile(found, [2.5, 97.5])


def test_groups_of_images_enough_have_an_interval():
    pairs = [replace(pair, kind="few" if int(pair.image_id[1:]) < 9 else "many") for pair in random_scores().pairs]
    took = {"images": 30, "expressions": 90, "seconds": 1.0, "rate": 90.0}
    report = make_report(Scores(pairs), took, ORIGIN, {})
    assert set(report["by_kind"]) == {"few", "many"} and "intervals" not in report["by_kind"]["few"]
    expected = intervals_by_hand([pair for pair in pairs if pair.kind == "many"])
    assert report["by_kind"]["many"]["intervals"] == {"mIoU": pytest.approx(expected)}
    page = make_page(report, {})
    low, high = (f"{100 * x:.1f}" for x in expected)
    assert f"interval {low} to {high}" in page and "Groups of few images have no interval." in page


def test_the_page_opens_with_the_scores_and_a_picture(folder):
    out, report = folder
    page = (out / "report.html").read_text(encoding="utf-8")
    line = report["protocol_line"].split("'")[0]
    expected = (
        f"<b>{100 * report['mIoU']:.2f} %</b>", "<img", "The protocol behind them", line, "Guessers without",
        "By length of", "By size of", "By number of", "By kind of", "Wrong object or", "<h2>Best", "<h2>Worst",
        "Where these numbers come from", "Before comparing",
    )  # fmt: skip
    order = [page.index(part) for part in expected]
    assert order == sorted(order)
    charts = re.findall(r'aria-label="([^,"]+),', page)
    assert charts == ["All scores", "mIoU of the model and of guessers", "mIoU by length of the expression",
                      "mIoU by size of the target", "mIoU by number of objects of the target&#x27;s category",
                      "mIoU by kind of expression", "What became of the expressions"]  # fmt: skip
    assert "prefers-color-scheme: dark" in page and "@media print" in page and "width=device-width" in page


def test_a_protocol_with_numbers_of_its_own_opens_with_these():
    scores = random_scores(protocol=GRES)
    took = {"images": 30, "expressions": 90, "seconds": 1.0, "rate": 90.0}
    page = make_page(make_report(scores, took, replace(ORIGIN, words="swapped"), {}), {})
    assert page.index("gIoU<b>") < page.index("cIoU<b>") < page.index("The protocol") and "low numbers are good" in page


def test_pictures_under_a_protocol_at_network_size(tmp_path):
    evaluation_report(Predictor(tiny_model(), "cpu"), DATA, ORIGIN, LAVT, tmp_path)
    address = re.search(r"base64,([^\"]+)", (tmp_path / "report.html").read_text())
    with Image.open(io.BytesIO(base64.b64decode(address[1]))) as picture:
        assert picture.size == (64, 64)


def test_a_stopped_evaluation_with_saved_scores_goes_on(tmp_path, folder):
    out, report = folder
    predictor = Predictor(tiny_model(), "cpu")
    done = (out / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / ".predictions.jsonl.part").write_bytes(b"".join(done[:9]) + b'{"half')
    (tmp_path / "scores").mkdir()
    for file in (out / "scores").iterdir():
        (tmp_path / "scores" / file.name).write_bytes(file.read_bytes())
    again = evaluation_report(predictor, DATA, ORIGIN, ORIGINAL, tmp_path, save_scores=True)
    assert again["mIoU"] == pytest.approx(report["mIoU"], abs=1e-3)
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == len(done)


def test_another_evaluation_is_not_overwritten(tmp_path):
    predictor = Predictor(tiny_model(), "cpu")
    evaluation_report(predictor, DATA, ORIGIN, ORIGINAL, tmp_path)
    before = (tmp_path / "predictions.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds predictions of 'tiny' that differ in protocol, .*a new folder"):
        evaluation_report(predictor, DATA, ORIGIN, CRIS, tmp_path)
    with pytest.raises(ValueError, match="differ in model"):
        evaluation_report(predictor, DATA, replace(ORIGIN, model="other"), ORIGINAL, tmp_path)
    assert (tmp_path / "predictions.jsonl").read_bytes() == before
    evaluation_report(predictor, DATA, ORIGIN, ORIGINAL, tmp_path)  # the same once more


def test_predictions_are_scored_on_the_data_that_they_are_about(tmp_path, folder, monkeypatch):
    out, report = folder
    assert report["data"] == report["data_name"] == "refshapes" and report["data_file"] is None
    for path in (out / "predictions.jsonl", out / "scores"):
        with pytest.raises(
            ValueError, match="--data 'refshapes.': the predictions were made on 'refshapes'; that data"
        ):
            predictions_report(path, Short("refshapes+", "val"), replace(ORIGIN, data="refshapes+"), ORIGINAL)
        with pytest.raises(ValueError, match="--split 'testA': the predictions were made on 'val'"):
            predictions_report(path, DATA, replace(ORIGIN, split="testA"), ORIGINAL)
    foreign = tmp_path / "theirs.jsonl"
    header, *rows = (out / "predictions.jsonl").read_text().splitlines()
    kept = {name: value for name, value in json.loads(header).items() if name in ("size", "threshold")}
    foreign.write_text("\n".join([json.dumps(kept), *rows]))
    found = predictions_report(foreign, DATA, ORIGIN, ORIGINAL)
    assert found["mIoU"] == report["mIoU"] and found["model"] == "unknown"
    foreign.write_text("\n".join([json.dumps(kept | {"data": 3}), *rows]))
    with pytest.raises(ValueError, match="data 3: the name or the path"):
        predictions_report(foreign, DATA, ORIGIN, ORIGINAL)


def test_predictions_name_their_data_by_any_path(tmp_path, monkeypatch):
    path = export_jsonl(Two("refshapes", "val"), tmp_path / "exported")
    predictor = Predictor(tiny_model(), "cpu")
    monkeypatch.chdir(tmp_path)
    origin = replace(ORIGIN, data="exported")
    made = evaluation_report(predictor, open_data("exported", "val"), origin, ORIGINAL, tmp_path / "out")
    assert made["data"] == "exported" and made["data_file"] == str(path.resolve())
    monkeypatch.chdir(tmp_path / "out")
    for spelled in (str(path), "../exported"):
        origin = replace(ORIGIN, data=spelled)
        found = predictions_report(Path("predictions.jsonl"), open_data(spelled, "val"), origin, ORIGINAL)
        assert found["mIoU"] == made["mIoU"] and found["data"] == spelled
    export_jsonl(Two("refshapes", "testA"), tmp_path / "else")
    (tmp_path / "else" / "data.jsonl").write_text(
        (tmp_path / "else" / "data.jsonl").read_text().replace("testA", "val")
    )
    with pytest.raises(ValueError, match="--data '../else': the predictions were made on 'exported' .*data.jsonl"):
        predictions_report(
            Path("predictions.jsonl"), open_data("../else", "val"), replace(ORIGIN, data="../else"), ORIGINAL
        )


@pytest.mark.parametrize("words", ["shuffled", "swapped"])
def test_pictures_show_the_words_that_were_asked(tmp_path, words):
    origin = replace(ORIGIN, words=words)
    evaluation_report(Predictor(tiny_model(), "cpu"), DATA, origin, ORIGINAL, tmp_path, save_scores=True)
    asked = {(q.sample.image_id, text) for q in ask(DATA, words=words) for text in q.texts}
    for path in (tmp_path / "predictions.jsonl", tmp_path / "scores"):
        out = tmp_path / f"again-{path.stem}"
        predictions_report(path, DATA, ORIGIN, ORIGINAL, out)
        page = (out / "report.html").read_text(encoding="utf-8")
        shown = re.findall(r"<q>(.*?)</q>.*?; image (\S+?)</figcaption>", page)
        assert len(shown) >= 3 and {(image, unescape(text)) for text, image in shown} <= asked


def test_a_large_predictions_file_is_not_read_to_see_whose_it_is(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps({"size": "original", "threshold": 0.5, "model": "other"}) + "\nnot JSON at all\n")
    with pytest.raises(ValueError, match="holds predictions of 'other' that differ in"):
        evaluation_report(Predictor(tiny_model(), "cpu"), DATA, ORIGIN, ORIGINAL, tmp_path)


def test_memory_is_bounded_by_arguments(monkeypatch):
    predictor = Predictor(tiny_model(), "cpu")
    sizes = []
    plain = predictor.network_logits

    def watched(images, texts, at_once):
        sizes.append((len(images), at_once))
        return plain(images, texts, at_once=at_once)

    monkeypatch.setattr(predictor, "network_logits", watched)
    evaluation_report(predictor, DATA, ORIGIN, ORIGINAL, images_per_batch=3, at_once=2)
    assert sizes == [(3, 2), (3, 2), (2, 2)]
    sizes.clear()
    evaluation_report(predictor, DATA, ORIGIN, ORIGINAL)
    assert sizes == [(8, 64)]


@pytest.mark.parametrize("save_scores", [False, True])
def test_an_evaluation_with_a_limit_can_grow(save_scores, tmp_path, monkeypatch):
    predictor, data = Predictor(tiny_model(), "cpu"), RefShapes("refshapes", "val")
    asked = []
    answer = predictor.network_logits
    monkeypatch.setattr(predictor, "network_logits", lambda i, t, **how: asked.append(len(i)) or answer(i, t, **how))

    def run(out, limit):
        origin = Origin("tiny", "refshapes", "val", "true", limit, "model", {}, "", 0)
        return evaluation_report(predictor, data, origin, ORIGINAL, out, save_scores, images_per_batch=2)

    run(tmp_path / "grown", 20)
    small = sum(asked)
    grown = run(tmp_path / "grown", 40)
    assert sum(asked) - small < 2 * small  # what was answered is not asked again, but for the last batch
    whole = run(tmp_path / "whole", 40)
    for name in ("expressions", "images", "limit"):
        assert grown[name] == whole[name]
    assert grown["mIoU"] == pytest.approx(whole["mIoU"], abs=1e-6)
    for name in ("grown", "whole"):
        lines = (tmp_path / name / "predictions.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["limit"] == 40 and len(lines) == 41
        assert len({json.loads(line)["sent_id"] for line in lines[1:]}) == 40
    with pytest.raises(ValueError, match="differ in limit"):
        run(tmp_path / "grown", 20)


class Counted(RefShapes):
    """The first scenes of val, which counts how often each is read."""

    def __init__(self) -> None:
        super().__init__("refshapes", "val")
        self.reads: list[int] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize(("limit", "protocol"), [(None, ORIGINAL), (7, LAVT)])
def test_guessers_go_along_and_score_what_they_score_alone(limit, protocol):
    data, predictor = Counted(), Predictor(tiny_model(), "cpu")
    report = evaluation_report(predictor, data, replace(ORIGIN, limit=limit), protocol)
    read = 5 if limit is None else len({q.index for q in ask(Counted(), limit)})
    assert data.reads == list(range(read))
    alone = evaluate_baselines(Counted(), limit, protocol, predictor.model.input)
    for name, scores in alone.items():
        assert report["baselines"][name]["mIoU"] == scores.summary()["mIoU"]
        assert report["baselines"][name]["expressions"] == len(scores.pairs) == report["expressions"]
