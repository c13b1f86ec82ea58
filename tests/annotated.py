"""Inputs of all kinds with the same pictures and questions, and a model whose answers are known."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from refseg.answers import About
from served import Stub, picture

KINDS = ("list", "folder", "tar", "paths", "bytes", "structs")
ASKED = (["left"], ["7", "left"], ["the left half", "12"])  # of pictures one after another


class Known(Stub):
    """The stub under a name that weights have; `kills` ends whoever is asked."""

    def __init__(self, identity="stub-1", kills=None, **more):
        super().__init__(**more)
        self.identity, self.kills = identity, kills

    @property
    def about(self):
        return About("stub", "", self.identity, {}, None, self.words, self.log_odds)

    def predict(self, images, expressions, details=False):
        if self.kills is not None and any("kills" in texts for texts in expressions):
            raise self.kills
        return super().predict(images, expressions, details)


def asked(number):
    return ASKED[number % len(ASKED)]


def shape(number):
    return 20 + number, 40 + 2 * number


def masks(number):
    """What the stub answers to a picture, by hand: (H, W) bool for each expression."""
    height, width = shape(number)
    columns = [int(text) if text.isdigit() else width // 2 for text in asked(number)]
    return [np.broadcast_to(np.arange(width) < end, (height, width)) for end in columns]


def write(kind, folder, count):
    """Writes `count` pictures with questions as an input of a kind, and returns its name."""
    folder.mkdir(parents=True)
    contents = [picture(*shape(number)) for number in range(count)]
    names = [f"p{number:03d}.png" for number in range(count)]
    if kind in ("list", "folder", "paths"):
        for name, content in zip(names, contents, strict=True):
            (folder / name).write_bytes(content)
    records = [
        {"image": name} | ({"expression": asked(i)[0]} if len(asked(i)) == 1 else {"expressions": asked(i)})
        for i, name in enumerate(names)
    ]
    if kind == "list":
        (folder / "list.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(folder / "list.jsonl")
    if kind == "folder":
        for number, name in enumerate(names):
            beside = folder / name
            if number % 2:
                beside.with_suffix(".txt").write_text("\n".join(asked(number)) + "\n")
            else:
                beside.with_suffix(".json").write_text(json.dumps({"expressions": asked(number)}))
        return str(folder)
    if kind == "tar":
        with tarfile.open(folder / "shard.tar", "w") as archive:
            for number, (name, content) in enumerate(zip(names, contents, strict=True)):
                add(archive, name, content)
                add(archive, f"p{number:03d}.json", json.dumps({"expressions": asked(number)}).encode())
        return str(folder / "shard.tar")
    images = {
        "paths": names, "bytes": contents,
        "structs": [{"bytes": c, "path": name} for c, name in zip(contents, names, strict=True)],
    }[kind]  # fmt: skip
    table = pa.table({"image": images, "expressions": [asked(number) for number in range(count)]})
    pq.write_table(table, folder / "rows.parquet", row_group_size=4)
    return str(folder / "rows.parquet")


def add(archive, name, content, **more):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def answers_in(folder, format="jsonl"):
    """The rows of all parts of an output, in order."""
    files = sorted(folder.glob(f"part-*.{format}"))
    if format == "parquet":
        return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
