"""Finding the photos that annotations name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refseg.files import is_file


class PhotoFinder:
    """Finds photos in several folders; the folder of the last one is tried first, as they mostly lie in one.

    A name may begin with the name of the folder that it lies in: `images/1.jpg` is found in `images`.

    Args:
        folders: At least one, in the order in which they are looked through.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._there = [folder for folder in folders if folder.is_dir()]
        self._found: dict[str, Path] = {}

    def find(self, name: str) -> Path:
        """The file of a photo; one that is found nowhere has the first place it could be in."""
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> Path:
        for place, folder in enumerate(self._there):
            for file in (folder / name, *_without_its_name(folder, name)):
                if is_file(file):
                    self._there.insert(0, self._there.pop(place))
                    return file
        return (self._there[0] if self._there else self.folders[0]) / name


def _without_its_name(folder: Path, name: str) -> tuple[Path, ...]:
    first, _, rest = name.replace("\\", "/").removeprefix("./").partition("/")
    return (folder / rest,) if rest and first == folder.name else ()
