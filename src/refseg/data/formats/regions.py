"""What files store of a mask, and how it becomes pixels.

H and W are the image's height and width. Nothing here is drawn before it is asked for: an index of 50,000 references
holds outlines and codes, not masks.

A mask that is given and turns out empty is an error, never a mask of nothing: corners of a box, shares of the image's
sides and empty lists are no outlines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from PIL import Image

from refseg.data.formats.mask_pictures import CHOICE, Foreground, look_at_mask
from refseg.data.formats.outlines import fill_outline
from refseg.data.formats.rle import decode_rle, encode_rle, runs_of
from refseg.fields import as_float, shown

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Overlap = Literal["union", "lavt"]
ACCEPTED = (
    "a list of polygons [[x, y, x, y, ...], ...], a COCO run-length code {size, counts}, or a list of codes is accepted"
)

_NUMBERS = {int, float}
_FARTHEST = 1e6  # a coordinate beyond this is damage
_LONG = 1e5  # pixels along an outline up to which COCO's library draws it, with memory for every step of its way
_SLACK, _SHARE = 3.0, 0.1  # pixels, and share of its side, by which a mask may miss its annotated box
_TIMES = 2.0  # and how many times larger or smaller than the annotated area it may be


@dataclass(frozen=True, eq=False)
class Region:
    """One stored mask; exactly one of the three forms is given.

    Attributes:
        polygons: Outlines, each a flat float64 array x, y, x, y, ... in pixels.
        codes: Compressed COCO run-length codes `{"size": [H, W], "counts": str}`.
        file: A picture of the image's size; see `refseg.data.formats.mask_pictures`.
        foreground: Which values of that picture are the object, where somebody said so.
        box: x, y, width and height in pixels that the file says of it.
        area: How many pixels the file says that it has.
    """

    polygons: tuple[np.ndarray, ...] | None = None
    codes: tuple[Mapping[str, Any], ...] | None = None
    file: Path | None = None
    foreground: Foreground | None = None
    box: Box | None = None
    area: float | None = None


@dataclass(frozen=True, eq=False)
class RawReference:
    """One object as a file describes it; several regions are one mask, and no region says that nothing is meant.

    Attributes:
        ref_id: Identifier, unique within data set and split.
        category: Name of its category; None where there is none, or where several targets differ in it.
        regions: Where it is. An expression with several targets has the regions of all of them.
        extra: What else the format knows: `ann_ids` (the annotations it is made of) and `same_category` (how many
            annotated objects of its category the image has, itself included).
    """

    ref_id: str
    category: str | None
    regions: tuple[Region, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


class BadMask(ValueError):
    """A stored mask that is none.

    Args:
        finding: What that is called, a key of `refseg.data.checks.findings.FINDINGS`.
        message: What is wrong, and what is accepted.
    """

    def __init__(self, finding: str, message: str) -> None:
        super().__init__(message)
        self.finding = finding


@dataclass(frozen=True, eq=False)
class Drawn:
    """A reference as pixels.

    Attributes:
        mask: (H, W) bool.
        overlapping: Whether parts of it overlap.
        notes: What was passed over: name of the finding, and what it says of this mask.
    """

    mask: np.ndarray
    overlapping: bool
    notes: tuple[tuple[str, str], ...]


def parse_segmentation(value: Any, where: str, box: Any = None, area: Any = None) -> Region:
    """COCO's `segmentation`: a list of polygons, a code, or (RefCLEF) a list of codes.

    Args:
        value: The segmentation.
        where: The beginning of messages.
        box: The annotation's `bbox`, and
        area: its `area`, against which the mask is held when it is drawn; None, or what is no box and no number, where
            the file says nothing.

    Raises:
        ValueError: It is none of them; the message starts with `where`.
    """
    box, area = _box(box), _area(area)
    if isinstance(value, Mapping):
        return Region(codes=(_code(value, where),), box=box, area=area)
    if isinstance(value, list | tuple):
        if value and all(isinstance(part, Mapping) for part in value):
            return Region(codes=tuple(_code(part, where) for part in value), box=box, area=area)
        return Region(polygons=tuple(_polygon(part, where) for part in value), box=box, area=area)
    raise ValueError(f"{where}: mask {shown(value)}; {ACCEPTED}")


def _box(value: Any) -> Box | None:
    """A box in pixels; None where there is none or only a placeholder, a pixel at most."""
    numbers = list(map(as_float, value)) if isinstance(value, list | tuple) else []
    if len(numbers) != 4 or None in numbers:
        return None
    x, y, width, height = cast(list[float], numbers)
    finite = math.isfinite(x + y + width + height)
    return (x, y, width, height) if finite and width > 0 and height > 0 and width * height > 1 else None


def _area(value: Any) -> float | None:
    """An area in pixels; None where there is none."""
    area = as_float(value)
    return area if area is not None and area > 0 else None


def _polygon(value: Any, where: str) -> np.ndarray:
    # Fewer than three points are no area, but published files hold a few such outlines beside good ones.
    numbers = isinstance(value, list | tuple) and set(map(type, value)) <= _NUMBERS
    if not numbers or len(value) % 2:
        raise ValueError(f"{where}: polygon {shown(value)}; a list of x and y, x and y, ... is accepted")
    try:
        polygon = np.array(value, dtype=np.float64)
        pixels = bool((np.abs(polygon) < _FARTHEST).all())
    except OverflowError:  # a whole number of hundreds of digits
        pixels = False
    if not pixels:
        raise ValueError(f"{where}: polygon {shown(value)}; coordinates of pixels are accepted")
    return polygon


def _code(value: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    try:
        code = dict(value)
        height, width, runs = runs_of(code)
        if not isinstance(code["counts"], str):  # the packed form is what is kept: a list takes fifty times the memory
            mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
            code = encode_rle(mask)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return {"size": [height, width], "counts": code["counts"]}


def region_size(region: Region) -> Size | None:
    """(H, W) of the image as far as the stored form says it."""
    return (region.codes[0]["size"][0], region.codes[0]["size"][1]) if region.codes else None


def with_foreground(reference: RawReference, foreground: Foreground | None) -> RawReference:
    """The reference with what is the object in its pictures, where the file itself does not say it."""
    if foreground is None or all(region.file is None or region.foreground for region in reference.regions):
        return reference
    regions = tuple(
        replace(region, foreground=foreground) if region.file is not None and region.foreground is None else region
        for region in reference.regions
    )
    return replace(reference, regions=regions)


def rasterise(reference: RawReference, size: Size, overlap: Overlap = "union") -> np.ndarray:
    """The pixels of a reference, (H, W) bool; see `draw`.

    Raises:
        ValueError: See `draw`.
    """
    return draw(reference, size, overlap).mask


def draw(reference: RawReference, size: Size, overlap: Overlap = "union") -> Drawn:
    """Draws a reference.

    Args:
        reference: What to draw.
        size: (H, W) of its image.
        overlap: What becomes of pixels that several parts (polygons, codes, pictures) cover. "union" keeps them. "lavt"
            makes them background: LAVT and its heirs add the parts up and keep what equals 1, which cuts holes
            into objects that were annotated in overlapping parts. It is there to reproduce their numbers.

    Raises:
        BadMask: A part belongs to an image of another size, cannot be drawn or lies where its annotated box is not;
            its file cannot be read; or a mask is given and none of its parts has a pixel.
    """
    if overlap not in get_args(Overlap):
        raise ValueError(f"overlap {overlap!r}: unknown; accepted are {', '.join(get_args(Overlap))}")
    count = np.zeros(size, dtype=np.uint8)  # of parts, where 2 stands for any more
    notes: list[tuple[str, str]] = []
    for region in reference.regions:
        whole, empty = np.zeros(size, dtype=bool), 0
        for part in _parts(region, size, notes):
            empty += not part.any()
            whole |= part
            count += part & (count < 2)
        if empty and whole.any():
            notes.append(("parts without area", f"{empty} of its parts"))
        _hold_against(region, whole, notes)
    if reference.regions and not count.any():
        raise BadMask("empty masks", f"its mask is given but empty ({_why_empty(reference.regions)})")
    return Drawn(count > 0 if overlap == "union" else count == 1, bool((count > 1).any()), tuple(notes))


def _parts(region: Region, size: Size, notes: list[tuple[str, str]]) -> Iterator[np.ndarray]:
    """Each part as (H, W) bool, one at a time: an object may have thousands of them."""
    # Outlines in shares of the image's sides would be its first pixel.
    shares = min(size) > 1 and all(map(_within_one, region.polygons or ()))
    for polygon in region.polygons or ():
        yield np.zeros(size, dtype=bool) if shares else _draw(polygon, size)
    for code in region.codes or ():
        if tuple(code["size"]) != size:
            raise _other_size("", tuple(code["size"]), size)
        yield decode_rle(dict(code))
    if region.file is not None:
        try:
            picture = look_at_mask(region.file, region.foreground)
        except ValueError as error:
            raise BadMask("unreadable masks", str(error)) from error
        if picture.mask is None:
            raise BadMask(picture.found, f"{region.file}: {picture.says}; {CHOICE}")
        if picture.found:
            notes.append((picture.found, picture.says))
        if picture.mask.shape != size:
            raise _other_size(f"{region.file}: ", picture.mask.shape, size)
        yield picture.mask


def _within_one(polygon: np.ndarray) -> bool:
    """Whether no coordinate is below 0 or above 1."""
    return not polygon.size or (float(polygon.min()) >= 0 and float(polygon.max()) <= 1)


def _why_empty(regions: Sequence[Region]) -> str:
    """What a mask without a pixel probably was meant to be."""
    polygons = [polygon for region in regions for polygon in region.polygons or ()]
    if any(0 < polygon.size <= 4 for polygon in polygons):
        return "an outline needs three points; four numbers may be a box, which is no mask"
    if polygons and all(map(_within_one, polygons)) and any(polygon.size for polygon in polygons):
        return "coordinates from 0 to 1 may be shares of the image's sides; pixels are accepted"
    files = ", ".join(str(region.file) for region in regions if region.file is not None)
    if files:
        return f"{files} shows nothing but background"
    return "its outlines lie outside the image, or between two pixels" if polygons else "an empty list, or nothing set"


def _hold_against(region: Region, mask: np.ndarray, notes: list[tuple[str, str]]) -> None:
    """Compares a region's mask with what its file says of it.

    Raises:
        BadMask: It lies elsewhere.
    """
    if region.box is None or not mask.any():
        return
    found = _clipped(_extent(region, mask), mask.shape)
    x, y, width, height = region.box
    # Some write the two corners in place of corner and sides.
    corners = ((x, y, x + width, y + height), (x, y, width, height))
    if not any(_near(found, _clipped(edges, mask.shape)) for edges in corners):
        raise BadMask(
            "masks against their boxes",
            f"its mask lies within x {found[0]:g} to {found[2]:g}, y {found[1]:g} to {found[3]:g}, its annotated bbox "
            f"[{x:g}, {y:g}, {width:g}, {height:g}] elsewhere; a mask within its box, or no bbox, is accepted",
        )
    told, pixels = region.area, int(mask.sum())
    of_box = told is not None and abs(told - width * height) <= 0.02 * told  # which some write in its place
    if told is not None and not of_box and not told / _TIMES - _SLACK <= pixels <= told * _TIMES + _SLACK:
        notes.append(("masks against their areas", f"{pixels} pixels, annotated as {told:g}"))


def _extent(region: Region, mask: np.ndarray) -> Box:
    """Left, top, right and bottom edge: of the outlines, which may be thinner than pixels, else of the mask."""
    points = [polygon.reshape(-1, 2) for polygon in region.polygons or () if polygon.size >= 6]
    if points:
        low, high = np.concatenate(points).min(0), np.concatenate(points).max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _clipped(edges: Box, shape: tuple[int, ...]) -> Box:
    left, top, right, bottom = edges
    height, width = shape
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))


def _near(one: Box, other: Box) -> bool:
    """Whether two boxes, as left, top, right and bottom edges, are the same but for what tools differ in."""
    spare = [_SLACK + _SHARE * max(some[i + 2] - some[i] for some in (one, other)) for i in (0, 1)]
    return all(abs(a - b) <= spare[i % 2] for i, (a, b) in enumerate(zip(one, other, strict=True)))


def _other_size(name: str, found: tuple[int, ...], size: Size) -> BadMask:
    return BadMask("masks of another size", f"{name}mask of {_named(found)} for an image of {_named(size)}")


def _draw(polygon: np.ndarray, size: Size) -> np.ndarray:
    """A filled outline by COCO's own rule for pixels on the edge, so that masks equal everyone else's."""
    points = polygon.reshape(-1, 2)
    if len(points) < 3:  # no area; COCO's library takes four numbers for a box
        return np.zeros(size, dtype=bool)
    if float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) > _LONG:
        try:
            return fill_outline(points, size)
        except ValueError as error:
            raise BadMask("unreadable masks", str(error)) from error
    from pycocotools import mask as coco  # here: reading an index must not need it

    height, width = size
    return coco.decode(coco.frPyObjects([points.ravel().tolist()], height, width))[:, :, 0].astype(bool)


def _named(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]} pixels"


def check_size(height: Any, width: Any, where: str) -> Size:
    """(H, W) as a file gives it.

    Raises:
        ValueError: No image has that size.
    """
    sides = [_side(side) for side in (height, width)]
    if not all(sides) or math.prod(sides) > (Image.MAX_IMAGE_PIXELS or 2**27):
        raise ValueError(
            f"{where}: width {shown(width)}, height {shown(height)}; whole numbers from 1, of at most "
            f"{Image.MAX_IMAGE_PIXELS} pixels together, are accepted"
        )
    return sides[0], sides[1]


def _side(value: Any) -> int:
    """A side in pixels, of a whole number in any spelling; 0 for what is none."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 12:
        return int(value)
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int and value > 0 else 0
