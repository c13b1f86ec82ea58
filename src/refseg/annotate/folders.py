"""A folder of images, with expressions that are asked of all of them or stand in files beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refseg.annotate.rows import IMAGES, Row, expressions_of_file, names_of_images
from refseg.annotate.sources import Chunk, Source, Span

BESIDE = (".json", ".txt")  # the first that is there counts


class Folder(Source):
    """The images of a folder by name; beside `a.jpg` may lie `a.json` or `a.txt`, which say what is asked."""

    kind = "folder"

    def add_identity(self, shard: int, digest: Any) -> None:
        """Names of the images, and names and sizes of the files beside them."""
        folder = self.path(shard)
        names = sorted(file.name for file in folder.iterdir())
        for name in names_of_images(names):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        if not self.asked:
            for name in (name for name in names if name.lower().endswith(BESIDE)):
                said = f"{name}\0{(folder / name).stat().st_size}\0"
                digest.update(said.encode("utf-8", "surrogateescape"))

    def spans(self, shard: int, size: int) -> Iterator[Span]:
        """As `Source.spans`; a chunk has the names of its images.

        Raises:
            ValueError: The folder holds no images.
        """
        folder = self.path(shard)
        names = names_of_images([file.name for file in folder.iterdir() if not file.is_dir()])
        if not names:
            raise ValueError(f"{self.shards[shard]}: holds no images; {', '.join(IMAGES)} are accepted")
        for first in range(0, len(names), size):
            part = tuple(names[first : first + size])
            yield Span(first, len(part), part)

    def read(self, chunk: Chunk) -> Iterator[Row]:
        """As `Source.read`."""
        folder = self.path(chunk.shard)
        for name in chunk.at:
            try:
                yield Row(folder / name, self.asked or _beside(folder / name), name, name=name, id=name)
            except (ValueError, OSError) as error:
                yield Row(folder / name, (), name, str(error), name=name, id=name)


def _beside(image: Path) -> tuple[str, ...]:
    for ending in BESIDE:
        file = image.with_suffix(ending)
        if file.is_file():
            return expressions_of_file(file.read_bytes(), ending == ".json", file.name)
    said = " or ".join(image.with_suffix(ending).name for ending in BESIDE)
    raise ValueError(f"{image.name}: nothing is asked; --expression, or {said} beside it, is accepted")
