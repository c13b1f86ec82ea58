"""What a run trains on: one data set, or several at once without any image that one of them scores."""

from __future__ import annotations

import bisect
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refseg.data.checks.leakage import PUBLISHED, image_names, is_trained
from refseg.data.index import IndexedSamples, PerReference
from refseg.data.reading import AS_IT_IS, Reading
from refseg.data.sets import open_splits
from refseg.files import hash_of
from refseg.types import Dataset, Sample


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a run reads.

    Attributes:
        train: The items of training: images with their expressions, or single references.
        val: The split that decides which weights are the best.
        texts: All sentences of training, where the data has an end.
        taken_out: How many images of training splits were left out because a val or test split has them.
        left_out: What was left out because it cannot be used, a message each.
    """

    train: Dataset
    val: Dataset
    texts: tuple[str, ...]
    taken_out: int
    left_out: tuple[str, ...] = ()


class Joined:
    """Splits behind one another as one.

    Args:
        parts: At least one, none endless.
    """

    split = "train"
    endless = False

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = tuple(parts)
        self.name = " + ".join(part.name for part in parts)
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        """Number of items."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """One item.

        Raises:
            IndexError: There is no such item.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} {self.split}: there is no item {index}; it has {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        return self.parts[part][index - (self._ends[part - 1] if part else 0)]


def as_they_are(split: IndexedSamples) -> IndexedSamples:
    """A split of which nothing was looked at."""
    return split


def open_training(
    names: Sequence[str],
    per_reference: bool,
    reading: Reading = AS_IT_IS,
    look: Callable[[IndexedSamples], IndexedSamples] = as_they_are,
) -> TrainingData:
    """Opens the training splits of one or several data sets, and `val` of the first.

    Of one set, the published splits stay as they are. Of several, every image that is in any val or test split of any
    of them is taken out of training: RefCOCO, RefCOCO+ and RefCOCOg train on photos that another of them tests.

    Args:
        names: Names or paths, as `refseg.data.sets.open_data` takes them.
        per_reference: Whether a reference with its sentences is an item, as in the papers, rather than an image.
        reading: How files are read that leave a choice.
        look: Looks at the files of every split that is used, before anything else is done with it.

    Raises:
        ValueError: A set is missing, has no train or no val split, is named twice or endless beside others, or nothing
            is left to train on.
    """
    opened = {name: open_splits(name, reading) for name in names}
    if len(opened) < len(names):
        raise ValueError(f"data {', '.join(names)}: one of them twice; every set once is accepted")
    for number, (name, splits) in enumerate(opened.items()):
        needed = ("train", "val") if number == 0 else ("train",)
        if missing := [split for split in needed if split not in splits]:
            are = "is" if len(needed) == 1 else "are"
            raise ValueError(
                f"{name}: has no {missing[0]!r} split but {', '.join(splits)}; {' and '.join(needed)} {are} needed"
            )
    trains = [splits["train"] for splits in opened.values()]
    val = opened[names[0]]["val"]
    finite = [split for split in trains if isinstance(split, IndexedSamples)]
    if len(finite) < len(trains):
        if len(trains) > 1:
            raise ValueError(f"data {', '.join(names)}: an endless set cannot be mixed; export it first (data export)")
        return TrainingData(trains[0], val, (), 0)
    scored = _Scored(opened)
    kept = [scored.taken_out_of(split) for split in finite]
    taken_out = sum(map(len, finite)) - sum(map(len, kept))
    if len(finite) == 1 and taken_out:
        message = f"{names[0]}: {taken_out} images of its train split are in its val or test splits too"
        warnings.warn(message, stacklevel=2)
        kept, taken_out = finite, 0
    if not sum(len(split) for split in kept):
        raise ValueError(f"data {', '.join(names)}: no image is left to train on without those of val and test")
    kept = [look(split) for split in kept]
    if isinstance(val, IndexedSamples):
        val = look(val)
    kept = [split for split in kept if len(split)]
    if not kept or not len(val):
        raise ValueError(f"data {', '.join(names)}: nothing is left of it that can be used")
    left_out = tuple(dict.fromkeys(told for split in (*kept, val) for told in getattr(split, "left_out", ())))
    texts = tuple(e.text for split in kept for entry in split.entries for e in entry.expressions)
    items: list[Dataset] = [PerReference(split) if per_reference else split for split in kept]
    return TrainingData(items[0] if len(items) == 1 else Joined(items), val, texts, taken_out, left_out)


class _Scored:
    """The images of the splits on which nobody trains, by number, by path and by content.

    Args:
        opened: All splits of all sets.
    """

    def __init__(self, opened: Mapping[str, Mapping[str, Dataset]]) -> None:
        self._names: set[str] = set()
        self._by_size: dict[int, list[Path]] = {}  # files of which another may be a copy
        self._hashes: dict[Path, str] = {}
        for splits in opened.values():
            for split, samples in splits.items():
                if isinstance(samples, IndexedSamples) and not is_trained(split):
                    self._names |= set(image_names(samples.entries, False, samples.name in PUBLISHED))
                    for entry in samples.entries:
                        if (size := _size(entry.file)) is not None:
                            self._by_size.setdefault(size, []).append(entry.file)

    def taken_out_of(self, split: IndexedSamples) -> IndexedSamples:
        """A training split without them."""
        published = split.name in PUBLISHED
        kept = [
            entry
            for entry in split.entries
            if self._names.isdisjoint(image_names((entry,), False, published)) and not self._is_copy(entry.file)
        ]
        return IndexedSamples(split.name, split.split, kept, split.source, split.reading, split.left_out)

    def _is_copy(self, file: Path) -> bool:
        size = _size(file)
        alike = [] if size is None else self._by_size.get(size, [])
        return bool(alike) and any(self._hash(file) == self._hash(other) for other in alike)

    def _hash(self, file: Path) -> str:
        if file not in self._hashes:
            self._hashes[file] = hash_of(file)
        return self._hashes[file]


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None
