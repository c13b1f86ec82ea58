"""An explanation: its numbers, and how it is drawn and kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from refseg.data.transforms import InputConfig, logits_to_image
from refseg.explain.importance import Importance
from refseg.explain.panels import Panel
from refseg.explain.stamp import check_free, png_stamp, stamped_svg
from refseg.explain.words import Word
from refseg.files import sweep, write_beside
from refseg.prediction import Prediction

if TYPE_CHECKING:
    from PIL import Image

SCALE = 3.0  # pixels per 1/72 inch: 216 dots per inch


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Why a mask came out. H and W are the image's sides, N its expression's words.

    Attributes:
        model: Name of the model.
        method: Key of `refseg.methods.METHODS`; "clipseg", or empty, for models of the hub.
        prediction: The answer, with its image and the method's details, each without the axis of the expressions; their
            shapes are in the method's `forward`.
        words: N words; see `refseg.explain.words.Word`.
        importance: What leaving each of them out changes, three arrays (N,); see
            `refseg.explain.importance.Importance`.
        panels: What the method shows of its way; see `refseg.explain.panels`. None for models of the hub.
        input: What the network sees; None for models whose network is not known.
        question: SHA-256 of the image, the expression and the model.
    """

    model: str
    method: str
    prediction: Prediction
    words: tuple[Word, ...]
    importance: Importance
    panels: tuple[Panel, ...]
    input: InputConfig | None
    question: str

    def __repr__(self) -> str:
        """One line, without the pixels."""
        names = ", ".join(panel.name for panel in self.panels)
        return f"Explanation({self.prediction!r}, model={self.model!r}, words={len(self.words)}, panels=[{names}])"

    def panel(self, name: str) -> Panel:
        """The panel of that name.

        Raises:
            ValueError: There is none.
        """
        for panel in self.panels:
            if panel.name == name:
                return panel
        have = ", ".join(panel.name for panel in self.panels) or "none"
        raise ValueError(f"panel {name!r}: there is none; of this model there are {have}")

    def on_image(
        self,
        values: np.ndarray,
        size: tuple[int, int] | None = None,
        interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    ) -> np.ndarray:
        """Lays a map of the network input over the image.

        Args:
            values: (h, w), as panels and details have it.
            size: (H, W) of the result; the image's own by default.
            interpolation: How the values between the cells arise.

        Returns:
            (H, W) float32.

        Raises:
            ValueError: The map has another number of axes, or the network of this model is not known.
        """
        if self.input is None:
            raise ValueError(f"on_image: the network of {self.model} is not known; one of the six methods is accepted")
        values = np.asarray(values)
        if values.ndim != 2 or not values.size:
            raise ValueError(f"map of shape {values.shape}: one map (h, w) is accepted")
        height, width = self.prediction.mask.shape if size is None else size
        map_ = torch.from_numpy(values.astype(np.float32))[None, None]
        return logits_to_image(map_, (height, width), self.input, interpolation)[0].numpy()

    def numbers(self) -> dict[str, Any]:
        """What can be written as JSON: `model`, `expression`, `score`, `area`, and per word its numbers, or None."""
        rows = zip(self.words, self.importance.mask_change, self.importance.probability_fall,
                   self.importance.log_odds_fall, strict=True)  # fmt: skip
        words = [
            {"word": word.text, "read": word.read, "mask_change": _plain(change), "probability_fall": _plain(fall),
             "log_odds_fall": _plain(odds)}
            for word, change, fall, odds in rows
        ]  # fmt: skip
        answer = self.prediction
        score = None if answer.score is None else round(answer.score, 6)
        return {"model": self.model, "expression": answer.expression, "score": score, "area": answer.area,
                "words": words}  # fmt: skip

    def figure(self, scale: float = SCALE) -> Image.Image:
        """The figure in pixels, `scale` of them per 1/72 inch.

        Raises:
            ValueError: The scale is not between 0.5 and 10.
        """
        from refseg.explain.layout import page_of
        from refseg.explain.png import to_picture

        if not 0.5 <= scale <= 10:
            raise ValueError(f"scale {scale}: 0.5 to 10 pixels per 1/72 inch are accepted")
        return to_picture(page_of(self), scale)

    def svg(self) -> str:
        """The figure as an SVG document."""
        from refseg.explain.layout import page_of
        from refseg.explain.svg import to_svg
        from refseg.fields import printable

        return to_svg(page_of(self), f"{printable(self.prediction.expression)} ({printable(self.model)})")

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the figure as PNG or SVG, which the name's ending decides, and returns its path.

        Args:
            path: Ends in `.png` or `.svg`.
            overwrite: Replace what is there, whatever it is; without it only an earlier figure of the same image,
                expression and model.

        Raises:
            ValueError: The name has another ending, or something else is there.
            OSError: It cannot be written; what was there stays.
        """
        target = Path(path)
        check_free(target, self.question, overwrite)
        sweep(target.parent, target.name)
        content = self._content(target.suffix.lower())
        check_free(target, self.question, overwrite)  # drawing takes a while, in which another process may have written
        write_beside(target, lambda beside: beside.write_bytes(content))
        return target

    def _content(self, ending: str) -> bytes:
        """What a file of the figure holds."""
        if ending == ".svg":
            return stamped_svg(self.svg(), self.question).encode()
        picture, content = self.figure(), io.BytesIO()
        dots = (72 * SCALE,) * 2
        picture.save(content, format="PNG", dpi=dots, pnginfo=png_stamp(picture, self.question))
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        content = io.BytesIO()
        self.figure(1.5).save(content, format="PNG")
        return content.getvalue()


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
