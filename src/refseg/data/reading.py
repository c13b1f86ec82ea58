"""How the files of a data set are read, where they leave a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from refseg.checked import Checked
from refseg.data.formats.mask_pictures import Foreground, parse_foreground
from refseg.data.formats.regions import Overlap

Orientation = Literal["fitting", "stored", "shown"]


@dataclass(frozen=True)
class Reading(Checked):
    """How the files of a data set are read.

    Attributes:
        overlap: What becomes of pixels that several parts of a mask cover; see `refseg.data.formats.regions.draw`.
        images: Folder of the images, where they are not in the usual place.
        mask_values: Which values are the object in pictures of masks of which the file does not say it; see
            `refseg.data.formats.mask_pictures.parse_foreground`. None for what is not black.
        orientation: Which pixels of a photo with an EXIF orientation were annotated: the "stored" ones, or the photo as
            it is "shown". With "fitting" a photo is read as shown if its annotations fit that alone, and refused else.
        skip_bad: Leave out what cannot be read or contradicts itself, instead of stopping.
    """

    overlap: Overlap = "union"
    images: Path | None = None
    mask_values: str | None = None
    orientation: Orientation = "fitting"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        """Refuses values that mean nothing.

        Raises:
            ValueError: Names the option, its value and what is accepted.
        """
        super().__post_init__()
        _ = self.foreground

    @property
    def foreground(self) -> Foreground | None:
        """The values that are the object, parsed."""
        return None if self.mask_values is None else parse_foreground(self.mask_values, "--mask-values")

    @property
    def told(self) -> dict[str, Any]:
        """What decides which pixels are read, as plain data; where the images lie does not."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "images"}


AS_IT_IS = Reading()
TOLD: Mapping[str, Any] = AS_IT_IS.told  # of whoever was told nothing
