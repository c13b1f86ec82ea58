"""Looking at the files of a split before anybody relies on them.

What was looked at is remembered by the sizes and times of all files: what has not changed is not read twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from refseg.data.formats.annotated import FILE
from refseg.data.formats.entries import Entry
from refseg.data.index import BadSample, IndexedSamples
from refseg.fields import parse_json, read_text
from refseg.files import write_text_beside

CACHE = "REFSEG_CACHE"  # the environment variable that names the folder in which is remembered what was looked at
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Bad:
    """Something in a split that cannot be used.

    Attributes:
        image: Number of the image in its split.
        reference: Number of the reference of the image; None where the image itself is bad.
        message: What is wrong; names the index file and the image.
    """

    image: int
    reference: int | None
    message: str


def find_bad(samples: IndexedSamples, thorough: bool, progress: Progress = lambda done, of: None) -> list[Bad]:
    """All images and masks of a split that cannot be used.

    Args:
        samples: The split.
        thorough: Read every image and draw every mask; else only headers are read and outlines looked at.
        progress: Is told how many images are done, of how many; not called where everything is remembered.
    """
    place, state = _memory_of(samples, thorough), ""
    if place is not None:
        state = _state_of(samples)
        known = _recall(place, state)
        if known is not None:
            return known
    found: list[Bad] = []
    for number, entry in enumerate(samples.entries):
        found += _bad_of(samples, number, entry, thorough)
        progress(number + 1, len(samples))
    if place is not None:
        _remember(place, state, found)
    return found


def refuse_bad(samples: IndexedSamples, progress: Progress = lambda done, of: None) -> None:
    """Looks at the headers of all files of a split.

    Raises:
        ValueError: A file is missing, no image or of another size than annotated, or an outline is none; names the
            first and counts the others.
    """
    found = find_bad(samples, False, progress)
    if found:
        more = f"; {len(found) - 1} more such" if len(found) > 1 else ""
        raise ValueError(f"{found[0].message}{more}; `refseg data check` lists them, --skip-bad leaves them out")


def without_bad(samples: IndexedSamples, progress: Progress = lambda done, of: None) -> IndexedSamples:
    """The split without the images and references that cannot be used, and without what was written about them."""
    bad = find_bad(samples, True, progress)
    if not bad:
        return samples
    by_image: dict[int, set[int | None]] = {}
    for item in bad:
        by_image.setdefault(item.image, set()).add(item.reference)
    entries = []
    for number, entry in enumerate(samples.entries):
        wrong = by_image.get(number, set())
        if None in wrong:
            continue
        kept = _without(entry, wrong) if wrong else entry
        if kept.expressions:
            entries.append(kept)
    messages = (*samples.left_out, *(item.message for item in bad))
    return IndexedSamples(samples.name, samples.split, entries, samples.source, samples.reading, messages)


def _without(entry: Entry, wrong: set[int | None]) -> Entry:
    places = {number: i for i, number in enumerate(n for n in range(len(entry.references)) if n not in wrong)}
    return replace(
        entry,
        references=tuple(entry.references[number] for number in places),
        expressions=tuple(
            replace(e, reference=places[e.reference]) for e in entry.expressions if e.reference in places
        ),
    )


def _bad_of(samples: IndexedSamples, number: int, entry: Entry, thorough: bool) -> Iterator[Bad]:
    try:
        size, _ = samples.frame(entry)
        if thorough:
            samples.image(entry)
    except BadSample as error:
        yield Bad(number, None, str(error))
        return
    for place, raw in enumerate(entry.references):
        try:
            if thorough:
                samples.mask(entry, raw, size)
            else:
                samples.outline(entry, raw, size)
        except BadSample as error:
            yield Bad(number, place, str(error))


# What is remembered


def _memory_of(samples: IndexedSamples, thorough: bool) -> Path | None:
    """The file in which is remembered what was found in a split; None where there is no such place."""
    base = os.environ.get(CACHE)
    if base is None:
        try:
            base = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refseg")
        except RuntimeError:  # nobody's home
            return None
    if not base:
        return None
    which = f"{samples.source.absolute()}\n{samples.split}\n{thorough}"
    return Path(base) / "looked-at" / f"{hashlib.sha256(which.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.json"


def _state_of(samples: IndexedSamples) -> str:
    """A hash of the sizes and times of all files of a split, and of how they are read."""
    digest = hashlib.sha256(json.dumps(samples.reading.told, sort_keys=True).encode())
    for file in _files_of(samples):
        try:
            found = file.stat()
            seen = f"{file} {found.st_size} {found.st_mtime_ns}\n"
        except OSError:
            seen = f"{file} -\n"
        digest.update(seen.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _files_of(samples: IndexedSamples) -> Iterator[Path]:
    yield samples.source
    yield samples.source.with_name(FILE)
    for entry in samples.entries:
        yield entry.file
        for reference in entry.references:
            yield from (region.file for region in reference.regions if region.file is not None)


def _recall(place: Path, state: str) -> list[Bad] | None:
    try:
        stored = parse_json(read_text(place), str(place))
        if stored["state"] != state:
            return None
        return [Bad(int(image), reference, str(message)) for image, reference, message in stored["bad"]]
    except (ValueError, KeyError, TypeError):
        return None


def _remember(place: Path, state: str, bad: list[Bad]) -> None:
    rows = [[item.image, item.reference, item.message] for item in bad]
    with suppress(OSError):  # it is only there to save time
        write_text_beside(place, json.dumps({"state": state, "bad": rows}))
