from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig as HFBertConfig
from transformers import BertForMaskedLM

from refseg.encoders.bert import Bert, BertConfig
from refseg.encoders.tokenizer import Tokenizer, small_wordpiece
from refseg.weights import load_bert, load_tokenizer

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "bert-base-uncased"
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
