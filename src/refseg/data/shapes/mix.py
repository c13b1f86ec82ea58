"""How often every kind of expression is asked for, set by set."""

from __future__ import annotations

KINDS = ("attribute", "location", "ordinal", "superlative", "relation", "two-hop", "negation")

# Percent of every kind, in val, testA and testB, and in train where the course below says nothing else.
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
# Training reads its scenes in their order, so the set that models are made for is a course: how an object looks and
# where it is come first, later what is learned last. Up to which scene, and percent of every kind.
_COURSE: dict[str, tuple[tuple[int, tuple[tuple[str, int], ...]], ...]] = {
    "refshapes": (
        (
            12_800,
            (
                ("attribute", 50),
                ("location", 22),
                ("superlative", 14),
                ("relation", 6),
                ("ordinal", 4),
                ("two-hop", 2),
                ("negation", 2),
            ),
        ),
        (51_200, MIX["refshapes"]),
        (
            2**31,
            (
                ("attribute", 20),
                ("location", 14),
                ("ordinal", 15),
                ("superlative", 8),
                ("relation", 20),
                ("two-hop", 12),
                ("negation", 11),
            ),
        ),
    ),
}


def mix_of(name: str, split: str, index: int) -> tuple[tuple[str, int], ...]:
    """Percent of every kind in a scene."""
    course = _COURSE.get(name, ()) if split == "train" else ()
    return next((mix for until, mix in course if index < until), MIX[name])
