from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ball import OUTLINE, ball, own_data
from refseg.answers import Answer
from refseg.data.checks.identity import DataIdentity
from refseg.data.formats.rle import decode_rle, encode_rle
from refseg.data.questions import Question
from refseg.data.reading import Reading
from refseg.data.sets import open_data
from refseg.data.shapes import RefShapes
from refseg.data.transforms import InputConfig, logits_to_masks
from refseg.data.verify import without_bad
from refseg.predictor import Predictor
from refseg.protocols import CRIS, GRES, LAVT, LISA, ORIGINAL, PROTOCOLS, Protocol
from refseg.scoring.evaluation import evaluate
from refseg.scoring.predictions import PredictionFile, PredictionWriter, make_header, score_predictions
from refseg.scoring.saved_scores import SavedScores, decode_logits, encode_logits, rounding_of, score_saved
from tiny import tiny_model

PREDICTOR = Predictor(tiny_model(), "cpu")


class Short(RefShapes):
    def __len__(self):
        return 6


DATA = Short("refshapes", "val")
IDENTITY = DataIdentity("refshapes", "refshapes")
COUNT = sum(len(DATA[i].expressions) for i in range(6))


def write(path, protocol=ORIGINAL, **changes):
    header = make_header(PREDICTOR, "tiny", IDENTITY, "val", "true", None, protocol) | changes
    writer = PredictionWriter(path, header)
    scores, _ = evaluate(PREDICTOR, DATA, protocol=protocol, known=writer.known, keep=writer.keep, images_per_batch=2)
    writer.finish()
    return scores, writer


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_file_scores_as_the_model_did(tmp_path, name):
    path = tmp_path / "predictions.jsonl"
    scores, _ = write(path, PROTOCOLS[name])
    again, took = score_predictions(PredictionFile(path), DATA, PROTOCOLS[name])
    assert again.summary() == scores.summary() and again.published() == scores.published()
    assert took["expressions"] == COUNT and again.by_kind() == scores.by_kind()
    assert not list(tmp_path.glob(".*"))


def test_the_lines_are_as_promised(tmp_path):
    path = tmp_path / "predictions.jsonl"
    write(path)
    header, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"model", "protocol", "size", "threshold"} <= set(header)
    assert header["protocol"] == "original" and header["size"] == "original" and header["threshold"] == 0.5
    assert len(rows) == COUNT
    assert list(rows[0]) == ["image_id", "ref_id", "sent_id", "expression", "rle", "score"]
    sample = DATA[0]
    shown = PREDICTOR(sample.image, sample.expressions[0].text)
    assert rows[0]["image_id"] == sample.image_id and rows[0]["expression"] == sample.expressions[0].text
    assert (decode_rle(rows[0]["rle"]) != shown.mask).mean() < 1e-3
    assert rows[0]["score"] == pytest.approx(shown.score, abs=1e-3)


def test_another_projects_file_needs_little(tmp_path):
    path = tmp_path / "theirs.jsonl"
    rows: list[dict] = [{"model": "theirs", "protocol": "original", "size": "original", "threshold": 0.5}]
    for i in range(6):
        sample = DATA[i]
        rows += [
            {"sent_id": e.sent_id, "rle": encode_rle(sample.mask(n)), "more": [1]}
            for n, e in enumerate(sample.expressions)
        ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    for protocol in (ORIGINAL, LISA, GRES):
        scores, _ = score_predictions(PredictionFile(path), DATA, protocol)
        assert scores.summary()["mIoU"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("made", "scored", "message"),
    [
        (ORIGINAL, LAVT, "made with resolution 'original', not 'network'"),
        (LAVT, ORIGINAL, "made with resolution 'network', not 'original'"),
        (ORIGINAL, CRIS, "resized 'logits', not 'probabilities'.*threshold 0.5, not 0.35"),
        (ORIGINAL, Protocol("mine", threshold=0.36), "made with threshold 0.5, not 0.36 as the protocol 'mine'"),
        (ORIGINAL, Protocol("mine", comparison=">="), "made with comparison '>', not '>='"),
    ],
)
def test_a_file_made_in_another_way_is_refused(tmp_path, made, scored, message):
    path = tmp_path / "predictions.jsonl"
    write(path, made)
    with pytest.raises(ValueError, match=message) as refused:
        score_predictions(PredictionFile(path), DATA, scored)
    assert "\n" not in str(refused.value)


def changed(path, change):
    header, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in [header, *change(rows)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], "without a prediction for 2 expressions"),
        (lambda rows: [*rows, rows[0] | {"sent_id": "new"}], "predictions for unknown 1 expressions .new."),
        (lambda rows: [*rows, rows[0]], "again; once is accepted"),
        (lambda rows: [rows[0] | {"image_id": "x"}, *rows[1:]], "image_id 'x'; in the data it is"),
        (lambda rows: [rows[0] | {"ref_id": "x"}, *rows[1:]], "ref_id 'x'; in the data it is"),
        (lambda rows: [rows[0] | {"rle": encode_rle(np.zeros((3, 4), bool))}, *rows[1:]], "shape .3, 4."),
        (lambda rows: [{"sent_id": "a"}, *rows], "line 2: without sent_id or rle"),
        (lambda rows: [[1], *rows], r"line 2: \[1\]; an object"),
    ],
)
def test_a_file_about_other_data_is_refused(tmp_path, change, message):
    path = tmp_path / "predictions.jsonl"
    write(path)
    changed(path, change)
    with pytest.raises(ValueError, match=message):
        score_predictions(PredictionFile(path), DATA, ORIGINAL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: not JSON"),
        ('{"model": "x"}', "line 1: no size and no threshold"),
        ('{"size": [3], "threshold": 0.5}', "size .3. and fit 'squash'"),
    ],
)
def test_what_is_no_predictions_file_is_refused(tmp_path, content, message):
    path = tmp_path / "predictions.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        score_predictions(PredictionFile(path), DATA, ORIGINAL)
    with pytest.raises(ValueError, match="no such file"):
        PredictionFile(tmp_path / "none.jsonl")


def test_a_run_that_was_killed_goes_on_behind_its_last_whole_line(tmp_path, monkeypatch):
    whole, _ = write(tmp_path / "whole.jsonl")
    path = tmp_path / "predictions.jsonl"
    header = make_header(PREDICTOR, "tiny", IDENTITY, "val", "true", None, ORIGINAL)
    writer = PredictionWriter(path, header)

    def stop_at_the_third(question, answer):
        if question.index == 2:
            raise KeyboardInterrupt
        writer.keep(question, answer)

    with pytest.raises(KeyboardInterrupt):
        evaluate(PREDICTOR, DATA, keep=stop_at_the_third, images_per_batch=1)
    writer.close()
    assert not path.exists()
    with writer.beside.open("ab") as file:
        file.write(b'{"image_id": "cut off in the mid')
    asked = []
    answer = PREDICTOR.network.encode_image
    monkeypatch.setattr(PREDICTOR.network, "encode_image", lambda pixels: asked.append(len(pixels)) or answer(pixels))
    again, second = write(path)
    assert second.resumed == sum(len(DATA[i].expressions) for i in range(2)) and sum(asked) == 4
    assert again.summary() == pytest.approx(whole.summary(), abs=1e-3)
    assert score_predictions(PredictionFile(path), DATA, ORIGINAL)[0].summary() == again.summary()


def test_what_another_model_left_is_not_taken_over(tmp_path):
    path = tmp_path / "predictions.jsonl"
    (tmp_path / ".predictions.jsonl.part").write_text('{"model": "other"}\n{"sent_id": "x", "rle": {}}\n')
    _, writer = write(path)
    assert writer.resumed == 0 and PredictionFile(path).header["model"] == "tiny"


@pytest.mark.parametrize("largest", [0.5, 6.0, 75.0])
def test_saved_scores_are_as_near_as_stated(largest):
    exact = largest * (2 * torch.rand(4, 1, 16, 16, dtype=torch.float64) - 1)
    exact[0, 0, 0, 0] = largest
    codes, limits = encode_logits(exact.float())
    assert codes.dtype == np.int8 and abs(codes.astype(int)).max() == 127
    found = decode_logits(codes, limits).double()
    half = torch.from_numpy(limits).double()[:, None, None, None] / 254
    bound = exact.abs() * (half.cosh() - 1) + (exact**2 + 1).sqrt() * half.sinh()
    assert ((found - exact).abs() <= bound * (1 + 1e-3) + 1e-6).all()
    assert ((found - exact).abs() > 0.5 * bound).any()  # so that the bound is not an empty one
    assert (found.sigmoid() - exact.sigmoid()).abs().max() <= 0.3 * rounding_of(limits)
    config = InputConfig((20, 24), (0.0,) * 3, (1.0,) * 3, 20)
    for protocol in (ORIGINAL, LAVT):
        size = (33, 41) if protocol is ORIGINAL else config.size
        resize = torch.nn.functional.interpolate
        corners = protocol is LAVT
        level, near = (resize(x, size, mode="bilinear", align_corners=corners)[:, 0] for x in (exact, bound))
        one, two = (logits_to_masks(x, (33, 41), config, protocol)[0] for x in (exact, found))
        assert (level.abs()[one != two] <= near[one != two] + 1e-4).all()


def test_nothing_at_all_is_saved_too():
    assert not decode_logits(*encode_logits(torch.zeros(2, 1, 3, 3))).any()


def test_every_protocol_is_scored_from_saved_scores(tmp_path):
    header = {"limit": None, "words": "true", "input": {"size": [64, 64], "resize": "squash"}}
    saved = SavedScores(tmp_path / "scores", header)
    evaluate(PREDICTOR, DATA, keep=saved.keep)
    assert len(list((tmp_path / "scores").glob("*.npz"))) == 6
    for protocol in PROTOCOLS.values():
        direct, _ = evaluate(PREDICTOR, DATA, protocol=protocol)
        scores, took = score_saved(SavedScores(tmp_path / "scores"), DATA, protocol)
        assert scores.summary()["mIoU"] == pytest.approx(direct.summary()["mIoU"], abs=0.01)
        assert scores.summary()["oIoU"] == pytest.approx(direct.summary()["oIoU"], abs=0.01)
        assert 0 < took["rounding"] < 0.03
    file = next((tmp_path / "scores").glob("*.npz"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged"):
        score_saved(SavedScores(tmp_path / "scores"), DATA, ORIGINAL)
    file.unlink()
    with pytest.raises(ValueError, match="nothing saved for the image"):
        score_saved(SavedScores(tmp_path / "scores"), DATA, ORIGINAL)
    with pytest.raises(ValueError, match="no saved scores"):
        SavedScores(tmp_path)


def test_saved_scores_of_another_run_are_not_mixed_in(tmp_path):
    header = {"model": "a", "input": {"size": [64, 64], "resize": "squash"}}
    question = Question(0, DATA[0], [0], ["x"])
    answer = Answer(np.zeros((1, 4, 4), bool), [0.0], torch.zeros(1, 1, 4, 4))
    SavedScores(tmp_path, header).keep(question, answer)
    assert SavedScores(tmp_path, header).has(question)
    assert not SavedScores(tmp_path).has(Question(0, DATA[0], [0, 0], ["x", "y"]))
    with pytest.raises(ValueError, match="holds the scores of another evaluation"):
        SavedScores(tmp_path, header | {"model": "b"})
    assert SavedScores(tmp_path, header).has(question)  # nothing was lost


@pytest.mark.parametrize("size", ["[1e400, 64]", '["x", 64]', "[-3, 64]", "[64]", "[64, 64, 64]", "null", "[1.5, 2]"])
def test_saved_scores_of_an_impossible_size_are_refused(tmp_path, size):
    (tmp_path / "header.json").write_text(f'{{"input": {{"size": {size}, "resize": "squash"}}}}')
    with pytest.raises(ValueError, match=f"{tmp_path}: no saved scores"):
        SavedScores(tmp_path)


def test_answers_to_what_was_left_out_are_passed_over(tmp_path):
    path = own_data(tmp_path, [OUTLINE], sent_id="good")
    with path.open("a") as file:
        row = {"image": "a.png", "expression": "a point", "mask": [[1, 1]], "sent_id": "bad"}
        file.write(json.dumps(row) + "\n")
    rows = [{"model": "theirs", "size": "original", "threshold": 0.5}]
    rows += [{"sent_id": name, "rle": encode_rle(ball())} for name in ("good", "bad")]
    answers = tmp_path / "theirs.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = without_bad(open_data(str(path), "all", Reading(skip_bad=True)))
    scores, _ = score_predictions(PredictionFile(answers), data, ORIGINAL)
    assert scores.summary()["mIoU"] > 0.8 and len(scores.pairs) == 1
    with pytest.raises(ValueError, match="given but empty"):
        score_predictions(PredictionFile(answers), open_data(str(path), "all"), ORIGINAL)
    other = open_data(str(own_data(tmp_path / "other", [OUTLINE], sent_id="good")), "all")
    with pytest.raises(ValueError, match="with predictions for unknown 1 expressions"):
        score_predictions(PredictionFile(answers), other, ORIGINAL)
