"""Looks over a folder of data sets and says what is wrong with them, before a training run or a table of results does.

Every set is read by the code that reads it for training, whatever its format; nothing is changed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from refseg.data.checks.findings import FINDINGS, LIMITS, WORDS, Finding, Measure, Report
from refseg.data.checks.leakage import PUBLISHED, Images, TrainList, find_leaks, image_names, read_list
from refseg.data.formats.coco import EXPRESSIONS
from refseg.data.formats.entries import Entry
from refseg.data.formats.jsonl import NAMES
from refseg.data.formats.mask_pictures import mask_size
from refseg.data.formats.refer import EXPECTED, PRINTED, data_name, split_by
from refseg.data.formats.regions import BadMask, RawReference, Size, draw, region_size
from refseg.data.index import BadSample, IndexedSamples, is_outside
from refseg.data.reading import AS_IT_IS, Reading
from refseg.data.sets import read_splits
from refseg.fields import Problems
from refseg.files import is_file

EXAMPLES = 5
# Published splits that share images, and why that is known.
_SHARING: Mapping[str, str] = {
    "refcocog-google": "its authors split objects, not images",
    "refcoco-google": "its authors split objects, not images",
    "refclef-unc": "the published splits must share some, as together they count more images than the data set has",
}
_NEARLY = 0.01  # share by which the sentences of a split may differ from what papers print

ORIGINALS: Mapping[str, str] = {
    "refcoco": "https://github.com/lichengunc/refer (annotations), https://cocodataset.org (photos: train2014)",
    "refcoco+": "https://github.com/lichengunc/refer (annotations), https://cocodataset.org (photos: train2014)",
    "refcocog": "https://github.com/lichengunc/refer (annotations), https://cocodataset.org (photos: train2014)",
    "refclef": "https://github.com/lichengunc/refer (annotations; photos: saiapr_tc-12)",
    "grefcoco": "https://github.com/henghuiding/gRefCOCO (annotations), https://cocodataset.org (photos: train2014)",
}


def check(
    root: Path,
    fast: bool = False,
    measure: Measure = WORDS,
    train_list: Path | None = None,
    progress: Callable[[str], object] = lambda what: None,
    reading: Reading = AS_IT_IS,
) -> Report:
    """Looks over all data sets in and below a folder.

    Args:
        root: A folder, or the file of one data set.
        fast: Leave the images unopened.
        measure: Counts tokens.
        train_list: A file with an image's name or path in every line, of images that something is trained on. It then
            decides what is a leak between sets, instead of the sets' own training splits.
        progress: Is told what is looked at.
        reading: How files are read that leave a choice.

    Raises:
        ValueError: `root` is not there, or the list cannot be read.
    """
    if not root.exists():
        raise ValueError(f"{root}: no such folder; a folder with data sets, or the file of one, is accepted")
    return _Doctor(root, fast, measure, progress, reading).check(read_list(train_list) if train_list else None)


def find_sources(root: Path) -> tuple[list[Path], list[Path]]:
    """Files of data sets in and below a folder, and folders of known sets that lack theirs."""
    if root.is_file():
        return [root], []
    sources, lacking = [], []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):  # sets and photos are often links
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()  # a link back up
            continue
        seen.add(real)
        below.sort()
        here = [Path(folder, name) for name in sorted(files)]
        found = [path for path in here if split_by(path) is not None or path.name in NAMES]
        if "instances.json" in files:
            found += [path for path in here if path.name in EXPRESSIONS]
        sources += found
        if not found and Path(folder).name in ORIGINALS and "instances.json" in files:
            lacking.append(Path(folder))
    return sources, lacking


class _Doctor:
    def __init__(
        self, root: Path, fast: bool, measure: Measure, progress: Callable[[str], object], reading: Reading
    ) -> None:
        self._root, self._fast, self._measure, self._progress = root, fast, measure, progress
        self._reading = reading
        self._found: dict[tuple[str, str], Finding] = {}
        self._opened: dict[tuple[Path, Size | None], BadSample | None] = {}  # what is wrong with an image
        self._unchecked = 0

    def check(self, listed: TrainList | None) -> Report:
        sources, lacking = find_sources(self._root)
        for folder in lacking:
            self._add("missing files", str(folder), "refs(*).p", f"; described at {ORIGINALS[folder.name]}")
        if not sources:
            described = "; ".join(f"{name}: {place}" for name, place in ORIGINALS.items())
            self._add("no data", str(self._root), str(self._root), f"; the originals are described at {described}")
        sets, images = [], []
        for source in sources:
            problems = Problems()
            try:
                splits = read_splits(source, self._reading.images, problems)
            except ValueError as error:
                self._rows(source, problems)
                if split_by(source) is not None and not source.with_name("instances.json").is_file():
                    place = ORIGINALS.get(source.parent.name)
                    described = f"; described at {place}" if place else ""
                    self._add("missing files", str(source.parent), "instances.json", described)
                else:
                    self._add("unreadable files", str(source), str(source), f": {error}")
                continue
            self._rows(source, problems)
            name = data_name(source) if split_by(source) is not None else self._below(source)
            counts = {split: _counts(entries) for split, entries in splits.items()}
            sets.append({"name": name, "file": str(source), "splits": counts})
            self._expected(source, name, counts)
            for split, entries in splits.items():
                self._progress(f"{name} {split}")
                self._split(source, f"{name} {split}", entries)
                names = image_names(entries, not self._fast, name in PUBLISHED)
                images.append(Images(name, split, names, self._root if self._root.is_dir() else self._root.parent))
        self._leaks(images, listed)
        order = {"error": 0, "warning": 1}
        findings = sorted(self._found.values(), key=lambda finding: order[finding.severity])
        skipped = ["images were not opened, and copies under other names not looked for (--fast)"] if self._fast else []
        if self._unchecked:
            skipped.append(f"{self._unchecked} masks of images of unknown size were not drawn")
        return Report(str(self._root), sets, findings, self._measure.name, skipped)

    def _rows(self, source: Path, problems: Problems) -> None:
        for problem in problems:
            self._add("unreadable rows", str(source), problem.removeprefix(f"{source}: "))
        for passed in problems.passed:
            self._add("references without sentences", str(source), passed.removeprefix(f"{source}: "))

    def _below(self, source: Path) -> str:
        return str(source.relative_to(self._root)) if source != self._root else source.name

    def _add(self, name: str, where: str, example: str, more: str = "", count: int = 1) -> None:
        severity, says = FINDINGS[name]
        finding = self._found.setdefault((name, where + more), Finding(name, severity, where, says + more))
        finding.count += count
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def _expected(self, source: Path, name: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        by = split_by(source)
        which = (source.absolute().parent.name, by or "")
        if source.name not in (f"refs({by}).p", f"refs({by}).json"):
            return
        for split, sentences in PRINTED.get(which, {}).items():
            found = counts.get(split, {"sentences": 0})["sentences"]
            if abs(found - sentences) > _NEARLY * sentences:
                self._add("unconfirmed counts", name, f"{split}: {found} sentences, papers print {sentences}")
        published = EXPECTED.get(which)
        if published is None:
            return
        for split in dict.fromkeys((*published, *counts)):
            wanted = published.get(split, (0, 0, 0))
            there = counts.get(split, {"references": 0, "sentences": 0, "images": 0})
            for (what, given), number in zip(there.items(), wanted, strict=True):
                if number is not None and given != number:
                    self._add("unexpected counts", name, f"{split}: {given} {what} instead of {number}")

    def _split(self, source: Path, where: str, entries: Sequence[Entry]) -> None:
        described = ORIGINALS.get(source.absolute().parent.name)
        samples = IndexedSamples(where, "", entries, source, self._reading)
        for entry in entries:
            size = self._image(samples, entry, where, f"; described at {described}" if described else "")
            for reference in entry.references:
                self._mask(where, samples.chosen(reference), size)
            self._sentences(where, entry)
        self._lengths(where, entries)

    def _image(self, samples: IndexedSamples, entry: Entry, where: str, described: str) -> Size | None:
        """Looks at an image; its size as far as anything says it."""
        if self._fast:
            if not is_file(entry.file):
                self._add("missing images", where, str(entry.file), described)
            return entry.size
        try:
            size, _ = samples.frame(entry)
            self._pixels(samples, entry, size)
        except BadSample as error:
            more = described if error.finding == "missing images" else ""
            short = str(error).removeprefix(f"{samples.source}: ")
            self._add(error.finding, where, error.example if error.finding == "missing images" else short, more)
            return entry.size
        return size

    def _pixels(self, samples: IndexedSamples, entry: Entry, size: Size) -> None:
        """Reads an image once, however many splits have it.

        Raises:
            BadSample: It cannot be read.
        """
        key = (entry.file, size)
        if key not in self._opened:
            self._opened[key] = None
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    samples.image(entry)
                except BadSample as error:
                    self._opened[key] = error
            for warning in told:
                self._add("images of unusual range", samples.name, str(warning.message))
        if (known := self._opened[key]) is not None:
            raise known

    def _mask(self, where: str, reference: RawReference, size: Size | None) -> None:
        if not reference.regions:
            return  # nothing is referred to
        size = size or next((own for own in map(region_size, reference.regions) if own is not None), None)
        if size is None and all(region.file is not None for region in reference.regions):
            with suppress(ValueError):  # a missing file is found when it is drawn
                size = mask_size(cast(Path, reference.regions[0].file))
        if size is None:
            self._unchecked += 1
            return
        if any(is_outside(polygon, size) for region in reference.regions for polygon in region.polygons or ()):
            self._add("masks outside images", where, reference.ref_id)
        try:
            drawn = draw(reference, size)
        except BadMask as error:
            self._add(error.finding, where, f"{reference.ref_id}: {error}")
            return
        if drawn.overlapping:
            self._add("overlapping parts", where, reference.ref_id)
        for finding, says in drawn.notes:
            self._add(finding, where, f"{reference.ref_id}: {says}")

    def _sentences(self, where: str, entry: Entry) -> None:
        meant: dict[str, dict[int, int]] = {}
        for expression in entry.expressions:
            text = " ".join(expression.text.lower().split())
            if not any(c.isalnum() for c in text):
                self._add("empty expressions", where, expression.sent_id)
                continue
            seen = meant.setdefault(text, {})
            if seen and expression.reference not in seen:
                self._add("ambiguous expressions", where, f"{expression.sent_id} {text!r}")
            elif expression.reference in seen:
                self._add("repeated expressions", where, f"{expression.sent_id} {text!r}")
            seen[expression.reference] = 1

    def _lengths(self, where: str, entries: Sequence[Entry]) -> None:
        expressions = [expression for entry in entries for expression in entry.expressions]
        lengths = self._measure.lengths([expression.text for expression in expressions]) if expressions else []
        for encoder in self._measure.limits:
            for limit in LIMITS[encoder]:
                for expression, length in zip(expressions, lengths, strict=True):
                    if length > limit:
                        more = f" ({encoder}, {limit} tokens)"
                        self._add("long expressions", where, f"{expression.sent_id} ({length})", more)

    def _leaks(self, images: Sequence[Images], listed: TrainList | None) -> None:
        for leak in find_leaks(images):
            one, two = leak.one, leak.two
            if listed is not None and leak.kind == "images shared with another set":
                continue  # the list says what is trained on
            where = f"{one.data} {one.split}, {two.data} {two.split}"
            for example in leak.shared:
                self._add(leak.kind, where, example)
            if one.data in _SHARING and leak.kind == "images shared by train and test":
                finding = self._found[leak.kind, where]
                finding.severity, finding.says = "warning", f"{finding.says}; {_SHARING[one.data]}"
        for split in images:
            if listed is not None and not split.trained:
                for example in split.on_list(listed):
                    self._add("images on the training list", f"{split.data} {split.split}", example)


def _counts(entries: Sequence[Entry]) -> dict[str, int]:
    return {
        "references": sum(len(entry.references) for entry in entries),
        "sentences": sum(len(entry.expressions) for entry in entries),
        "images": len(entries),
    }
