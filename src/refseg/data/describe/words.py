"""Names of categories, their plurals and look-alikes, and descriptions put into words.

The tables know the 80 categories of COCO and what other sets call the same things; a name that is in none of them is
used as it is.
"""

from __future__ import annotations

import re

from refseg.data.describe.program import Description, Extreme, Place, Rank, Relation
from refseg.data.shapes.stream import Stream

Table = tuple[tuple[str, int], ...]

_NAMES: dict[str, Table] = {
    "airplane": (("airplane", 1), ("plane", 1)),
    "cell phone": (("cell phone", 1), ("phone", 1)),
    "couch": (("couch", 2), ("sofa", 1)),
    "dining table": (("table", 1),),
    "hair drier": (("hair dryer", 1),),
    "motorcycle": (("motorcycle", 2), ("motorbike", 1)),
    "potted plant": (("potted plant", 1), ("plant", 1)),
    "refrigerator": (("refrigerator", 1), ("fridge", 1)),
    "remote": (("remote", 1), ("remote control", 1)),
    "sports ball": (("ball", 1),),
    "tv": (("tv", 1),),
}
_PAIRS = ("skis", "scissors", "glasses", "sunglasses", "trousers", "pants", "jeans", "shorts", "headphones", "pliers")
_PLURALS = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "knife": "knives",
    "sheep": "sheep", "fish": "fish", "deer": "deer", "broccoli": "broccoli", "foot": "feet", "tooth": "teeth",
    "goose": "geese", "shelf": "shelves", "leaf": "leaves", "loaf": "loaves", "wolf": "wolves", "calf": "calves",
}  # fmt: skip
# People mistake one for another, or call both by one name, and so do annotators.
_ALIKE = tuple(
    frozenset(group.split(", "))
    for group in (
        "car, truck, bus",
        "bus, train",
        "cup, wine glass, vase",
        "cup, bowl",
        "bottle, vase",
        "vase, potted plant",
        "chair, couch, bench",
        "couch, bed",
        "backpack, handbag, suitcase",
        "cow, horse, sheep",
        "dog, cat, bear",
        "dog, sheep",
        "bear, teddy bear",
        "microwave, oven, toaster",
        "tv, laptop",
        "apple, orange, sports ball",
        "skis, snowboard",
        "surfboard, snowboard, skateboard",
        "cell phone, remote",
        "remote, mouse",
        "fork, knife, spoon",
        "bicycle, motorcycle",
        "sandwich, hot dog, pizza",
        "cake, donut, sandwich",
        "airplane, kite",
        "bird, kite",
        "dining table, bench",
    )
)
_NUMBERS = ("", "first", "second", "third", "fourth", "fifth", "sixth")

_PLACE_AFTER: dict[str, Table] = {
    "left": (("on the left", 3), ("on the left side", 1)),
    "right": (("on the right", 3), ("on the right side", 1)),
    "top": (("at the top", 1),),
    "bottom": (("at the bottom", 1),),
    "far left": (("on the far left", 1),),
    "far right": (("on the far right", 1),),
    "middle": (("in the middle", 3), ("in the center", 1)),
    "top left": (("in the top left", 1), ("at the top left", 1), ("in the upper left", 1)),
    "top right": (("in the top right", 1), ("at the top right", 1), ("in the upper right", 1)),
    "bottom left": (("in the bottom left", 1), ("at the bottom left", 1), ("in the lower left", 1)),
    "bottom right": (("in the bottom right", 1), ("at the bottom right", 1), ("in the lower right", 1)),
}
_PLAIN: Table = (("the {n}", 4), ("{n}", 2), ("{a}", 1))
_LOCATED: Table = (("the {n} {place}", 3), ("{n} {place}", 2))
_OUTERMOST: Table = (
    ("the {side}most {n}", 3), ("{side}most {n}", 2), ("the {n} furthest to the {side}", 1),
    ("the {side}most of the {ns}", 1),
)  # fmt: skip
_NUMBERED: Table = (("the {number} {n} from the {side}", 2), ("{number} {n} from the {side}", 1))
_SIZED: Table = (("the {size} {n}", 3), ("{size} {n}", 2), ("the {size} of the {ns}", 1))
_SIZES: dict[str, Table] = {"largest": (("largest", 1), ("biggest", 1)), "smallest": (("smallest", 1),)}
_RELATED: Table = (("the {n} {relation} the {anchor}", 3), ("{n} {relation} the {anchor}", 2))
_RELATIONS: dict[str, Table] = {
    "left of": (("to the left of", 2), ("left of", 1)),
    "right of": (("to the right of", 2), ("right of", 1)),
    "next to": (("next to", 3), ("beside", 1)),
    "closest to": (("closest to", 2), ("nearest to", 1)),
    "on": (("on", 1),),
}


def clean(name: str) -> str:
    """A category's name as words: `traffic_light` and `cup_(drink)` become "traffic light" and "cup"."""
    words = re.sub(r"[(\[].*?[)\]]", " ", name).replace("_", " ").replace("-", " ").split()
    return " ".join(words).lower() or name


def alike(one: str, two: str) -> bool:
    """Whether people might call a thing of one category by the name of the other."""
    return one == two or any(one in group and two in group for group in _ALIKE)


def plural(noun: str) -> str:
    """The plural of a noun, of which the last word changes; "pair of skis" becomes "pairs of skis"."""
    if noun.startswith("pair of "):
        return f"pairs{noun[4:]}"
    before, _, word = noun.rpartition(" ")
    if word in _PLURALS:
        word = _PLURALS[word]
    elif re.search(r"(s|x|z|ch|sh)$", word):
        word += "es"
    elif re.search(r"[^aeiou]y$", word):
        word = f"{word[:-1]}ies"
    else:
        word += "s"
    return f"{before} {word}".strip()


def with_article(noun: str) -> str:
    """The noun after "a" or "an", as it sounds: "an umbrella", "a unicycle", "an hourglass"."""
    if re.match(r"(uni(?!n)|use|euro|one\b|ukulele|urinal|ufo\b)", noun):
        return f"a {noun}"
    return f"an {noun}" if re.match(r"([aeiou]|hour|heir|honest)", noun) else f"a {noun}"


def phrase(description: Description, count: int, stream: Stream) -> str:
    """A sentence for a description.

    Args:
        description: What to say.
        count: How many things of the category the image has.
        stream: Where the choice between wordings comes from.

    Returns:
        Lower-case words with single spaces between them and no punctuation.
    """
    part = description.part
    name = stream.weighted(_NAMES.get(description.category, ((description.category, 1),)))
    several = isinstance(part, Rank | Extreme)
    noun = f"pair of {name}" if name in _PAIRS and several else name
    if part is None:
        article = name if name in _PAIRS or name in _PLURALS.values() else with_article(name)
        return stream.weighted(_PLAIN).format(n=noun, a=article)
    if isinstance(part, Place):
        return stream.weighted(_LOCATED).format(n=noun, place=stream.weighted(_PLACE_AFTER[part.name]))
    if isinstance(part, Relation):
        relation = stream.weighted(_RELATIONS[part.name])
        return stream.weighted(_RELATED).format(n=noun, relation=relation, anchor=_anchor(part.anchor, stream))
    many = f"two {plural(noun)}" if count == 2 and stream.chance(50) else plural(noun)
    if isinstance(part, Extreme):
        size = stream.weighted(_SIZES[part.name])
        if count == 2:  # of two, people say the comparative
            size = {"largest": "larger", "biggest": "bigger", "smallest": "smaller"}[size]
        return stream.weighted(_SIZED).format(size=size, n=noun, ns=many)
    if part.number == 1:
        return stream.weighted(_OUTERMOST).format(side=part.side, n=noun, ns=many)
    return stream.weighted(_NUMBERED).format(number=_NUMBERS[part.number], side=part.side, n=noun)


def _anchor(anchor: Description, stream: Stream) -> str:
    """The anchor after "the"; what it is told by stands before its noun, so that it cannot belong to another one."""
    noun = stream.weighted(_NAMES.get(anchor.category, ((anchor.category, 1),)))
    if isinstance(anchor.part, Rank):
        return f"{anchor.part.side}most {noun}"
    if isinstance(anchor.part, Extreme):
        return f"{stream.weighted(_SIZES[anchor.part.name])} {noun}"
    return noun
