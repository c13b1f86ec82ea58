"""What every format becomes: one entry per image of a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refseg.data.formats.regions import RawReference, Size
from refseg.types import Expression


@dataclass(frozen=True, eq=False)
class Entry:
    """One image of a split with everything that is asked about it.

    Attributes:
        image_id: Identifier of the image, unique within its data set.
        file: Where the image should be; it may be missing.
        size: (H, W) if the annotations say it.
        references: What is referred to.
        expressions: The sentences; `reference` is an index into `references`.
        places: Folders that the image was looked for in.
    """

    image_id: str
    file: Path
    size: Size | None
    references: tuple[RawReference, ...]
    expressions: tuple[Expression, ...]
    places: tuple[Path, ...] = ()
