"""A step of a pipeline of one's own: Ray Data, or whatever maps tables to tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refseg.annotate.answering import answered, check_threshold
from refseg.annotate.sinks import schema
from refseg.annotate.tables import row_of_record


class AnnotateBatch:
    """Answers the rows of tables, as `refseg annotate` does: `dataset.map_batches(AnnotateBatch, ...)`.

    Made once in every worker, which then holds the model.

    Args:
        model: Packaged name, folder, or name on the hub.
        threshold: Probability above which a pixel is in the mask.
        device: Where it computes; CUDA where there is one by default.
        images: Folder that paths of images are relative to.
        precision: In which it answers; fp32, or what an export has, by default.

    Raises:
        ValueError: There is no such model or device, or the threshold is none.
    """

    def __init__(
        self,
        model: str,
        threshold: float = 0.5,
        device: str | None = None,
        images: str = "",
        precision: str | None = None,
    ) -> None:
        from refseg.predictor import Predictor

        self.predictor = Predictor.from_pretrained(model, device, precision)
        check_threshold(self.predictor.about, threshold)
        self.threshold, self.images = threshold, Path(images)

    def __call__(self, table: Any) -> Any:
        """Answers a table.

        Args:
            table: A `pyarrow.Table` with `image`, `path` or `bytes` (a path, the bytes of a file, or an object with
                both), and `expression` or `expressions`; an `id` is kept.

        Returns:
            A `pyarrow.Table` with a row for every expression; see `refseg.annotate.answering.answered`.
        """
        import pyarrow

        rows = (row_of_record(record, self.images, number) for number, record in enumerate(table.to_pylist(), start=1))
        return pyarrow.Table.from_pylist(list(answered(self.predictor, rows, "", self.threshold)), schema=schema())
