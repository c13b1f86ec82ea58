"""Sentences to token ids, for BERT's word pieces."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Encoded sentences.

    Attributes:
        ids: (T, L) int64, padded to the longest.
        mask: (T, L) bool, True on real tokens.
        cut: Which of the T sentences were longer than the model reads and lost their end.
    """

    ids: Tensor
    mask: Tensor
    cut: tuple[int, ...]


class Tokenizer:
    """A published or packaged tokenizer; sentences start with [CLS] and end with [SEP] unless they are cut."""

    def __init__(self, inner: HFTokenizer) -> None:
        inner.no_padding()  # a file may have stored both; padding and cutting are done here
        inner.no_truncation()
        pad = inner.token_to_id("[PAD]")
        if pad is None:
            raise ValueError("the tokenizer has no [PAD] token; a BERT tokenizer is accepted")
        self._inner, self._pad = inner, pad

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.json`, or BERT's `vocab.txt`.

        Raises:
            ValueError: The file is neither.
        """
        try:
            if path.suffix == ".txt":
                return bert_wordpiece(path.read_text(encoding="utf-8").splitlines())
            return cls(HFTokenizer.from_file(str(path)))
        except Exception as error:  # the library raises a bare Exception
            raise ValueError(f"{path}: not a tokenizer ({error}); a tokenizer.json or vocab.txt is accepted") from error

    def save(self, path: Path) -> None:
        """Writes `tokenizer.json`."""
        self._inner.save(str(path))

    @property
    def size(self) -> int:
        """Number of entries in the vocabulary."""
        return int(self._inner.get_vocab_size())

    def __call__(self, sentences: Sequence[str], max_tokens: int) -> Tokens:
        """Encodes T sentences; what exceeds `max_tokens` is cut off at the end, [SEP] included (LAVT)."""
        encoded = [encoding.ids for encoding in self._inner.encode_batch(list(sentences))]
        length = min(max_tokens, max(len(ids) for ids in encoded))
        ids = torch.full((len(encoded), length), self._pad)
        mask = torch.zeros(len(encoded), length, dtype=torch.bool)
        for row, sentence in enumerate(encoded):
            kept = sentence[:length]
            ids[row, : len(kept)] = torch.tensor(kept)
            mask[row, : len(kept)] = True
        return Tokens(ids, mask, tuple(row for row, sentence in enumerate(encoded) if len(sentence) > max_tokens))


def bert_wordpiece(vocabulary: Sequence[str]) -> Tokenizer:
    """BERT's lower-casing word-piece tokenizer over a vocabulary in the order of its ids."""
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    inner = HFTokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    inner.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return Tokenizer(inner)


def small_wordpiece(words: Sequence[str]) -> Tokenizer:
    """A word-piece tokenizer that knows the given words and spells every other one letter by letter."""
    letters = string.ascii_lowercase + string.digits + "-',.?!"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*special, *letters, *(f"##{c}" for c in letters), *sorted(words)])
    return bert_wordpiece(list(pieces))
