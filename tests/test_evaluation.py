from __future__ import annotations

import numpy as np
import pytest
import torch

from refseg.data.shapes import RefShapes
from refseg.data.transforms import InputConfig, logits_to_image
from refseg.evaluation import Question, ask, evaluate, evaluate_baselines, judge
from refseg.predictor import Predictor
from refseg.protocols import LAVT, ORIGINAL
from refseg.types import Expression, Reference, Sample
from tiny import tiny_model


class Oracle:
    """Looks up the right mask of whatever it is asked; used to check the loop, not a model."""

    def __init__(self, data):
        self.model = type("Model", (), {"input": InputConfig((32, 32), (0.0,) * 3, (1.0,) * 3, 20)})
        self.known = {}
        for i in range(len(data)):
            sample = data[i]
            for n, expression in enumerate(sample.expressions):
                self.known[sample.image.tobytes(), expression.text] = sample.mask(n)
        self.batches = []

    def network_logits(self, images, expressions):
        self.batches.append(len(images))
        empty = [np.zeros(image.shape[:2], bool) for image in images]
        return {}, [
            torch.from_numpy(np.stack([self.known.get((image.tobytes(), t), none) for t in texts])).float()[:, None]
            - 0.5
            for image, texts, none in zip(images, expressions, empty, strict=True)
        ]


@pytest.fixture
def oracle():
    return Oracle(DATA)


class Short(RefShapes):
    def __len__(self):
        return 30


DATA = Short("refshapes", "val")


def test_right_masks_score_one_and_everything_is_asked_once(oracle):
    scores, took = evaluate(oracle, DATA, images_per_batch=16)
    assert scores.summary()["mIoU"] == scores.summary()["oIoU"] == scores.summary()["P@0.9"] == 1.0
    assert took["images"] == 30 and took["expressions"] == sum(len(DATA[i].expressions) for i in range(30))
    assert took["rate"] == pytest.approx(took["expressions"] / took["seconds"])
    assert oracle.batches == [16, 14]
    assert set(scores.by_kind()) <= {
        "attribute",
        "location",
        "ordinal",
        "superlative",
        "relation",
        "two-hop",
        "negation",
    }


def test_limit_counts_expressions():
    for limit in (1, 7, 20):
        assert sum(len(asked.numbers) for asked in ask(DATA, limit)) == limit
        for guesser in evaluate_baselines(DATA, limit).values():
            assert len(guesser.pairs) == limit


def test_swapped_words_belong_to_another_target_of_the_same_image(oracle):
    seen = 0
    for asked in ask(DATA, words="swapped"):
        of = {expression.text: expression.reference for expression in asked.sample.expressions}
        for number, text in zip(asked.numbers, asked.texts, strict=True):
            assert of[text] != asked.sample.expressions[number].reference
            seen += 1
    assert seen > 10
    scores, _ = evaluate(oracle, DATA, words="swapped")
    assert scores.summary()["mIoU"] < 0.1


def test_shuffled_words_come_from_another_image(oracle):
    for index, asked in enumerate(ask(DATA, words="shuffled")):
        other = [expression.text for expression in DATA[(index + 15) % 30].expressions]
        assert asked.index == index and set(asked.texts) <= set(other)
        assert asked.numbers == list(range(len(asked.sample.expressions)))
    scores, _ = evaluate(oracle, DATA, words="shuffled")
    assert scores.summary()["mIoU"] < 0.2


def test_batches_do_not_change_the_score():
    predictor = Predictor(tiny_model(), "cpu")
    one, _ = evaluate(predictor, DATA, 20, images_per_batch=1)
    many, _ = evaluate(predictor, DATA, 20, images_per_batch=8)
    assert one.summary() == pytest.approx(many.summary(), abs=1e-3)


def test_every_image_is_read_once_and_encoded_once(monkeypatch):
    read, encoded = [], []
    predictor = Predictor(tiny_model(), "cpu")
    encode = predictor.network.encode_image

    class Counted(Short):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr(predictor.network, "encode_image", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    evaluate(predictor, Counted("refshapes", "val"), 20, images_per_batch=3)
    assert read == list(range(len(read))) and sum(encoded) == len(read) and max(encoded) == 3


def test_the_networks_logits_are_what_a_user_sees():
    predictor = Predictor(tiny_model(), "cpu")
    samples = [DATA[0], DATA[3]]
    images = [sample.image for sample in samples]
    texts = [[expression.text for expression in sample.expressions] for sample in samples]
    _, found = predictor.network_logits(images, texts)
    _, shown = predictor.answer(images, texts)
    for image, raw, expected in zip(images, found, shown, strict=True):
        torch.testing.assert_close(logits_to_image(raw, image.shape[:2], predictor.model.input), expected)


def test_memory_does_not_grow_with_the_split():
    """What is kept of an expression is a small record, no mask and no picture."""
    scores, _ = evaluate(Predictor(tiny_model(), "cpu"), DATA, 20)
    for pair in scores.pairs:
        assert all(isinstance(value, int | float | str | None) for value in vars(pair).values())


def three_objects():
    """An image of 10 x 10 with three references of 20, 10 and 10 pixels; the first two are of one category."""
    masks = [np.zeros((10, 10), bool) for _ in range(3)]
    masks[0][:2], masks[1][4], masks[2][6] = True, True, True
    references = tuple(Reference(f"r{i}", m, ("dog", "dog", "cat")[i], (5, 5, None)[i]) for i, m in enumerate(masks))
    expressions = tuple(Expression(f"s{i}", "the big dog"[: 4 + 4 * i], i, "kind") for i in range(3))
    return Sample("image", np.zeros((10, 10, 3), np.uint8), references, expressions), masks


def test_judged_by_hand():
    sample, masks = three_objects()
    question = Question(5, sample, [0, 2], ["a", "b"])
    half = masks[0].copy()
    half[1] = False
    found = judge(question, [half | masks[1], masks[1]], None, ORIGINAL)
    assert [(p.sent_id, p.intersection, p.predicted, p.target) for p in found] == [
        ("s0", 10, 20, 20),
        ("s2", 0, 10, 10),
    ]
    assert [p.rival for p in found] == [0.5, 1.0] and [p.same_category for p in found] == [5, None]
    assert [(p.index, p.number, p.pixels, p.words, p.kind) for p in found] == [
        (5, 0, 100, 1, "kind"),
        (5, 2, 100, 3, "kind"),
    ]
    with pytest.raises(ValueError, match="'s0': prediction of shape"):
        judge(question, [np.zeros((3, 3), bool)] * 2, None, ORIGINAL)
    config = InputConfig((5, 5), (0.0,) * 3, (1.0,) * 3, 20)
    (pair,) = judge(Question(0, sample, [0], ["a"]), [np.ones((5, 5), bool)], config, LAVT)
    assert (pair.intersection, pair.predicted, pair.target, pair.pixels) == (5, 25, 5, 25)


def test_a_protocol_decides_size_and_score():
    predictor = Predictor(tiny_model(), "cpu")
    seen = []
    scores, _ = evaluate(predictor, DATA, 6, protocol=LAVT, keep=lambda _, answer: seen.append(answer.masks.shape[1:]))
    assert set(seen) == {(64, 64)} and {pair.pixels for pair in scores.pairs} == {64 * 64}
    guessed = evaluate_baselines(DATA, 6, LAVT, predictor.model.input)
    assert all(0 <= some.summary()["mIoU"] <= 1 for some in guessed.values())
