"""The words of an expression, which tokens they are, and the expression without each of them.

A word is what stands between two spaces, with its punctuation. N words, L tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refseg.data.expressions import check_expression
from refseg.encoders.tokenizer import Piece

MOST = 200  # words of an expression whose model does not say how many it reads: each is a pass of the network


@dataclass(frozen=True)
class Word:
    """One word of an expression.

    Attributes:
        text: As it was written.
        start: Its first character in the expression.
        end: The one behind its last.
        read: "whole", "part" where the model's longest sentence ends inside it, "no" where it ends in front of it or
            the tokenizer makes nothing of the word.
        tokens: Which of the sentence's tokens that are read belong to it; none where the model's tokens are not known.
    """

    text: str
    start: int
    end: int
    read: Literal["whole", "part", "no"]
    tokens: tuple[int, ...]


def words_of(expression: str, every: Sequence[Piece] | None, kept: Sequence[Piece] | None) -> list[Word]:
    """The words of an expression.

    Args:
        expression: The sentence.
        every: All its tokens, or None where they are not known, and then all words count as read.
        kept: Those that the model reads.

    Raises:
        ValueError: The model does not say what it reads, and there are more than `MOST` words.
    """
    spans = [found.span() for found in re.finditer(r"\S+", expression)]
    if every is None or kept is None:
        if len(spans) > MOST:
            raise ValueError(f"an expression of {len(spans)} words: the model answers once for each of them left out; "
                             f"at most {MOST} are accepted")  # fmt: skip
        return [Word(expression[start:end], start, end, "whole", ()) for start, end in spans]
    return [_word(expression, start, end, every, kept) for start, end in spans]


def _word(expression: str, start: int, end: int, every: Sequence[Piece], kept: Sequence[Piece]) -> Word:
    def inside(pieces: Sequence[Piece]) -> list[int]:
        return [i for i, piece in enumerate(pieces) if start <= piece.start < min(piece.end, end)]

    tokens, whole = inside(kept), len(inside(every))
    read: Literal["whole", "part", "no"] = "no" if not tokens else "whole" if len(tokens) == whole else "part"
    return Word(expression[start:end], start, end, read, tuple(tokens))


def without_each(words: Sequence[Word]) -> list[str | None]:
    """The expression without each of its words.

    What lies behind the last word that is read is left out everywhere: a word that was cut would otherwise move in when
    another goes.

    Returns:
        N sentences; None for a word that is not read, and where nothing to read remains.
    """
    last = max((i for i, word in enumerate(words) if word.read != "no"), default=-1)
    found: list[str | None] = []
    for i, word in enumerate(words):
        rest = " ".join(other.text for other in (*words[:i], *words[i + 1 : last + 1]))
        try:
            check_expression(rest)
            found.append(None if word.read == "no" else rest)
        except ValueError:
            found.append(None)
    return found


@dataclass(frozen=True, eq=False)
class Groups:
    """Which tokens are shown together.

    Attributes:
        names: G names: the words that are read, and the tokens that the tokenizer puts around them.
        members: (G, L) of 1 where a token belongs to a group, and 0 elsewhere.
    """

    names: tuple[str, ...]
    members: np.ndarray

    def summed(self, attention: np.ndarray) -> np.ndarray:
        """(L', ...) attention to the L' >= L tokens of a padded batch to (G, ...), added up over each group."""
        return np.tensordot(self.members, attention[: self.members.shape[1]].astype(np.float64), axes=1)


def groups_of(words: Sequence[Word], kept: Sequence[Piece]) -> Groups:
    """Words that are read, and one group of all other tokens."""
    rows = [(word.text, word.tokens) for word in words if word.tokens]
    taken = {token for _, tokens in rows for token in tokens}
    others = [i for i in range(len(kept)) if i not in taken]
    if others:
        names = dict.fromkeys(_end_name(kept[i].text) for i in others)
        rows.append((" ".join(names), tuple(others)))
    members = np.zeros((len(rows), len(kept)))
    for row, (_, tokens) in enumerate(rows):
        members[row, list(tokens)] = 1
    return Groups(tuple(name for name, _ in rows), members)


def _end_name(token: str) -> str:
    """The name of a token that is no word, shorter for CLIP's."""
    return {"<|startoftext|>": "[start]", "<|endoftext|>": "[end]"}.get(token, token)
