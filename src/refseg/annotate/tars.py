"""Archives as WebDataset has them: KEY.jpg and KEY.json or KEY.txt, one behind the other."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from refseg.annotate.rows import IMAGES, Row, expressions_of_file
from refseg.annotate.sources import Chunk, Source, Span
from refseg.fields import shown
from refseg.files import first_line

_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)  # key and ending, which begins with the first dot
_LARGEST = 2**29  # bytes of a member


class Tars(Source):
    """Members with one key are a row; what is no file, or has no ending, is passed over. Nothing is unpacked."""

    kind = "tar"

    def spans(self, shard: int, size: int) -> Iterator[Span]:
        """As `Source.spans`; of the archive only headers are read. What is behind a damaged one cannot be found."""
        first = count = start = 0
        problem = ""
        try:
            with self.path(shard).open("rb") as file:
                for _, members in _samples(file):
                    if count == 0:
                        start = members[0].offset
                    count += 1
                    if count == size:
                        yield Span(first, count, start)
                        first, count = first + count, 0
        except (tarfile.TarError, OSError, ValueError) as error:
            problem = f"{self.shards[shard]}: damaged behind its first {first + count} rows ({first_line(error)})"
        if count:
            yield Span(first, count, start)
        if problem:
            yield Span(first + count, 1, None, problem)

    def read(self, chunk: Chunk) -> Iterator[Row]:
        """As `Source.read`."""
        with self.path(chunk.shard).open("rb") as file:
            file.seek(chunk.at)
            try:
                for key, members in _samples(file):
                    yield self._row(file, key, {_ending(member): member for member in members})
            except tarfile.TarError as error:
                raise OSError(first_line(error)) from error

    def _row(self, file: BinaryIO, key: str, members: dict[str, tarfile.TarInfo]) -> Row:
        ending = next((ending for ending in members if f".{ending}" in IMAGES), None)
        name = "" if ending is None else members[ending].name
        try:
            if ending is None:
                endings = ", ".join(ending[1:] for ending in IMAGES)
                raise ValueError(f"{shown(key)}: without an image; {shown(key)} with {endings} is accepted")
            return Row(
                _content(file, members[ending]), self.asked or _asked(file, key, members), key, name=name, id=key
            )
        except ValueError as error:
            return Row(Path(), (), key, str(error), name=name, id=key)


def _asked(file: BinaryIO, key: str, members: dict[str, tarfile.TarInfo]) -> tuple[str, ...]:
    for ending in ("json", "txt"):
        if ending in members:
            return expressions_of_file(_content(file, members[ending]), ending == "json", f"{key}.{ending}")
    raise ValueError(f"{key}: nothing is asked; {key}.json or {key}.txt in the archive, or --expression, is accepted")


def _content(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    if member.size > _LARGEST:
        raise ValueError(f"{member.name}: {member.size} bytes; at most {_LARGEST} are accepted")
    back = file.tell()
    file.seek(member.offset_data)
    content = file.read(member.size)
    file.seek(back)
    if len(content) < member.size:
        raise ValueError(f"{member.name}: cut off after {len(content)} of {member.size} bytes")
    return content


def _samples(file: BinaryIO) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Keys with their members, from where the file stands; the last one when it is known to be whole.

    Raises:
        tarfile.TarError: The archive is damaged.
    """
    key, members = "", list[tarfile.TarInfo]()
    for member in _members(file):
        found = _NAME.fullmatch(member.name)
        if found is None or not member.isreg() or member.issparse():
            continue
        if members and found[1] != key:
            yield key, members
            members = []
        key = found[1]
        members.append(member)
    if members:
        yield key, members


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Headers, none of which is kept."""
    archive = tarfile.open(fileobj=file, mode="r:")
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # a header that is none ends an archive without a word
        raise tarfile.ReadError("no header where one should be")


def _ending(member: tarfile.TarInfo) -> str:
    found = _NAME.fullmatch(member.name)
    return "" if found is None else found[2].lower()
