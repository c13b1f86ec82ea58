"""Draws a scene at any size: anti-aliased pixels and the exact map of visible objects, in integers only."""

from __future__ import annotations

import numpy as np

from refseg.data.shapes.geometry import RIMS, ROTATIONS, depth, extent
from refseg.data.shapes.scene import UNIT, Background, Scene, Thing

_SAMPLES = 3  # per pixel and direction; odd, so that the middle one is the pixel's centre
_EDGE = 170  # thickness of the dark edge in local units
_STRIPE = 1060  # thickness of a stripe in local units

# How far a gradient changes along x and along y over the whole image, in 1 / 256 (rows add up to 256 in size).
_DIRECTIONS = ((256, 0), (0, 256), (-256, 0), (0, -256), (128, 128), (128, -128), (-128, 128), (-128, -128))


def render(scene: Scene, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene.

    Args:
        scene: The scene.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        The picture (H, W, 3) uint8, and the map of visible objects (H, W) int8: index into `scene.things`, -1 where the
        background shows. The map is decided at the centre of every pixel.
    """
    image = _background(scene, width, height)
    ids = np.full((height, width), -1, dtype=np.int8)
    xs, ys = _samples(scene.width, width, _SAMPLES), _samples(scene.height, height, _SAMPLES)
    for index, thing in enumerate(scene.things):
        columns, rows = _window(thing, scene, width, height)
        if columns[0] >= columns[1] or rows[0] >= rows[1]:
            continue
        u, v = _local(
            thing,
            xs[columns[0] * _SAMPLES : columns[1] * _SAMPLES],
            ys[rows[0] * _SAMPLES : rows[1] * _SAMPLES],
        )
        deep = depth(thing.shape, u, v)
        area = slice(*rows), slice(*columns)
        ids[area][deep[1::_SAMPLES, 1::_SAMPLES] >= 0] = index
        _paint(image[area], thing, deep, u + v)
    return image.astype(np.uint8), ids


def visible(scene: Scene) -> tuple[np.ndarray, list[int], list[int]]:
    """Which object is seen where at the scene's own size, without the cost of drawing.

    Returns:
        The same map of visible objects as `render` gives, the visible pixels of every object, and the pixels that it
        would have without the others.
    """
    width, height = scene.size
    ids = np.full((height, width), -1, dtype=np.int8)
    xs, ys = _samples(scene.width, width, 1), _samples(scene.height, height, 1)
    whole = []
    for index, thing in enumerate(scene.things):
        columns, rows = _window(thing, scene, width, height)
        inside = depth(thing.shape, *_local(thing, xs[slice(*columns)], ys[slice(*rows)])) >= 0
        ids[slice(*rows), slice(*columns)][inside] = index
        whole.append(int(np.count_nonzero(inside)))
    seen = np.bincount(ids.ravel() + 1, minlength=len(scene.things) + 1)[1:]
    return ids, seen.tolist(), whole


def _samples(extent_: int, pixels: int, per_pixel: int) -> np.ndarray:
    """Positions of the samples along one direction in scene units; the middle ones of each pixel are its centre."""
    count = pixels * per_pixel
    return ((2 * np.arange(count, dtype=np.int64) + 1) * extent_ // (2 * count)).astype(np.int32)


def _window(thing: Thing, scene: Scene, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last-but-one column and row of the pixels that an object can touch."""
    half_x, half_y = extent(thing.shape, thing.side, thing.turn)
    columns = (thing.x - half_x) * width // scene.width, (thing.x + half_x) * width // scene.width + 1
    rows = (thing.y - half_y) * height // scene.height, (thing.y + half_y) * height // scene.height + 1
    return (max(columns[0], 0), min(columns[1], width)), (max(rows[0], 0), min(rows[1], height))


def _local(thing: Thing, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local coordinates (h, w) int32 of the points with the given scene coordinates (w,) and (h,)."""
    cos, sin = ROTATIONS[thing.turn]
    dx, dy = xs - thing.x, (ys - thing.y)[:, None]
    u = dx * cos // thing.side + dy * sin // thing.side
    v = dy * cos // thing.side - dx * sin // thing.side
    return u, v


def _paint(pixels: np.ndarray, thing: Thing, deep: np.ndarray, along: np.ndarray) -> None:
    """Paints one object over its window `pixels` (h, w, 3) uint16, given the depth of its samples (3h, 3w).

    `along` (3h, 3w) grows across the stripes of a striped object.
    """
    # One counter of four bits each for the samples of a pixel on the edge, in the light part and in the colour.
    edge, light, base = 1, 16, 256
    kinds = (deep >= 0).astype(np.uint16) * np.uint16(edge)
    if thing.fill == "solid":
        kinds[deep >= _EDGE] = base
    elif thing.fill == "outlined":
        kinds[deep >= _EDGE] = base
        kinds[deep >= RIMS[thing.shape]] = light
    else:
        stripes = np.where((along // _STRIPE) & 1, np.uint16(light), np.uint16(base))
        np.copyto(kinds, stripes, where=deep >= _EDGE)
    rows = kinds[0::3] + kinds[1::3] + kinds[2::3]
    counts = rows[:, 0::3] + rows[:, 1::3] + rows[:, 2::3]
    in_edge, in_light, in_base = counts & 15, (counts >> 4) & 15, counts >> 8
    rest = 9 - (in_edge + in_light + in_base)
    for channel, value in enumerate(thing.rgb):
        plane = pixels[:, :, channel]
        mix = plane * rest
        mix += in_base * np.uint16(value)
        mix += in_light * np.uint16((value + 255 * 4) // 5)
        mix += in_edge * np.uint16(value * 2 // 5)
        plane[:] = (mix + 4) // 9


def _background(scene: Scene, width: int, height: int) -> np.ndarray:
    """The picture (H, W, 3) uint16 before any object is painted."""
    back = scene.background
    xs, ys = _samples(scene.width, width, 1), _samples(scene.height, height, 1)
    image = np.empty((height, width, 3), dtype=np.uint16)
    if back.kind == "plain":
        image[:] = back.first
        return image
    if back.kind == "noisy":
        # The noise belongs to cells of one pixel at the scene's own size, so that it is the same at every size.
        noise = _hash((ys // UNIT)[:, None], xs // UNIT, back.seed)
        for channel, value in enumerate(back.first):
            grain = (noise & 31) + ((noise >> (12 + 5 * channel)) & 15)  # 0 to 46, shared in part by the channels
            image[:, :, channel] = grain + np.uint32(value - 23)
        return image
    weight = _gradient(back, scene, xs, ys) if back.kind == "gradient" else _texture(back, xs, ys)
    for channel in range(3):
        step = back.second[channel] - back.first[channel]
        image[:, :, channel] = back.first[channel] + ((weight * step) >> 8)
    return image


def _gradient(back: Background, scene: Scene, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Weight (H, W) int32 of the second colour, 0 to 256."""
    along_x, along_y = _DIRECTIONS[back.direction % len(_DIRECTIONS)]
    across = along_x * (xs if along_x >= 0 else xs - scene.width) // scene.width
    down = along_y * (ys if along_y >= 0 else ys - scene.height) // scene.height
    return down[:, None] + across


def _texture(back: Background, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Weight (H, W) int32 of the second colour, 0 to 256."""
    pattern = back.direction % 3
    cell = 900 + back.seed % 700  # scene units
    if pattern == 0:
        return (_clouds(back.seed, 2 * cell, xs, ys) * 3 + _clouds(back.seed + 1, cell // 2, xs, ys)) >> 2
    if pattern == 1:
        wave = np.abs((xs + (ys // 2)[:, None]) % (2 * cell) - cell)  # 0 to cell
        return wave * 160 // cell
    return (((xs // cell) + (ys // cell)[:, None]) & 1) * 110


def _clouds(seed: int, cell: int, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Smooth noise (H, W) int32, 0 to 255: random values on a lattice, linear between them."""
    column, row = xs // cell, ys // cell
    fine_x, fine_y = (xs - column * cell) * 256 // cell, ((ys - row * cell) * 256 // cell)[:, None]
    columns = np.arange(int(column[-1]) + 2, dtype=np.int32)
    rows = np.arange(int(row[-1]) + 2, dtype=np.int32)
    lattice = (_hash(rows[:, None], columns, seed) & 255).astype(np.int32)
    down = (lattice[row] * (256 - fine_y) + lattice[row + 1] * fine_y) >> 8  # (H, lattice columns)
    return (down[:, column] * (256 - fine_x) + down[:, column + 1] * fine_x) >> 8


def _hash(row: np.ndarray, column: np.ndarray, seed: int) -> np.ndarray:
    """32 random bits for every cell, as uint32 (the finaliser of MurmurHash3)."""
    value = row.astype(np.uint32) * np.uint32(0x9E3779B1) + column.astype(np.uint32) * np.uint32(0x85EBCA77)
    value = value ^ np.uint32(seed & 0xFFFFFFFF)
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    value = (value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return value ^ (value >> np.uint32(16))
