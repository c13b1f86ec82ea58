from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.answers import About, answer_of
from refseg.data.formats.entries import Entry
from refseg.data.index import IndexedSamples
from refseg.data.questions import Question, ask, asked_of, batches
from refseg.data.shapes import RefShapes
from refseg.data.transforms import InputConfig, logits_to_image, logits_to_masks
from refseg.predictor import Predictor
from refseg.protocols import LAVT, ORIGINAL
from refseg.scoring.evaluation import evaluate, judge, words_of
from refseg.scoring.guessers import evaluate_baselines
from refseg.scoring.metrics import Scores
from refseg.types import Expression, Reference, Sample
from tiny import tiny_model


class Oracle:
    """Looks up the right mask of whatever it is asked; used to check the loop, not a model."""

    def __init__(self, data):
        self.about = About("oracle", "", "", {}, InputConfig((32, 32), (0.0,) * 3, (1.0,) * 3, 20), None)
        self.known = {}
        for i in range(len(data)):
            sample = data[i]
            for n, expression in enumerate(sample.expressions):
                self.known[sample.image.tobytes(), expression.text] = sample.mask(n)
        self.batches = []

    def check_protocol(self, protocol):
        pass

    def answers(self, images, expressions, protocol, at_once):
        self.batches.append(len(images))
        for image, texts in zip(images, expressions, strict=True):
            none = np.zeros(image.shape[:2], bool)
            masks = np.stack([self.known.get((image.tobytes(), text), none) for text in texts])
            logits = torch.from_numpy(masks).float()[:, None] - 0.5
            yield answer_of(logits, image.shape[:2], self.about.input, protocol)


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


PREDICTOR = Predictor(tiny_model(), "cpu")
WORDS = ("true", "shuffled", "swapped")


def record(scores):
    """Everything that is kept, the floats by their bits."""
    return {pair.sent_id: tuple(map(repr, vars(pair).values())) for pair in scores.pairs}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("limit", [None, 19])
def test_the_parts_of_a_split_merge_to_the_bits_of_one_pass(words, limit):
    answers: dict[int, dict[str, bytes]] = {}

    def keep(parts):
        return lambda question, answer: answers.setdefault(parts, {}).update(
            {question.sample.image_id: answer.logits.numpy().tobytes() + repr(answer.scores).encode()}
        )

    data = Longer("refshapes", "val")
    whole, took = evaluate(PREDICTOR, data, limit, words, 2, keep=keep(1))
    for parts in (2, 3):
        found = [evaluate(PREDICTOR, data, limit, words, 2, shard=(i, parts), keep=keep(parts)) for i in range(parts)]
        merged = reduce(Scores.merge, (scores for scores, _ in found))
        assert record(merged) == record(whole) and merged.summary() == whole.summary()
        assert answers[parts] == answers[1]
        assert sum(len(scores.pairs) for scores, _ in found) == len(whole.pairs)  # no expression is asked twice
        assert sum(numbers["images"] for _, numbers in found) == took["images"]
        assert limit or all(scores.pairs for scores, _ in found)


class Longer(RefShapes):
    def __len__(self):
        return 18


class Some:
    """Images with few expressions or none, about one target or two."""

    def __init__(self, counts, quick):
        self.read = []
        empty = np.zeros((2, 2), bool)
        self.samples = [
            Sample(f"i{i}", np.zeros((2, 2, 3), np.uint8), (Reference("a", empty), Reference("b", empty)),
                   tuple(Expression(f"{i}-{k}", f"{i} {k}", target) for k, target in enumerate(targets)))
            for i, targets in enumerate(counts)
        ]  # fmt: skip
        if quick:
            self.expressions = lambda index: self.samples[index].expressions

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.append(index)
        return self.samples[index]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(st.integers(0, 1), max_size=4), min_size=2, max_size=12),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from(WORDS),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_batch_holds_the_same_questions_whoever_asks(counts, limit, words, size, parts, quick):
    def said(some):
        return [[(q.index, q.numbers, q.texts) for q in batch] for batch in some]

    data = Some(counts, quick)
    whole = said(batches(data, limit, words, size))
    assert [q.index for q in ask(data, limit, words)] == [index for batch in whole for index, *_ in batch]
    found = []
    for part in range(parts):
        data.read.clear()
        mine = said(batches(data, limit, words, size, (part, parts)))
        found += mine
        for batch in mine:
            assert {index // size % parts for index, *_ in batch} == {part}
        if quick:  # then nothing is read but what is asked about
            assert data.read == [index for batch in mine for index, *_ in batch]
        elif limit is None and words != "shuffled":
            assert data.read == [i for i in range(len(counts)) if i // size % parts == part]
    assert sorted(found) == sorted(whole)
    assert limit is None or sum(len(numbers) for batch in whole for _, numbers, _ in batch) <= limit


def test_a_part_that_is_none_is_refused():
    for shard in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="a number from 0"):
            evaluate(PREDICTOR, DATA, shard=shard)
    with pytest.raises(ValueError, match="0 images per batch: 1 or more"):
        evaluate(PREDICTOR, DATA, images_per_batch=0)
    with pytest.raises(ValueError, match="0 expressions at once: 1 or more"):
        evaluate(PREDICTOR, DATA, at_once=0)
    with pytest.raises(ValueError, match="a split of 1 image: two or more"):
        list(ask(Some([[0]], True), words="shuffled"))


def test_expressions_can_be_had_without_pixels(tmp_path):
    for index in (0, 7, 3):
        assert DATA.expressions(index) == DATA[index].expressions
    with pytest.raises(IndexError, match="no scene 30"):
        DATA.expressions(30)
    texts = (Expression("s", "a dog", 0),)
    indexed = IndexedSamples("x", "val", [Entry("i", tmp_path / "missing.jpg", None, (), texts)], tmp_path)
    assert indexed.expressions(0) is texts
    with pytest.raises(IndexError, match="no image 1"):
        indexed.expressions(1)


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not():
    """A batch that was written in part is answered whole: in other company a number can differ in its last bit."""
    answers = {}
    whole, _ = evaluate(PREDICTOR, DATA, 12, images_per_batch=4, keep=lambda q, a: answers.update({q.index: a}))
    seen, sizes = [], []

    class Watched(Predictor):
        def network_logits(self, images, *others, **named):
            sizes.append(len(images))
            return super().network_logits(images, *others, **named)

    def known(question):
        return list(answers[question.index].masks) if question.index == 1 else None

    again, _ = evaluate(
        Watched(PREDICTOR.model), DATA, 12, images_per_batch=4, known=known, keep=lambda q, a: seen.append((q.index, a))
    )
    assert record(again) == record(whole) and sizes[0] == 4 and 1 not in [index for index, _ in seen]
    assert all(torch.equal(answer.logits, answers[index].logits) for index, answer in seen)


def test_large_images_are_answered_expression_by_expression(monkeypatch):
    config = InputConfig((32, 32), (0.0,) * 3, (1.0,) * 3, 20)
    logits = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = answer_of(logits, (40, 50), config, ORIGINAL)
    sizes = []
    plain = logits_to_masks
    monkeypatch.setattr("refseg.answers.FLOATS", 40 * 50 * 2)
    monkeypatch.setattr(
        "refseg.data.transforms.logits_to_masks", lambda x, *rest: sizes.append(len(x)) or plain(x, *rest)
    )
    parts = answer_of(logits, (40, 50), config, ORIGINAL)
    assert sizes == [2, 2, 2, 1]
    assert np.array_equal(parts.masks, whole.masks) and parts.scores == pytest.approx(whole.scores)
    sizes.clear()
    answer_of(logits, (400, 500), config, LAVT)  # compared at 32 x 32
    answer_of(logits, (400, 500), config, ORIGINAL)
    assert sizes == [3, 3, 1, *[1] * 7]


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


def test_freed_memory_goes_back_now_and_then(monkeypatch):
    given_back = []
    monkeypatch.setattr("refseg.scoring.evaluation.TRIM_EVERY", 8)
    monkeypatch.setattr("refseg.scoring.evaluation.give_memory_back", lambda: given_back.append(len(seen)))
    seen = []
    evaluate(PREDICTOR, Longer("refshapes", "val"), images_per_batch=4, keep=lambda question, _: seen.append(question))
    assert given_back == [8, 16]


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
    odd = np.zeros((10, 10), bool)
    odd[5] = odd[7] = True  # rows 1, 3, 5, 7 and 9 of 10 are the rows of 5
    (pair,) = judge(
        Question(0, sample, [0], ["a"], lambda: [Reference("o", odd)]), [np.ones((5, 5), bool)], config, LAVT
    )
    assert (pair.intersection, pair.predicted, pair.target, pair.pixels) == (5, 25, 5, 25)
    assert pair.rival == 10 / 25


def block(top, left, height, width):
    mask = np.zeros((10, 10), bool)
    mask[top : top + height, left : left + width] = True
    return mask


TARGET = block(0, 0, 4, 4)


@pytest.mark.parametrize(
    ("what", "category", "mask", "rival"),
    [
        ("another man", "man", block(6, 6, 3, 3), 1.0),
        ("another man who overlaps", "man", block(3, 0, 5, 4), 1.0),
        ("a dog", "dog", block(6, 6, 3, 3), 1.0),
        ("nobody knows what", None, block(6, 6, 3, 3), 1.0),
        ("the man annotated twice", "man", block(0, 0, 4, 5), None),
        ("the man under another category", "woman", block(0, 0, 4, 5), None),
        ("a group with the man in it", "man", block(0, 0, 4, 10), None),
        ("a group of whatever", None, block(0, 0, 4, 10), None),
        ("a part of the man", "man", block(0, 0, 1, 2), None),
        ("the man's tie", "tie", block(0, 0, 2, 2), 1.0),
        ("the bench under the man", "bench", block(0, 0, 4, 10), 1.0),
        ("an object without pixels", "dog", block(0, 0, 0, 0), None),
    ],
)
def test_which_other_objects_a_mask_can_mean(what, category, mask, rival):
    sample = Sample(
        "i", np.zeros((10, 10, 3), np.uint8), (Reference("r", TARGET, "man"),), (Expression("s", "the man", 0),)
    )
    question = Question(0, sample, [0], ["the man"], lambda: [Reference("o", mask, category)])
    said = mask if mask.any() and what != "the man annotated twice" else block(0, 0, 1, 1)
    if "annotated" in what or "under another" in what:
        said = block(0, 3, 4, 2)  # shares more with the second annotation than with the target
    (pair,) = judge(question, [said], None, ORIGINAL)
    assert pair.rival == rival
    as_reference = replace(sample, references=(*sample.references, Reference("o", mask, category)))
    (pair,) = judge(replace(question, sample=as_reference, others=tuple), [said], None, ORIGINAL)
    assert pair.rival == rival


def test_other_objects_are_drawn_only_for_what_was_missed():
    sample = Sample(
        "i", np.zeros((10, 10, 3), np.uint8), (Reference("r", TARGET), Reference("n", block(0, 0, 0, 0))),
        (Expression("s", "it", 0), Expression("t", "nothing", 1)),
    )  # fmt: skip
    drawn = []

    def others():
        for i in range(2):
            drawn.append(i)
            yield Reference(f"{i}", block(5, 5 * i, 5, 5))

    def asked(numbers, masks):
        drawn.clear()
        return [
            pair.rival
            for pair in judge(Question(0, sample, numbers, ["x"] * len(numbers), others), masks, None, ORIGINAL)
        ]

    assert asked([0], [TARGET]) == [None] and not drawn  # found
    assert asked([0], [block(0, 0, 0, 0)]) == [None] and not drawn  # nothing was said
    assert asked([1], [TARGET]) == [None] and not drawn  # there is nothing to find
    assert asked([0, 0, 1], [block(5, 0, 5, 5), block(5, 4, 5, 5), TARGET]) == [1.0, 20 / 30, None]
    assert drawn == [0, 1]  # once for all


def test_words_are_counted_without_punctuation_unless_the_data_count_them():
    counted = {
        "the man": 2, "Man, on the left.": 4, "red , blue": 2, "off-white t-shirt!": 4, "the man's hat": 3,
        "a  bird": 2, "": 0, "Fl\u00e4che \U0001f642": 1, "snake_case": 2, "3rd": 1, "- / .": 0,
    }  # fmt: skip
    for text, count in counted.items():
        assert words_of(Expression("s", text, 0)) == count
    assert words_of(Expression("s", "the man , left", 0, words=4)) == 4
    assert Expression("s", "x", 0, words=4) == Expression("s", "x", 0)


def test_rivals_of_a_model_are_all_objects_of_its_scenes():
    """What it finds instead is looked for among all things that were drawn, by a plain loop."""
    said = {}
    scores, _ = evaluate(PREDICTOR, DATA, 12, keep=lambda q, a: said.update({q.index: a.masks}))
    missed = 0
    for pair in scores.pairs:
        sample, mask = DATA[pair.index], said[pair.index][pair.number]
        target = sample.mask(pair.number)
        things = [*(r.mask for r in sample.references), *(o.mask for o in DATA.others(pair.index, target.shape))]
        ious = [(t & mask).sum() / (t | mask).sum() for t in things if not np.array_equal(t, target)]
        if pair.predicted and pair.intersection / pair.union < 0.5:
            assert pair.rival == pytest.approx(max(ious))
            missed += 1
    assert missed > 3


def test_the_words_that_were_asked_can_be_had_again():
    for words in WORDS:
        for question in ask(DATA, 20, words):
            found = asked_of(DATA, question.index, words)
            assert list(found.items())[: len(question.numbers)] == list(
                zip(question.numbers, question.texts, strict=True)
            )


def test_a_protocol_decides_size_and_score():
    predictor = Predictor(tiny_model(), "cpu")
    seen = []
    scores, _ = evaluate(predictor, DATA, 6, protocol=LAVT, keep=lambda _, answer: seen.append(answer.masks.shape[1:]))
    assert set(seen) == {(64, 64)} and {pair.pixels for pair in scores.pairs} == {64 * 64}
    guessed = evaluate_baselines(DATA, 6, LAVT, predictor.model.input)
    assert all(0 <= some.summary()["mIoU"] <= 1 for some in guessed.values())
