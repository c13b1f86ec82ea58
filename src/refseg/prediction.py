"""The answer to one expression: a mask, and what can be done with it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refseg.files import write_beside
from refseg.masks import largest_piece

if TYPE_CHECKING:
    from PIL import Image


AT_ONCE = 2**20  # pixels whose probabilities are added up together


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The answer to one expression, at the image's own size.

    Attributes:
        expression: The sentence as it was given.
        mask: (H, W) bool.
        score: Mean foreground probability over the mask, in [0, 1], and 0 when the mask is empty; None where a model
            gives no probabilities.
        logits: (H, W) float32 log-odds of the foreground; None where a model gives masks alone.
        details: What `details=True` asked for, else empty.
        image: (H, W, 3) uint8, the image that was asked about, for pictures; None where it was not kept.
        threshold: Probability above which a pixel is in the mask.
    """

    expression: str
    mask: np.ndarray
    score: float | None
    logits: np.ndarray | None
    details: dict[str, Any] = field(default_factory=dict)
    image: np.ndarray | None = None
    threshold: float = 0.5

    def __repr__(self) -> str:
        """One short line, without the pixels."""
        height, width = self.mask.shape
        text = self.expression if len(self.expression) <= 60 else self.expression[:57] + "..."
        score = "None" if self.score is None else f"{self.score:.3f}"
        return f"Prediction({text!r}, score={score}, area={self.area}, box={self.box}, size={width}x{height})"

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """(x, y, width, height) of the mask in pixels, or None when it is empty."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if rows.size == 0:
            return None
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(self.mask.sum())

    def at(self, threshold: float) -> Prediction:
        """The same answer with the mask where the probability is above another threshold.

        Raises:
            ValueError: The threshold is not between 0 and 1, or the model gave no log-odds.
        """
        if not (isinstance(threshold, Real) and 0 < threshold < 1):
            raise ValueError(f"threshold {threshold!r}: a probability between 0 and 1 is accepted")
        if self.logits is None:
            raise ValueError(f"threshold {threshold}: this model gives a mask without log-odds, so it has no other one")
        threshold = float(threshold)
        mask = self.logits > math.log(threshold / (1 - threshold))
        return replace(self, mask=mask, score=mean_probability(self.logits, mask), threshold=float(threshold))

    def largest(self) -> Prediction:
        """The same answer with the largest connected part of its mask, without specks; corners connect."""
        mask = largest_piece(self.mask)
        score = self.score if self.logits is None else mean_probability(self.logits, mask)
        return replace(self, mask=mask, score=score)

    def overlay(self, image: np.ndarray | None = None) -> Image.Image:
        """The image with the mask tinted and outlined.

        Args:
            image: (H, W, 3) uint8; the one that was asked about by default.

        Raises:
            ValueError: No image was kept, or it has another size than the mask.
        """
        from refseg.visualize import overlay

        pixels = self.image if image is None else np.asarray(image)
        if pixels is None:
            raise ValueError("overlay: the image was not kept with this prediction; overlay(image) is accepted")
        if pixels.shape != (*self.mask.shape, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"image of shape {pixels.shape} and type {pixels.dtype}: (H, W, 3) uint8 of the mask's "
                             f"size {self.mask.shape} is accepted")  # fmt: skip
        return overlay(pixels, self.mask)

    def save(self, path: str | Path) -> Path:
        """Writes the mask as a PNG of 0 and 255 at the image's own size, and returns its path.

        Raises:
            ValueError: The name does not end in `.png`.
            OSError: It cannot be written; what was there stays.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise ValueError(f"{target}: a name that ends in .png is accepted, since a mask must lose no pixel")
        write_beside(target, lambda beside: self._picture().save(beside, format="PNG"))
        return target

    def to_coco(self) -> dict[str, Any]:
        """The mask as COCO's results have it, without `image_id` and `category_id`.

        Returns:
            `segmentation` as compressed run-length code, `bbox` [x, y, width, height] (zeros when empty), `area`,
            `score` (None where the model gives none) and `expression`.
        """
        from refseg.data.formats.rle import encode_rle

        return {
            "segmentation": encode_rle(self.mask),
            "bbox": list(self.box or (0, 0, 0, 0)),
            "area": self.area,
            "score": self.score,
            "expression": self.expression,
        }

    def to_supervision(self) -> Any:
        """The answer as Roboflow supervision's `Detections`: one object, or none where the mask is empty.

        `confidence` is the score, left out where the model gives none; `data` has the `expression`.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ImportError("to_supervision needs the library supervision; `pip install supervision`") from error
        if self.box is None:
            return Detections.empty()
        x, y, width, height = self.box
        return Detections(
            xyxy=np.array([[x, y, x + width, y + height]], dtype=np.float32),
            mask=self.mask[None],
            confidence=None if self.score is None else np.array([self.score], dtype=np.float32),
            class_id=np.zeros(1, dtype=int),
            data={"expression": np.array([self.expression])},
        )

    def _picture(self) -> Image.Image:
        from PIL import Image

        return Image.fromarray(self.mask.astype(np.uint8) * 255)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay, or the mask where no image was kept."""
        content = io.BytesIO()
        (self._picture() if self.image is None else self.overlay()).save(content, format="PNG")
        return content.getvalue()


def mean_probability(logits: np.ndarray, mask: np.ndarray) -> float:
    """Mean foreground probability over a mask, from (H, W) log-odds; 0 for an empty one."""
    inside, total = logits[mask], 0.0
    for first in range(0, inside.size, AT_ONCE):
        total += float((0.5 * (1 + np.tanh(inside[first : first + AT_ONCE].astype(np.float64) / 2))).sum())
    return total / inside.size if inside.size else 0.0
