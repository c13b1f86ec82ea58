from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
from transformers import BertConfig as HFBertConfig
from transformers import BertForMaskedLM

from refseg.encoders.bert import Bert, BertConfig
from refseg.encoders.tokenizer import Tokenizer, small_wordpiece
from refseg.presets.base import shapes_clip_tokenizer, shapes_tokenizer
from refseg.weights.pretrained import load_bert, load_tokenizer

TOKENIZERS = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
PUBLISHED, PUBLISHED_CLIP = TOKENIZERS / "bert-base-uncased", TOKENIZERS / "clip"
SMALL = BertConfig(60, 16, 2, 2, 32, 24, 0.0, trained_layers=1, train_embeddings=False)


def test_loads_what_transformers_saved_and_equals_it(tmp_path):
    config = HFBertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    published = BertForMaskedLM(config).eval()
    published.save_pretrained(tmp_path)
    ours = Bert(SMALL).eval()
    load_bert(ours.model, tmp_path)
    tokens, mask = torch.randint(0, 60, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    expected = published.bert(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(ours(tokens, mask).words, expected)


def test_only_the_asked_layers_learn():
    trained = {name.split(".")[3] for name, p in Bert(SMALL).named_parameters() if p.requires_grad}
    assert trained == {"0"}


def test_small_tokenizer_knows_words_and_spells_the_rest():
    tokenizer = small_wordpiece(["red", "circle"])
    tokens = tokenizer(["The RED circle", "red"], max_tokens=20)
    assert tokens.ids.shape == tokens.mask.shape
    assert tokens.mask.sum(1).tolist() == [7, 3]  # [CLS] t ##h ##e red circle [SEP]; [CLS] red [SEP]
    assert tokens.ids[0, 4] == tokens.ids[1, 1]
    assert not tokens.cut


def test_long_sentences_are_cut_without_their_end_token():
    tokens = small_wordpiece(["red"])(["red " * 30, "red"], max_tokens=8)
    assert tokens.cut == (0,)
    assert tokens.ids.shape == (2, 8)
    assert tokens.ids[0, -1] == tokens.ids[0, 1]


def test_unicode_is_read_without_error():
    tokens = small_wordpiece(["red"])(["die rote Fläche 红色 🙂"], max_tokens=30)
    assert int(tokens.mask.sum()) > 2


def test_saved_tokenizer_is_the_same(tmp_path):
    tokenizer = small_wordpiece(["red", "circle"])
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert torch.equal(again(["a red circle"], 20).ids, tokenizer(["a red circle"], 20).ids)


def test_padding_and_cutting_stored_in_a_file_are_not_used(tmp_path):
    from tokenizers import Tokenizer as Stored

    small_wordpiece(["red"]).save(tmp_path / "tokenizer.json")
    stored = Stored.from_file(str(tmp_path / "tokenizer.json"))
    stored.enable_padding(length=12)
    stored.enable_truncation(4)
    stored.save(str(tmp_path / "tokenizer.json"))
    tokens = Tokenizer.from_file(tmp_path / "tokenizer.json")(["red", "red " * 9], max_tokens=8)
    assert tokens.mask.sum(1).tolist() == [3, 8] and tokens.cut == (1,)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published vocabulary is not in the repository")
def test_published_vocabulary_gives_the_published_ids():
    tokenizer = load_tokenizer(PUBLISHED)
    assert tokenizer.size == 30522
    ids = tokenizer(["the man in black on the left"], 20).ids[0].tolist()
    assert ids == [101, 1996, 2158, 1999, 2304, 2006, 1996, 2187, 102]


START, END = "<|startoftext|>", "<|endoftext|>"


@pytest.fixture
def byte_pairs(tmp_path):
    """A folder with CLIP's two files over a few pieces, and what turns pieces into ids."""
    signs = string.ascii_lowercase + "12'!Ã©"
    pieces = [*signs, *(f"{c}</w>" for c in signs), "th", "the</w>", "re", "red</w>", START, END]
    ids = {piece: i for i, piece in enumerate(pieces)}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\nr e\nre d</w>\n")
    return tmp_path, lambda *given: [ids[piece] for piece in (START, *given, END)]


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [
        ("the red", ["the</w>", "red</w>"]),
        ("  The\u00a0 RED\tox\n", ["the</w>", "red</w>", "o", "x</w>"]),
        ("thered", ["th", "e", "red</w>"]),
        ("ox's red!!", ["o", "x</w>", "'", "s</w>", "red</w>", "!", "!</w>"]),
        ("12 red1the", ["1</w>", "2</w>", "red</w>", "1</w>", "the</w>"]),
        ("RE\u0301", ["r", "Ã", "©</w>"]),  # composed, these are the bytes C3 A9 of one letter
        ("", []),
    ],
)
def test_byte_pairs_by_hand(byte_pairs, sentence, pieces):
    folder, ids = byte_pairs
    tokens = load_tokenizer(folder)([sentence], max_tokens=20)
    assert tokens.ids.tolist() == [ids(*pieces)] and bool(tokens.mask.all()) and tokens.cut == ()


def test_clip_keeps_its_end_token_and_pads_behind_it(byte_pairs):
    folder, ids = byte_pairs
    tokens = load_tokenizer(folder)(["the red the red the", "red", "the red red"], max_tokens=5)
    assert tokens.cut == (0,)
    assert tokens.ids[0].tolist() == ids("the</w>", "red</w>", "the</w>")
    assert tokens.ids[2].tolist() == ids("the</w>", "red</w>", "red</w>")
    assert tokens.ids[1, :3].tolist() == ids("red</w>") and tokens.mask[1].tolist() == [True] * 3 + [False] * 2


def test_saved_byte_pairs_are_the_same(byte_pairs):
    folder, _ = byte_pairs
    tokenizer, sentences = load_tokenizer(folder), ["The red ox's red!!", "1 " * 9, "Übermut", f"the {END} red"]
    (folder / "saved").mkdir()
    tokenizer.save(folder / "saved" / "tokenizer.json")
    again = load_tokenizer(folder / "saved")
    assert again.size == tokenizer.size == 70
    ours, theirs = again(sentences, 8), tokenizer(sentences, 8)
    assert torch.equal(ours.ids, theirs.ids) and torch.equal(ours.mask, theirs.mask) and ours.cut == theirs.cut


def test_byte_pairs_without_their_merges_or_their_ends_are_refused(byte_pairs):
    folder, _ = byte_pairs
    (folder / "merges.txt").rename(folder / "elsewhere.txt")
    with pytest.raises(ValueError, match="merges.txt is missing"):
        load_tokenizer(folder)
    (folder / "elsewhere.txt").rename(folder / "merges.txt")
    stored = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({k: v for k, v in stored.items() if k != START}))
    with pytest.raises(ValueError, match=r"vocab.json: not a tokenizer .*startoftext"):
        load_tokenizer(folder)


def test_a_clip_tokenizer_that_adds_no_ends_is_refused(byte_pairs):
    folder, _ = byte_pairs
    load_tokenizer(folder).save(folder / "tokenizer.json")
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="does not put"):
        load_tokenizer(folder)


def test_small_word_pieces_in_clips_manner_differ_in_their_ends_alone():
    bert, clip = shapes_tokenizer(), shapes_clip_tokenizer()
    assert bert.size == clip.size
    sentences = ["the striped square", "a Zebra"]
    assert torch.equal(bert(sentences, 20).ids, clip(sentences, 20).ids)
    assert clip(sentences, 4).ids[:, -1].tolist() == [3, 3] and clip(sentences, 4).cut == (0, 1)
    assert bert(sentences, 4).ids[0, -1] not in (0, 3)


@pytest.mark.skipif(not PUBLISHED_CLIP.is_dir(), reason="the published vocabulary is not in the repository")
def test_published_byte_pairs_give_the_published_ids():
    tokenizer = load_tokenizer(PUBLISHED_CLIP)
    assert tokenizer.size == 49408
    tokens = tokenizer(["the man in black on the left", "The man"], 20)
    assert tokens.ids[0].tolist() == [49406, 518, 786, 530, 1449, 525, 518, 1823, 49407]
    assert tokens.ids[1, :4].tolist() == [49406, 518, 786, 49407] and int(tokens.mask[1].sum()) == 4
    assert tokenizer(["the man in black on the left"], 5).ids.tolist() == [[49406, 518, 786, 530, 49407]]


@pytest.mark.skipif(not PUBLISHED_CLIP.is_dir(), reason="the published vocabulary is not in the repository")
def test_published_byte_pairs_equal_those_of_transformers():
    from transformers import CLIPTokenizer

    theirs, ours = CLIPTokenizer.from_pretrained(PUBLISHED_CLIP), load_tokenizer(PUBLISHED_CLIP)
    odd = [
        "naïve café 红色 🙂",
        "don't they'VE 1234 ½",
        "...'s ''s “q”",
        "  a\u00a0b\u2003c  ",
        "x" * 90,
        "e\u0301",
        "",
    ]
    for sentence in odd:
        assert ours([sentence], 200).ids[0].tolist() == theirs(sentence)["input_ids"], sentence


def test_a_tokenizer_that_makes_nothing_of_a_sentence_is_refused(tmp_path):
    small_wordpiece(["red"]).save(tmp_path / "tokenizer.json")
    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    bare = stored | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match="'': the tokenizer makes no token of it"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")(["red", ""], 8)
    nothing = bare | {"normalizer": {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(nothing))
    with pytest.raises(ValueError, match=r"tokenizer.json: not a tokenizer .*no token of a sentence"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("clip", [False, True])
def test_pieces_say_which_characters_they_stand_for(clip):
    tokenizer = small_wordpiece(["red", "circle"], clip)
    sentence = "Réd  circles 红"
    pieces = tokenizer.pieces(sentence)
    assert [piece.special for piece in pieces] == [True] + [False] * (len(pieces) - 2) + [True]
    assert [sentence[piece.start : piece.end] for piece in pieces[1:-1]] == ["Réd", "circle", "s", "红"]
    cut = tokenizer.pieces(sentence, 4)
    tokens = tokenizer([sentence], 4)
    assert [tokenizer.vocabulary[piece.text] for piece in cut] == tokens.ids[0].tolist()
    assert cut[-1].special == clip and cut[:3] == pieces[:3] and tokenizer.pieces(sentence, 50) == pieces
