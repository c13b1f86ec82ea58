"""Puts a program into words, with synonyms, word orders and the terse style that people use.

Every word stands in one of the tables below, so `VOCABULARY` is complete.
"""

from __future__ import annotations

from refseg.data.shapes.program import Description, Head, Location, Not, Ordinal, Relation, Superlative
from refseg.data.shapes.scene import COLOURS
from refseg.data.shapes.stream import Stream

STYLES = ("terse", "plain", "long")

Table = tuple[tuple[str, int], ...]

_NOUNS: dict[str, Table] = {
    "circle": (("circle", 5), ("disk", 1)),
    "square": (("square", 5), ("box", 1)),
    "triangle": (("triangle", 1),),
    "diamond": (("diamond", 5), ("rhombus", 1)),
    "star": (("star", 1),),
    "cross": (("cross", 5), ("plus", 1)),
    "heart": (("heart", 1),),
    "moon": (("moon", 3), ("crescent", 1)),
}
_GENERIC: Table = (("shape", 3), ("object", 3), ("thing", 3), ("one", 3))
_BARE_GENERIC: Table = (("shape", 4), ("object", 4), ("thing", 4))  # "one" needs something before it
_PLURALS = {"box": "boxes", "cross": "crosses", "plus": "pluses", "rhombus": "rhombuses"}  # others take an s
_SIZES: dict[str, Table] = {
    "small": (("small", 3), ("little", 1), ("tiny", 1)),
    "medium": (("medium", 3), ("medium sized", 1)),
    "large": (("large", 2), ("big", 2)),
}
_FILLS: dict[str, Table] = {
    "solid": (("solid", 2), ("filled", 1), ("plain", 1)),
    "striped": (("striped", 1),),
    "outlined": (("outlined", 1), ("hollow", 1)),
}
_WITH_STRIPES: Table = (("with stripes", 3), ("with white stripes", 1))

# Places: before the noun, right after it in the terse style, and as a full phrase.
_PLACE_BEFORE: dict[str, Table] = {
    "left": (("left", 1),),
    "right": (("right", 1),),
    "top": (("top", 2), ("upper", 1)),
    "bottom": (("bottom", 2), ("lower", 1)),
    "center": (("middle", 2), ("center", 1), ("central", 1)),
    "top left": (("top left", 1), ("upper left", 1)),
    "top right": (("top right", 1), ("upper right", 1)),
    "bottom left": (("bottom left", 1), ("lower left", 1)),
    "bottom right": (("bottom right", 1), ("lower right", 1)),
}
_PLACE_AFTER: dict[str, Table] = {
    "left": (("left", 3), ("left side", 1), ("on left", 1)),
    "right": (("right", 3), ("right side", 1), ("on right", 1)),
    "top": (("top", 2), ("at top", 1)),
    "bottom": (("bottom", 2), ("at bottom", 1)),
    "center": (("middle", 1), ("center", 1), ("in middle", 1)),
    "top left": (("top left", 2), ("upper left", 1), ("top left corner", 1)),
    "top right": (("top right", 2), ("upper right", 1), ("top right corner", 1)),
    "bottom left": (("bottom left", 2), ("lower left", 1), ("bottom left corner", 1)),
    "bottom right": (("bottom right", 2), ("lower right", 1), ("bottom right corner", 1)),
}
_PLACE_PHRASE: dict[str, Table] = {
    "left": (("on the left", 3), ("on the left side", 1)),
    "right": (("on the right", 3), ("on the right side", 1)),
    "top": (("at the top", 3), ("near the top", 1)),
    "bottom": (("at the bottom", 3), ("near the bottom", 1)),
    "center": (("in the middle", 2), ("in the center", 1), ("near the center", 1)),
    "top left": (("in the top left corner", 1), ("in the upper left", 1), ("at the top left", 1)),
    "top right": (("in the top right corner", 1), ("in the upper right", 1), ("at the top right", 1)),
    "bottom left": (("in the bottom left corner", 1), ("in the lower left", 1), ("at the bottom left", 1)),
    "bottom right": (("in the bottom right corner", 1), ("in the lower right", 1), ("at the bottom right", 1)),
}
_OF_THE_IMAGE: Table = (("of the image", 1), ("of the picture", 1))
_ORDINALS: dict[int, tuple[str, str]] = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd")}
_SUPERLATIVES: dict[str, Table] = {
    "left": (("leftmost", 1),),
    "right": (("rightmost", 1),),
    "top": (("topmost", 1), ("highest", 1)),
    "bottom": (("lowest", 2), ("bottommost", 1)),
    "largest": (("largest", 1), ("biggest", 1)),
    "smallest": (("smallest", 1),),
}
_FURTHEST: dict[str, Table] = {
    "left": (("furthest to the left", 1), ("farthest to the left", 1)),
    "right": (("furthest to the right", 1), ("farthest to the right", 1)),
    "top": (("closest to the top", 1), ("nearest to the top", 1)),
    "bottom": (("closest to the bottom", 1), ("nearest to the bottom", 1)),
}

# Relations: terse, between two noun phrases; plain, likewise; as a clause.
_RELATION_TERSE: dict[str, Table] = {
    "left of": (("left of", 1),),
    "right of": (("right of", 1),),
    "above": (("above", 2), ("over", 1)),
    "below": (("below", 2), ("under", 2)),
    "closest": (("closest to", 2), ("nearest", 1), ("nearest to", 1)),
    "farthest": (("farthest from", 1), ("furthest from", 1)),
    "same color": (("same color as", 1),),
    "same shape": (("same shape as", 1),),
    "bigger": (("bigger than", 1), ("larger than", 1)),
    "smaller": (("smaller than", 1),),
}
_RELATION_PLAIN: dict[str, Table] = {
    "left of": (("left of", 1), ("to the left of", 3)),
    "right of": (("right of", 1), ("to the right of", 3)),
    "above": (("above", 1),),
    "below": (("below", 2), ("under", 1), ("beneath", 1)),
    "closest": (("closest to", 2), ("nearest to", 1)),
    "farthest": (("farthest from", 1), ("furthest from", 1)),
    "same color": (("with the same color as", 2), ("in the same color as", 1)),
    "same shape": (("with the same shape as", 1),),
    "bigger": (("bigger than", 1), ("larger than", 1)),
    "smaller": (("smaller than", 1),),
}
_RELATION_CLAUSE: dict[str, Table] = {
    "left of": (("that is left of", 2), ("that is to the left of", 1), ("which is left of", 1)),
    "right of": (("that is right of", 2), ("that is to the right of", 1), ("which is right of", 1)),
    "above": (("that is above", 2), ("which is above", 1)),
    "below": (("that is below", 2), ("which is below", 1), ("that is under", 1)),
    "closest": (("that is closest to", 2), ("that is nearest to", 1), ("which is closest to", 1)),
    "farthest": (("that is farthest from", 1), ("that is furthest from", 1), ("which is farthest from", 1)),
    "same color": (("that has the same color as", 3), ("which has the same color as", 1)),
    "same shape": (("that has the same shape as", 3), ("which has the same shape as", 1)),
    "bigger": (("that is bigger than", 2), ("that is larger than", 2), ("which is larger than", 1)),
    "smaller": (("that is smaller than", 3), ("which is smaller than", 1)),
}

# Sentences. Braces: n noun phrase, ns its plural, s shape noun, a article, adj adjectives, and so on.
_ATTRIBUTE: dict[str, Table] = {
    "terse": (("{n}", 1),),
    "plain": (("the {n}", 3), ("{n}", 1)),
    "long": (("{a} {n}", 2), ("the only {n} in the image", 1), ("{a} {n} in the picture", 1)),
}
_ATTRIBUTE_CLAUSE: Table = (("the {n} that is {adj}", 3), ("the {n} which is {adj}", 1))
_ATTRIBUTE_SHAPE: Table = (("{a} {n} in the shape of {s}", 1), ("the {n} that looks like {s}", 1))
_LOCATION: dict[str, Table] = {
    "terse": (("{n} {after}", 3), ("{before} {n}", 2)),
    "plain": (("the {n} {phrase}", 3), ("{n} {phrase}", 2), ("the {before} {n}", 2)),
    "long": (("the {n} that is {phrase}", 1), ("the {n} {phrase} {of}", 2), ("the {n} located {phrase}", 1)),
}
_ORDINAL: dict[str, Table] = {
    "terse": (("{ord} {n} from {side}", 2), ("{n} {ord} from {side}", 1)),
    "plain": (("the {ord} {n} from the {side}", 2), ("{ord} {n} from the {side}", 1)),
    "long": (("the {n} that is {ord} from the {side}", 1), ("the {ord} {n} counting from the {side}", 1)),
}
_SUPERLATIVE: dict[str, Table] = {
    "terse": (("{sup} {n}", 1),),
    "plain": (("the {sup} {n}", 4), ("the {sup} of the {ns}", 1)),
    "long": (("the {sup} of all the {ns}", 1), ("the {n} that is the {sup}", 1), ("the {sup} {n} in the image", 1)),
}
_SUPERLATIVE_FURTHEST: dict[str, Table] = {
    "terse": (("{n} {far}", 1),),
    "plain": (("the {n} {far}", 1),),
    "long": (("the {n} that is {far}", 1),),
}
_NOT_ATTRIBUTE: dict[str, Table] = {
    "terse": (("{n} not {what}", 2), ("{n} that is not {what}", 1)),
    "plain": (("the {n} that is not {what}", 3), ("{n} that is not {what}", 1)),
    "long": (
        ("the {n} that is not {what}", 1),
        ("the {n} which is not {what}", 1),
        ("the only {n} that is not {what}", 1),
    ),
}
_NOT_STRIPED: Table = (("the {n} without stripes", 2), ("{n} without stripes", 2), ("the {n} with no stripes", 1))
_NOT_PLACE: dict[str, Table] = {
    "terse": (("{n} not {after}", 1), ("{n} not {phrase}", 1)),
    "plain": (("the {n} not {phrase}", 1), ("the {n} that is not {phrase}", 2)),
    "long": (("the {n} that is not {phrase}", 1), ("the {n} which is not {phrase} {of}", 1)),
}
_JOINERS = ("the", "a", "an", "and")


def phrase(program: Description, style: str, stream: Stream) -> str:
    """A sentence for a program.

    Args:
        program: What to say.
        style: One of `STYLES`.
        stream: Where the choice between synonyms comes from.

    Returns:
        Lower-case words with single spaces between them and no punctuation.
    """
    head, part = program.head, program.part
    if part is None:
        return _attribute(head, style, stream)
    if isinstance(part, Location):
        noun = _noun_phrase(head, style, stream)
        return stream.weighted(_LOCATION[style]).format(n=noun, **_place(part.place, stream))
    if isinstance(part, Ordinal):
        full, short = _ORDINALS[part.rank]
        word = short if style == "terse" and stream.chance(50) else full
        noun = _noun_phrase(head, style, stream)
        return stream.weighted(_ORDINAL[style]).format(ord=word, n=noun, side=part.side)
    if isinstance(part, Superlative):
        return _superlative(head, part.extreme, style, stream)
    if isinstance(part, Not):
        return _negation(head, part, style, stream)
    return _related(program, style, stream, top=True)


def _related(program: Description, style: str, stream: Stream, top: bool) -> str:
    """A description with a relation; below the top it is always a clause, so that it clearly belongs to its noun."""
    the = "" if style == "terse" or (style == "plain" and top and stream.chance(25)) else "the "
    text = the + _noun_phrase(program.head, style, stream)
    part = program.part
    if part is None:
        return text
    assert isinstance(part, Relation)
    if not top or (style == "long" and stream.chance(30)):
        table = _RELATION_CLAUSE
    else:
        table = _RELATION_TERSE if style == "terse" else _RELATION_PLAIN
    return f"{text} {stream.weighted(table[part.name])} {_related(part.anchor, style, stream, top=False)}"


def _attribute(head: Head, style: str, stream: Stream) -> str:
    said = [name for name in ("size", "fill", "colour") if getattr(head, name) is not None]
    if style == "long" and head.shape is not None and stream.chance(25):
        generic = _noun_phrase(Head(None, head.colour, head.size, head.fill), style, stream)
        shape = _with_article(stream.weighted(_NOUNS[head.shape]))
        text = stream.weighted(_ATTRIBUTE_SHAPE)
        return text.format(a=_article(generic, stream), n=generic, s=shape)
    if said and ((style == "long" and stream.chance(50)) or (style == "plain" and stream.chance(12))):
        moved = stream.shuffled(said)[: stream.between(1, len(said))]
        adjectives = " and ".join(_adjective(head, name, stream) for name in moved)
        kept = {name: getattr(head, name) for name in ("size", "fill", "colour") if name not in moved}
        noun = _noun_phrase(Head(shape=head.shape, **kept), style, stream)
        return stream.weighted(_ATTRIBUTE_CLAUSE).format(n=noun, adj=adjectives)
    noun = _noun_phrase(head, style, stream)
    return stream.weighted(_ATTRIBUTE[style]).format(a=_article(noun, stream), n=noun)


def _superlative(head: Head, extreme: str, style: str, stream: Stream) -> str:
    if extreme in _FURTHEST and stream.chance(20):
        noun = _noun_phrase(head, style, stream)
        text = stream.weighted(_SUPERLATIVE_FURTHEST[style])
        return text.format(n=noun, far=stream.weighted(_FURTHEST[extreme]))
    text = stream.weighted(_SUPERLATIVE[style])
    word = stream.weighted(_SUPERLATIVES[extreme])
    noun = _noun_phrase(head, style, stream, plural="{ns}" in text)
    return text.format(sup=word, n=noun, ns=noun)


def _negation(head: Head, part: Not, style: str, stream: Stream) -> str:
    noun = _noun_phrase(head, style, stream)
    what = part.what
    if isinstance(what, Location):
        return stream.weighted(_NOT_PLACE[style]).format(n=noun, **_place(what.place, stream))
    if what.fill == "striped" and stream.chance(60):
        return stream.weighted(_NOT_STRIPED).format(n=noun)
    if what.shape is not None:
        word = _with_article(stream.weighted(_NOUNS[what.shape]))
        table = _NOT_ATTRIBUTE["plain" if style == "terse" else style]
        return stream.weighted(table).format(n=noun, what=word)
    word = _adjective(what, next(name for name in ("colour", "size", "fill") if getattr(what, name)), stream)
    return stream.weighted(_NOT_ATTRIBUTE[style]).format(n=noun, what=word)


def _noun_phrase(head: Head, style: str, stream: Stream, plural: bool = False) -> str:
    """Size, fill, colour and noun, without an article."""
    words = []
    after = ""
    if head.size is not None:
        words.append(_adjective(head, "size", stream))
    if head.fill == "striped" and stream.chance(30):
        after = " " + stream.weighted(_WITH_STRIPES)
    elif head.fill is not None:
        words.append(_adjective(head, "fill", stream))
    if head.colour is not None:
        words.append(head.colour)
    if head.shape is not None:
        noun = stream.weighted(_NOUNS[head.shape])
    else:
        noun = stream.weighted(_GENERIC if words and style != "long" else _BARE_GENERIC)
    if plural:
        noun = _PLURALS.get(noun, noun + "s")
    return " ".join([*words, noun]) + after


def _adjective(head: Head, name: str, stream: Stream) -> str:
    if name == "colour":
        assert head.colour is not None
        return head.colour
    if name == "size":
        assert head.size is not None
        return stream.weighted(_SIZES[head.size])
    assert head.fill is not None
    return stream.weighted(_FILLS[head.fill])


def _place(place: str, stream: Stream) -> dict[str, str]:
    return {
        "before": stream.weighted(_PLACE_BEFORE[place]),
        "after": stream.weighted(_PLACE_AFTER[place]),
        "phrase": stream.weighted(_PLACE_PHRASE[place]),
        "of": stream.weighted(_OF_THE_IMAGE),
    }


def _article(noun: str, stream: Stream) -> str:
    return "the" if stream.chance(70) else _with_article(noun).split()[0]


def _with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" and not noun.startswith("one") else "a ") + noun


def _vocabulary() -> tuple[str, ...]:
    words = {*_JOINERS, *COLOURS, "left", "right", "top", "bottom", *_PLURALS.values()}
    tables: list[Table] = [_GENERIC, _WITH_STRIPES, _OF_THE_IMAGE, _ATTRIBUTE_CLAUSE, _ATTRIBUTE_SHAPE, _NOT_STRIPED]
    for group in (
        *(_NOUNS, _SIZES, _FILLS, _PLACE_BEFORE, _PLACE_AFTER, _PLACE_PHRASE, _SUPERLATIVES, _FURTHEST),
        *(_RELATION_TERSE, _RELATION_PLAIN, _RELATION_CLAUSE),
        *(_ATTRIBUTE, _LOCATION, _ORDINAL, _SUPERLATIVE, _SUPERLATIVE_FURTHEST, _NOT_ATTRIBUTE, _NOT_PLACE),
    ):
        tables.extend(group.values())
    for table in tables:
        words.update(word for text, _ in table for word in text.split() if not word.startswith("{"))
    words.update(word for pair in _ORDINALS.values() for word in pair)
    nouns = [text for table in (*_NOUNS.values(), _GENERIC) for text, _ in table]
    words.update(noun + "s" for noun in nouns if noun not in _PLURALS)
    return tuple(sorted(words))


VOCABULARY = _vocabulary()
"""Every word that an expression may contain, sorted."""
