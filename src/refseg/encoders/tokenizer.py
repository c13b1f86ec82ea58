"""Sentences to token ids, for BERT's word pieces and CLIP's byte pairs."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from refseg.fields import shown
from refseg.files import first_line

BERT_ENDS = ("[CLS]", "[SEP]")
CLIP_ENDS = ("<|startoftext|>", "<|endoftext|>")
# What CLIP takes for one word before it looks for byte pairs: an English ending, letters, one digit, or signs.
CLIP_WORDS = r"'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
UNKNOWN = "zebra ☃ 树 a9-b"
ACCEPTED = "a tokenizer.json, BERT's vocab.txt or CLIP's vocab.json with merges.txt beside it is accepted"


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


@dataclass(frozen=True)
class Piece:
    """One token of a sentence.

    Attributes:
        text: Its entry in the vocabulary.
        special: Whether the tokenizer added it, as a start or an end.
        start: First character of the sentence that it stands for.
        end: The one behind its last; the same as `start` where it stands for none.
    """

    text: str
    special: bool
    start: int
    end: int


class Tokenizer:
    """A published or packaged tokenizer, BERT's or CLIP's; which of them, its special tokens tell.

    BERT's sentences start with [CLS] and end with [SEP], CLIP's with <|startoftext|> and <|endoftext|>. A sentence that
    is cut loses BERT's end token, as in LAVT, and keeps CLIP's, as in CRIS: CLIP reads its sentence vector there.
    """

    def __init__(self, inner: HFTokenizer) -> None:
        inner.no_padding()  # a file may have stored both; padding and cutting are done here
        inner.no_truncation()
        known = set(inner.get_vocab().values())
        for probe in ("", UNKNOWN):  # also what it makes of words that it does not know
            if strange := [number for number in inner.encode(probe).ids if number not in known]:
                raise ValueError(f"the tokenizer makes id {strange[0]} of a sentence, which is none of its entries")
        self._inner, self._pad = inner, 0
        self._end: int | None = None  # the token that a cut sentence keeps
        start, end = (inner.token_to_id(name) for name in CLIP_ENDS)
        if start is not None and end is not None:
            if inner.encode("").ids != [start, end]:
                raise ValueError(f"a CLIP tokenizer that does not put {' and '.join(CLIP_ENDS)} around a sentence")
            self._end = end
            return
        if not inner.encode("a red circle").ids:
            raise ValueError("a tokenizer that makes no token of a sentence")
        pad = inner.token_to_id("[PAD]")
        if pad is None:
            raise ValueError("the tokenizer has neither a [PAD] token nor CLIP's; one of BERT or CLIP is accepted")
        self._pad = pad

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.json`, BERT's `vocab.txt`, or CLIP's `vocab.json` with `merges.txt` beside it.

        Raises:
            ValueError: The file is none of these.
        """
        with _read_as(str(path), f"; {ACCEPTED}"):
            if path.suffix == ".txt":
                return bert_wordpiece(path.read_text(encoding="utf-8").splitlines())
            if path.name == "vocab.json":
                merges = path.with_name("merges.txt")
                if not merges.is_file():
                    raise ValueError("merges.txt is missing beside it")
                return clip_byte_pairs(*BPE.read_file(str(path), str(merges)))
            return cls(HFTokenizer.from_file(str(path)))

    def save(self, path: Path) -> None:
        """Writes `tokenizer.json`."""
        self._inner.save(str(path))

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """What `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        with _read_as("the words of a run"):
            return cls(HFTokenizer.from_str(text))

    def to_json(self) -> str:
        """What `save` writes, as a string."""
        return str(self._inner.to_str())

    @property
    def size(self) -> int:
        """Number of entries in the vocabulary; one more than the largest id, where ids are left out."""
        return max(self._inner.get_vocab().values(), default=-1) + 1

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every entry."""
        return dict(self._inner.get_vocab())

    def with_words(self, texts: Iterable[str], most: int = 5000) -> Tokenizer:
        """A word-piece tokenizer that also knows the words of some sentences; the ids of its own words stay.

        Args:
            texts: The sentences.
            most: At most this many words are added, the frequent ones first.

        Raises:
            ValueError: This is no word-piece tokenizer.
        """
        normal, split = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        known = self.vocabulary
        if "[UNK]" not in known:
            raise ValueError("a tokenizer of byte pairs cannot learn words; one of word pieces is accepted")
        counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(normal.normalize_str(text)))
        new = sorted(counts.keys() - known, key=lambda word: (-counts[word], word))[:most]
        ends = BERT_ENDS if self._end is None else CLIP_ENDS
        return _word_pieces([*sorted(known, key=lambda word: known[word]), *new], ends) if new else self

    def __call__(self, sentences: Sequence[str], max_tokens: int) -> Tokens:
        """Encodes T sentences; what exceeds `max_tokens` is cut off at the end, where CLIP's end token is put back."""
        encoded = [encoding.ids for encoding in self._inner.encode_batch(list(sentences))]
        if nothing := [sentence for sentence, ids in zip(sentences, encoded, strict=True) if not ids]:
            raise ValueError(f"{shown(nothing[0])}: the tokenizer makes no token of it; a sentence with words it knows "
                             "is accepted")  # fmt: skip
        length = min(max_tokens, max(len(ids) for ids in encoded))
        ids = torch.full((len(encoded), length), self._pad)
        mask = torch.zeros(len(encoded), length, dtype=torch.bool)
        for row, sentence in enumerate(encoded):
            kept = sentence[:length]
            if self._end is not None:
                kept[-1] = self._end
            ids[row, : len(kept)] = torch.tensor(kept)
            mask[row, : len(kept)] = True
        return Tokens(ids, mask, tuple(row for row, sentence in enumerate(encoded) if len(sentence) > max_tokens))

    def pieces(self, sentence: str, max_tokens: int | None = None) -> list[Piece]:
        """The tokens of one sentence in the order of its ids, cut as a call cuts them; all without `max_tokens`."""
        found = self._inner.encode(sentence)
        rows = zip(found.tokens, found.special_tokens_mask, found.offsets, strict=True)
        pieces = [Piece(text, bool(special), *span) for text, special, span in rows]
        if max_tokens is None or len(pieces) <= max_tokens:
            return pieces
        kept = pieces[:max_tokens]
        if self._end is not None:
            kept[-1] = pieces[-1]
        return kept


@contextmanager
def _read_as(where: str, accepted: str = "") -> Iterator[None]:
    """What the library raises is a ValueError: it raises a bare Exception, or a panic, which is not even that."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{where}: not a tokenizer ({first_line(error)}){accepted}") from error


def bert_wordpiece(vocabulary: Sequence[str]) -> Tokenizer:
    """BERT's lower-casing word-piece tokenizer over a vocabulary in the order of its ids."""
    return _word_pieces(vocabulary, BERT_ENDS)


def clip_byte_pairs(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """CLIP's lower-casing byte-pair tokenizer (Radford et al. 2021).

    Args:
        vocabulary: Ids of the pieces; a piece that ends a word ends in `</w>`.
        merges: The pairs that become one piece, in the order of their rank.
    """
    end = CLIP_ENDS[1]
    inner = HFTokenizer(BPE(dict(vocabulary), list(merges), end_of_word_suffix="</w>", unk_token=end))
    inner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True)  # whitespace goes, however long
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    inner.add_special_tokens(list(CLIP_ENDS))
    inner.post_processor = _between(CLIP_ENDS, vocabulary)
    return Tokenizer(inner)


def small_wordpiece(words: Sequence[str], clip: bool = False) -> Tokenizer:
    """A word-piece tokenizer that knows the given words and spells every other one letter by letter.

    Args:
        words: What it knows.
        clip: Start and end sentences as CLIP does and keep the end of those that are cut. All other ids stay the same.
    """
    letters = string.ascii_lowercase + string.digits + "-',.?!"
    ends = CLIP_ENDS if clip else BERT_ENDS
    special = ["[PAD]", "[UNK]", *ends, "[MASK]"]
    pieces = dict.fromkeys([*special, *letters, *(f"##{c}" for c in letters), *sorted(words)])
    return _word_pieces(list(pieces), ends)


def _word_pieces(vocabulary: Sequence[str], ends: tuple[str, str]) -> Tokenizer:
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    inner = HFTokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = _between(ends, ids)
    return Tokenizer(inner)


def _between(ends: tuple[str, str], ids: Mapping[str, int]) -> TemplateProcessing:
    """Puts a start and an end token around every sentence."""
    start, end = ends
    return TemplateProcessing(single=f"{start} $A {end}", special_tokens=[(name, ids[name]) for name in ends])
