"""What files store of a mask, and how it becomes pixels.

H and W are the image's height and width. Nothing here is drawn before it is asked for: an index of 50,000 references
holds outlines and codes, not masks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from refseg.data.formats.fields import shown
from refseg.data.formats.outlines import fill_outline
from refseg.data.formats.rle import decode_rle, encode_rle, runs_of

Size = tuple[int, int]
Overlap = Literal["union", "lavt"]
ACCEPTED = (
    "a list of polygons [[x, y, x, y, ...], ...], a COCO run-length code {size, counts}, or a list of codes is accepted"
)

_FARTHEST = 1e6  # a coordinate beyond this is damage
_LONG = 1e5  # pixels along an outline up to which COCO's library draws it, with memory for every step of its way


@dataclass(frozen=True, eq=False)
class Region:
    """One stored piece of a mask; exactly one of the three forms is given.

    Attributes:
        polygons: Outlines, each a flat float64 array x, y, x, y, ... in pixels; none of them means an empty region.
        rle: Compressed COCO run-length code `{"size": [H, W], "counts": str}`.
        file: A picture of the image's size, in which everything that is not black is foreground.
    """

    polygons: tuple[np.ndarray, ...] | None = None
    rle: Mapping[str, Any] | None = None
    file: Path | None = None


@dataclass(frozen=True, eq=False)
class RawReference:
    """One object as a file describes it; several regions are one mask, and no region is an empty one.

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


def parse_segmentation(value: Any, where: str) -> tuple[Region, ...]:
    """COCO's `segmentation`: a list of polygons, a code, or (RefCLEF) a list of codes.

    Raises:
        ValueError: It is none of them; the message starts with `where`.
    """
    if isinstance(value, Mapping):
        return (_code(value, where),)
    if isinstance(value, list | tuple):
        if value and all(isinstance(part, Mapping) for part in value):
            return tuple(_code(part, where) for part in value)
        return (Region(polygons=tuple(_polygon(part, where) for part in value)),)
    raise ValueError(f"{where}: mask {shown(value)}; {ACCEPTED}")


def _polygon(value: Any, where: str) -> np.ndarray:
    # Two points are no area, but the published COCO files hold a few such outlines.
    numbers = isinstance(value, list | tuple) and all(type(v) in (int, float) for v in value)
    if not numbers or len(value) < 4 or len(value) % 2:
        raise ValueError(f"{where}: polygon {shown(value)}; x and y of at least two points are accepted")
    if not all(-_FARTHEST < v < _FARTHEST for v in value):
        raise ValueError(f"{where}: polygon {shown(value)}; coordinates of pixels are accepted")
    return np.array(value, dtype=np.float64)


def _code(value: Mapping[str, Any], where: str) -> Region:
    try:
        code = dict(value)
        height, width, runs = runs_of(code)
        if not isinstance(code["counts"], str):  # the packed form is what is kept: a list takes fifty times the memory
            mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
            code = encode_rle(mask)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Region(rle={"size": [height, width], "counts": code["counts"]})


def region_size(region: Region) -> Size | None:
    """(H, W) of the image as far as the stored form says it."""
    return (region.rle["size"][0], region.rle["size"][1]) if region.rle is not None else None


def rasterise(reference: RawReference, size: Size, overlap: Overlap = "union") -> np.ndarray:
    """Draws a reference.

    Args:
        reference: What to draw.
        size: (H, W) of its image.
        overlap: What becomes of pixels that several parts (polygons, codes, pictures) cover. "union" keeps them. "lavt"
            makes them background: LAVT and its heirs add the parts up and keep what equals 1, which cuts holes
            into objects that were annotated in overlapping parts. It is there to reproduce their numbers.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: A part belongs to an image of another size, cannot be drawn, or its file cannot be read.
    """
    if overlap not in get_args(Overlap):
        raise ValueError(f"overlap {overlap!r}: unknown; accepted are {', '.join(get_args(Overlap))}")
    count = np.zeros(size, dtype=np.uint8)  # of parts, where 2 stands for any more
    for region in reference.regions:
        for part in _parts(region, size):
            count += part & (count < 2)
    return count > 0 if overlap == "union" else count == 1


def _parts(region: Region, size: Size) -> Iterator[np.ndarray]:
    """Each part as (H, W) bool, one at a time: an object may have thousands of them."""
    for polygon in region.polygons or ():
        yield _draw(polygon, size)
    if region.rle is not None:
        if tuple(region.rle["size"]) != size:
            raise ValueError(f"mask of {_named(tuple(region.rle['size']))} for an image of {_named(size)}")
        yield decode_rle(dict(region.rle))
    if region.file is not None:
        mask = read_mask(region.file)
        if mask.shape != size:
            raise ValueError(f"{region.file}: mask of {_named(mask.shape)} for an image of {_named(size)}")
        yield mask


def _draw(polygon: np.ndarray, size: Size) -> np.ndarray:
    """A filled outline by COCO's own rule for pixels on the edge, so that masks equal everyone else's."""
    points = polygon.reshape(-1, 2)
    if len(points) < 3:  # COCO's library takes four numbers for a box
        points = np.concatenate([points, points[-1:]])
    if float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) > _LONG:
        return fill_outline(points, size)
    from pycocotools import mask as coco  # here: reading an index must not need it

    height, width = size
    return coco.decode(coco.frPyObjects([points.ravel().tolist()], height, width))[:, :, 0].astype(bool)


def read_mask(path: Path) -> np.ndarray:
    """A picture of a mask: what is not black (in a palette picture, not colour 0) is foreground.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: The file is missing, damaged or too large.
    """
    accepted = "a PNG with 0 for background is accepted"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                # What is opaque is not yet foreground.
                plain = {"LA": "L", "PA": "RGB", "RGBA": "RGB"}.get(picture.mode, picture.mode)
                values = np.asarray(picture.convert(plain) if plain != picture.mode else picture)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; {accepted}") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{path}: not a readable mask ({reason}); {accepted}") from error
    return (values != 0).any(axis=2) if values.ndim == 3 else values != 0


def _named(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]} pixels"


def check_size(height: Any, width: Any, where: str) -> Size:
    """(H, W) as a file gives it.

    Raises:
        ValueError: No image has that size.
    """
    whole = [side for side in (height, width) if type(side) is int and side > 0]
    if len(whole) != 2 or math.prod(whole) > (Image.MAX_IMAGE_PIXELS or 2**27):
        raise ValueError(f"{where}: {shown(width)} x {shown(height)} pixels; the size of an image is accepted")
    return height, width
