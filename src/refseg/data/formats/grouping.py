"""Rows about images, references and sentences become one entry per image and split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from refseg.data.formats.entries import Entry
from refseg.data.formats.regions import RawReference, Size
from refseg.fields import as_id, as_name, as_text, needed, shown
from refseg.types import Expression

ALL = "all"  # the split of a file that has none
ORDER = ("train", "val", "test", "testA", "testB", "testC")


class Row(NamedTuple):
    """One sentence with what every format knows about it.

    Attributes:
        split: Its split; None where the file has none.
        ref_id: Identifier of its reference, if the row gives one.
        sent_id: Its identifier.
        text: The sentence.
        kind: Kind of the expression, if known.
        position: Place among the sentences of the image, if known; else they keep the order of the file.
        words: How many words the data set counts in the sentence, if it says.
    """

    split: str | None
    ref_id: str | None
    sent_id: str
    text: str
    kind: str | None = None
    position: int | None = None
    words: int | None = None


@dataclass(eq=False)
class _Image:
    """An entry that is still being filled; `places` has number, identity and row of each reference."""

    file: Path
    size: Size | None
    folders: tuple[Path, ...]
    references: list[RawReference] = field(default_factory=list)
    places: dict[str, tuple[int, Any, str]] = field(default_factory=dict)
    sentences: list[tuple[Row, int]] = field(default_factory=list)


class Grouping:
    """Collects rows; `splits` gives the entries.

    Args:
        source: The file, for messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._splits: dict[str | None, dict[str, _Image]] = {}
        self._sentences: dict[tuple[str | None, str], str] = {}
        self._references: dict[tuple[str | None, str], str] = {}
        self._files: dict[str, tuple[Path, str]] = {}

    def row(self, record: Mapping[str, Any], number: int, where: str) -> Row:
        """The columns of a record that are the same in every format; only `expression` must be there.

        Raises:
            ValueError: One of them is malformed; the message starts with `where`.
        """
        get = record.get
        split, ref_id, sent_id, kind, position = map(get, ("split", "ref_id", "sent_id", "kind", "position"))
        return Row(
            None if split is None else as_name(split, f"{where}: split"),
            None if ref_id is None else as_id(ref_id, f"{where}: ref_id"),
            f"row-{number}" if sent_id is None else as_id(sent_id, f"{where}: sent_id"),
            as_text(needed(record, "expression", where), f"{where}: expression"),
            None if kind is None else as_name(kind, f"{where}: kind"),
            None if position is None else as_position(position, f"{where}: position"),
        )

    def add(
        self,
        row: Row,
        image_id: str,
        file: Path,
        size: Size | None,
        reference: RawReference,
        identity: Any,
        where: str,
        places: tuple[Path, ...] = (),
    ) -> None:
        """Takes in a sentence.

        Args:
            row: The sentence.
            image_id: Its image.
            file: The image's file.
            size: (H, W) of the image, if known.
            reference: Its reference; of all with the same `ref_id` the first is kept.
            identity: What makes the reference; rows with the same `ref_id` must agree in it.
            where: The place, for messages.
            places: Folders that the file was looked for in.

        Raises:
            ValueError: The row contradicts an earlier one; names both.
        """
        if self._splits and (row.split is None) != (None in self._splits):
            raise ValueError(
                f"{where}: split is {'missing, others have one' if row.split is None else 'given, others have none'}; "
                "a split in every row, or in none, is accepted"
            )
        if (known := self._files.setdefault(image_id, (file, where)))[0] is not file and known[0] != file:
            raise ValueError(
                f"{where}: image {image_id} is {file}, but {known[0]} at {known[1]}; one file per image_id is accepted"
            )
        if first := self._sentences.get((row.split, row.sent_id)):
            raise ValueError(f"{where}: sent_id {row.sent_id} is also at {first}; every sent_id once is accepted")
        images, ref_id = self._splits.setdefault(row.split, {}), reference.ref_id
        image = images.setdefault(image_id, _Image(file, size, places))
        if image.size is None:
            image.size = size
        if ref_id not in image.places:
            if first := self._references.get((row.split, ref_id)):
                raise ValueError(
                    f"{where}: ref_id {ref_id} is of another image at {first}; every ref_id in one image is accepted"
                )
            image.places[ref_id] = (len(image.references), identity, where)
            image.references.append(reference)
            self._references[row.split, ref_id] = where
        number, before, first = image.places[ref_id]
        if before != identity:
            raise ValueError(
                f"{where}: ref_id {ref_id} has another mask or category than at {first}; the same is accepted"
            )
        self._sentences[row.split, row.sent_id] = where
        image.sentences.append((row, number))

    def splits(self) -> dict[str, tuple[Entry, ...]]:
        """The entries of each split, the splits in the usual order, images as they came.

        Raises:
            ValueError: There was no row.
        """
        if not self._splits:
            raise ValueError(f"{self._source}: holds no expressions; at least one is needed")
        return sorted_splits(
            {
                ALL if split is None else split: tuple(_entry(image_id, image) for image_id, image in images.items())
                for split, images in self._splits.items()
            }
        )


def as_position(value: Any, where: str) -> int | None:
    """The place of a sentence among those of its image; our own exports write it, so that nothing changes its order.

    Raises:
        ValueError: It is no whole number.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:  # from CSV
        return int(value)
    if value is not None and type(value) is not int:
        raise ValueError(f"{where}: {shown(value)}; a whole number is accepted")
    return value


def sorted_splits(splits: Mapping[str, tuple[Entry, ...]]) -> dict[str, tuple[Entry, ...]]:
    """train, val, test, testA, ..., then all others by name."""
    known = {split: place for place, split in enumerate(ORDER)}
    return {s: splits[s] for s in sorted(splits, key=lambda s: (known.get(s, len(known)), s))}


def _entry(image_id: str, image: _Image) -> Entry:
    sentences = image.sentences
    if all(row.position is not None for row, _ in sentences):
        sentences = sorted(sentences, key=lambda sentence: sentence[0].position or 0)
    return Entry(
        image_id,
        image.file,
        image.size,
        tuple(image.references),
        tuple(Expression(row.sent_id, row.text, number, row.kind, row.words) for row, number in sentences),
        image.folders,
    )
