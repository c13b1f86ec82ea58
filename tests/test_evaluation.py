from __future__ import annotations

import numpy as np
import pytest
import torch

from refseg.data.shapes import RefShapes
from refseg.evaluation import ask, evaluate, evaluate_baselines
from refseg.predictor import Predictor
from tiny import tiny_model


class Oracle:
    """A predictor that looks up the right mask of whatever it is asked; used to check the loop, not a model."""

    def __init__(self, data):
        self.known = {}
        for i in range(len(data)):
            sample = data[i]
            for n, expression in enumerate(sample.expressions):
                self.known[sample.image.tobytes(), expression.text] = sample.mask(n)
        self.batches = []

    def answer(self, images, expressions):
        self.batches.append(len(images))
        empty = [np.zeros(image.shape[:2], bool) for image in images]
        return None, [
            torch.from_numpy(np.stack([self.known.get((image.tobytes(), t), none) for t in texts])).float() - 0.5
            for image, texts, none in zip(images, expressions, empty, strict=True)
        ]


class Short(RefShapes):
    def __len__(self):
        return 30


DATA = Short("refshapes", "val")


def test_right_masks_score_one_and_everything_is_asked_once():
    oracle = Oracle(DATA)
    scores, took = evaluate(oracle, DATA, images_per_batch=16)
    assert scores.summary()["mIoU"] == scores.summary()["oIoU"] == scores.summary()["P@0.9"] == 1.0
    assert took["images"] == 30 and took["expressions"] == sum(len(DATA[i].expressions) for i in range(30))
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
        assert sum(len(numbers) for _, numbers, _ in ask(DATA, limit)) == limit
        for guesser in evaluate_baselines(DATA, limit).values():
            assert len(guesser.pairs) == limit


def test_swapped_words_belong_to_another_target_of_the_same_image():
    seen = 0
    for sample, numbers, texts in ask(DATA, words="swapped"):
        of = {expression.text: expression.reference for expression in sample.expressions}
        for number, text in zip(numbers, texts, strict=True):
            assert of[text] != sample.expressions[number].reference
            seen += 1
    assert seen > 10
    scores, _ = evaluate(Oracle(DATA), DATA, words="swapped")
    assert scores.summary()["mIoU"] < 0.1


def test_shuffled_words_come_from_another_image():
    for index, (sample, numbers, texts) in enumerate(ask(DATA, words="shuffled")):
        other = [expression.text for expression in DATA[(index + 15) % 30].expressions]
        assert numbers == list(range(len(sample.expressions))) and set(texts) <= set(other)
    scores, _ = evaluate(Oracle(DATA), DATA, words="shuffled")
    assert scores.summary()["mIoU"] < 0.2


def test_batches_do_not_change_the_score():
    predictor = Predictor(tiny_model(), "cpu")
    one, _ = evaluate(predictor, DATA, 20, images_per_batch=1)
    many, _ = evaluate(predictor, DATA, 20, images_per_batch=8)
    assert one.summary() == pytest.approx(many.summary(), abs=1e-3)
