"""What stands where: the plan of a scene in integer units, without any pixels."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from refseg.data.shapes.geometry import ROTATIONS, extent
from refseg.data.shapes.stream import Stream

LONG_SIDE = 192  # pixels of the long side at a scene's own size
SHORT_SIDE = (108, 192)  # pixels of the short side: from 16:9 to 1:1
UNIT = 64  # scene units per pixel at a scene's own size

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "moon")
SIZES = ("small", "medium", "large")
FILLS = ("solid", "striped", "outlined")
COLOURS = {
    "red": (212, 38, 42),
    "orange": (246, 136, 24),
    "yellow": (243, 220, 44),
    "green": (44, 156, 60),
    "cyan": (48, 206, 218),
    "blue": (40, 78, 212),
    "purple": (132, 50, 172),
    "pink": (246, 138, 194),
}
BACKGROUNDS = ("plain", "gradient", "textured", "noisy")

# Pairs that no object has outside testB: every colour and every shape once.
HELD_OUT_PAIRS = (
    ("red", "star"),
    ("orange", "moon"),
    ("yellow", "square"),
    ("green", "heart"),
    ("cyan", "triangle"),
    ("blue", "cross"),
    ("purple", "circle"),
    ("pink", "diamond"),
)

# Share of the image's area in units of 1 / 10000, with clear gaps between the sizes.
_SHARES = {"small": (46, 90), "medium": (180, 300), "large": (460, 740)}
_SIZE_WEIGHTS = (("small", 20), ("medium", 48), ("large", 32))
_FILL_WEIGHTS = (("solid", 46), ("striped", 28), ("outlined", 26))
_COUNT_WEIGHTS = ((3, 4), (4, 10), (5, 17), (6, 20), (7, 22), (8, 24), (9, 26))


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of the names in `COLOURS`.
        size: One of `SIZES`.
        fill: One of `FILLS`.
        x: Centre to the right, in scene units.
        y: Centre downwards, in scene units.
        side: Square root of the area, in scene units.
        turn: Index into `geometry.ROTATIONS`.
        rgb: The colour as drawn, a little off the nominal one.
    """

    shape: str
    colour: str
    size: str
    fill: str
    x: int
    y: int
    side: int
    turn: int
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class Background:
    """What lies behind the objects.

    Attributes:
        kind: One of `BACKGROUNDS`.
        first: RGB colour.
        second: RGB colour that a gradient or a texture leads to.
        direction: 0 to 23; picks one of eight gradients or one of three textures.
        seed: Seed of the noise, 32 bits.
    """

    kind: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    direction: int
    seed: int


@dataclass(frozen=True)
class Scene:
    """A scene without resolution.

    Attributes:
        width: Width in scene units.
        height: Height in scene units.
        background: What lies behind the objects.
        things: The objects in the order in which they are painted.
    """

    width: int
    height: int
    background: Background
    things: tuple[Thing, ...]

    @property
    def size(self) -> tuple[int, int]:
        """The scene's own (width, height) in pixels."""
        return self.width // UNIT, self.height // UNIT


def plan(stream: Stream, held_out: bool) -> Scene | None:
    """Draws a scene.

    Args:
        stream: Where every choice comes from.
        held_out: Whether the pairs of `HELD_OUT_PAIRS` are wanted (testB) or forbidden.

    Returns:
        The scene, or None if the objects found no room.
    """
    width, height = LONG_SIDE * UNIT, stream.between(*SHORT_SIDE) * UNIT
    if stream.chance(40):
        width, height = height, width
    looks = _looks(stream, stream.weighted(_COUNT_WEIGHTS), held_out)
    overlapping = stream.between(1, len(looks) - 1) if stream.chance(34) else -1
    things: list[Thing] = []
    rooms: list[tuple[int, int, int]] = []  # x, y and radius of the circle that an object keeps for itself
    for index, (colour, shape, size) in enumerate(looks):
        low, high = _SHARES[size]
        side = isqrt(stream.between(low * 100, high * 100) * width * height // 1_000_000)
        fill = stream.weighted(_FILL_WEIGHTS)
        turn = stream.below(len(ROTATIONS))
        place = _place(stream, rooms, width, height, extent(shape, side, turn), index == overlapping)
        if place is None:
            return None
        rooms.append(place)
        rgb = [value + stream.between(-9, 9) for value in COLOURS[colour]]
        things.append(Thing(shape, colour, size, fill, place[0], place[1], side, turn, (rgb[0], rgb[1], rgb[2])))
    return Scene(width, height, _background(stream), tuple(stream.shuffled(things)))


def _looks(stream: Stream, count: int, held_out: bool) -> list[tuple[str, str, str]]:
    """Colour, shape and size of every object, from a small palette so that the same noun and colour come back."""
    shapes = stream.shuffled(SHAPES)[: stream.between(2, 4)]
    colours = stream.shuffled(tuple(COLOURS))[: stream.between(2, 4)]
    wanted = stream.choice(HELD_OUT_PAIRS)
    looks: list[tuple[str, str, str]] = []
    for _ in range(count):
        if held_out and stream.chance(40):
            pair = wanted
        elif looks and stream.chance(38):
            pair = stream.choice(looks)[:2]
        else:
            pair = stream.choice(colours), stream.choice(shapes)
            while not held_out and pair in HELD_OUT_PAIRS:
                pair = stream.choice(tuple(COLOURS)), stream.choice(shapes)
        looks.append((*pair, stream.weighted(_SIZE_WEIGHTS)))
    return looks


def _place(
    stream: Stream,
    rooms: list[tuple[int, int, int]],
    width: int,
    height: int,
    half: tuple[int, int],
    overlapping: bool,
) -> tuple[int, int, int] | None:
    """Finds a centre for an object with the given half width and half height; returns x, y and the radius it keeps."""
    margin_x, margin_y = half[0] + UNIT, half[1] + UNIT
    radius = (half[0] + half[1]) // 2 + UNIT
    for _ in range(30):
        x, y = stream.between(margin_x, width - margin_x), stream.between(margin_y, height - margin_y)
        touched = 0
        for other_x, other_y, other_radius in rooms:
            reach = radius + other_radius
            square = (x - other_x) * (x - other_x) + (y - other_y) * (y - other_y)
            if square < reach * reach:
                touched += 1
                deep_enough = reach * reach * 25 <= square * 100 <= reach * reach * 64
                if not overlapping or touched > 1 or not deep_enough:
                    break
        else:
            if not overlapping or touched:
                return x, y, radius
    return None


def _background(stream: Stream) -> Background:
    kind = stream.choice(BACKGROUNDS)
    grey = stream.between(58, 218)
    other = grey + stream.between(30, 60) * (1 if grey < 138 else -1)
    first = [grey + stream.between(-11, 11) for _ in range(3)]
    second = [other + stream.between(-11, 11) for _ in range(3)]
    return Background(
        kind=kind,
        first=(first[0], first[1], first[2]),
        second=(second[0], second[1], second[2]),
        direction=stream.below(24),
        seed=stream.bits() & 0xFFFFFFFF,
    )
