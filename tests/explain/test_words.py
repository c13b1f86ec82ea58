from __future__ import annotations

import numpy as np
import pytest

from refseg.encoders.tokenizer import small_wordpiece
from refseg.explain.words import MOST, groups_of, without_each, words_of

KNOWN = ("red", "circle", "left", "the")


def read(expression, most=50, clip=False):
    tokenizer = small_wordpiece(KNOWN, clip)
    kept = tokenizer.pieces(expression, most)
    return words_of(expression, tokenizer.pieces(expression), kept), kept


def test_pieces_are_merged_into_the_words_they_belong_to():
    words, kept = read("the  un-red, Circles 树树")
    assert [word.text for word in words] == ["the", "un-red,", "Circles", "树树"]
    assert [[kept[i].text for i in word.tokens] for word in words] == [
        ["the"], ["u", "##n", "-", "red", ","], ["circle", "##s"], ["[UNK]", "[UNK]"],
    ]  # fmt: skip
    assert {word.read for word in words} == {"whole"}
    groups = groups_of(words, kept)
    assert groups.names == ("the", "un-red,", "Circles", "树树", "[CLS] [SEP]")
    assert groups.members.shape == (5, 12) and (groups.members.sum(0) == 1).all()
    shares = np.random.default_rng(0).dirichlet(np.ones(12), 6).T.reshape(12, 2, 3)
    padded = np.concatenate([shares, np.zeros((3, 2, 3))])
    summed = groups.summed(padded)
    np.testing.assert_allclose(summed.sum(0), 1)
    np.testing.assert_allclose(summed[1], sum(shares[i] for i in (2, 3, 4, 5, 6)))
    np.testing.assert_allclose(summed[4], shares[0] + shares[11])


def test_clips_ends_have_short_names():
    words, kept = read("the red circle", clip=True)
    assert groups_of(words, kept).names == ("the", "red", "circle", "[start] [end]")


@pytest.mark.parametrize(("clip", "last"), [(False, "[CLS]"), (True, "[start] [end]")])
def test_words_behind_the_longest_sentence_are_not_read(clip, last):
    words, kept = read("the red zz left circle", 5, clip)  # [CLS] the red z ##z, and CLIP's end for the last
    assert [word.read for word in words] == ["whole", "whole", "part" if clip else "whole", "no", "no"]
    assert groups_of(words, kept).names == ("the", "red", "zz", last)
    assert without_each(words) == ["red zz", "the zz", "the red", None, None]


def test_each_word_is_left_out_once():
    words, _ = read(" the  red, circle ")
    assert without_each(words) == ["red, circle", "the circle", "the red,"]


def test_nothing_remains_of_one_word():
    words, _ = read("circle")
    assert without_each(words) == [None]
    words, _ = read("red \u200b")  # the second is nothing to see, and no token
    assert [word.read for word in words] == ["whole", "no"] and without_each(words) == [None, None]


def test_a_model_whose_tokens_are_not_known_reads_all_and_not_endlessly():
    words = words_of("a red circle", None, None)
    assert [(word.text, word.read, word.tokens) for word in words] == [
        ("a", "whole", ()), ("red", "whole", ()), ("circle", "whole", ()),
    ]  # fmt: skip
    assert without_each(words) == ["red circle", "a circle", "a red"]
    assert len(words_of("a " * MOST, None, None)) == MOST
    with pytest.raises(ValueError, match=f"201 words.*at most {MOST}"):
        words_of("a " * 201, None, None)
