"""How often every kind of expression is asked for, set by set."""

from __future__ import annotations

KINDS = ("attribute", "location", "ordinal", "superlative", "relation", "two-hop", "negation")

# Percent of every kind, in val, testA and testB, and in train where the table below has no other.
MIX: dict[str, tuple[tuple[str, int], ...]] = {
    "refshapes": (
        ("attribute", 30),
        ("location", 20),
        ("ordinal", 10),
        ("superlative", 10),
        ("relation", 15),
        ("two-hop", 8),
        ("negation", 7),
    ),
    "refshapes+": (("attribute", 35), ("superlative", 15), ("relation", 28), ("two-hop", 10), ("negation", 12)),
    "refshapesg": (
        ("attribute", 12),
        ("location", 10),
        ("ordinal", 6),
        ("superlative", 6),
        ("relation", 40),
        ("two-hop", 18),
        ("negation", 8),
    ),
}
# Twice as much of the kind that a larger share seems to help: a model that saw 11 % of negations at the end has 56 %
# mIoU on them, others that saw 7 % all the time 30 and 37 %. For ordinals and relations nothing showed (see
# docs/training-log.md).
_TRAINING: dict[str, tuple[tuple[str, int], ...]] = {
    "refshapes": (
        ("attribute", 26),
        ("location", 17),
        ("ordinal", 10),
        ("superlative", 10),
        ("relation", 15),
        ("two-hop", 8),
        ("negation", 14),
    ),
}


def mix_of(name: str, split: str) -> tuple[tuple[str, int], ...]:
    """Percent of every kind in a split of a set."""
    return _TRAINING.get(name, MIX[name]) if split == "train" else MIX[name]
