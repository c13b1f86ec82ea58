"""Rows of lists, folders, archives and tables: the same in chunks of any size; what is wrong is a row that says so."""

from __future__ import annotations

import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from annotated import KINDS, add, asked, shape, write
from refseg.annotate import lists, tars
from refseg.annotate.opening import files_of, open_source
from served import picture

COUNT = 11


def read(source, size=3, limit=None):
    return [row for chunk in source.chunks(size, limit) for row in source.rows(chunk)]


def size_of(row):
    with Image.open(io.BytesIO(row.image) if isinstance(row.image, bytes) else row.image) as found:
        return found.size[::-1]


@pytest.mark.parametrize("size", [1, 3, 4, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_rows_in_order_whatever_the_chunks(kind, size, tmp_path):
    source = open_source(write(kind, tmp_path / "in", COUNT))
    rows = read(source, size)
    assert [row.problem for row in rows] == [""] * COUNT
    assert [list(row.expressions) for row in rows] == [asked(number) for number in range(COUNT)]
    assert [size_of(row) for row in rows] == [shape(number) for number in range(COUNT)]
    assert [chunk.count for chunk in source.chunks(size)] == [min(size, COUNT - at) for at in range(0, COUNT, size)]
    assert [chunk.number for chunk in source.chunks(size)] == list(range(-(-COUNT // size)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_is_read_alone_and_elsewhere(kind, tmp_path, monkeypatch):
    """By a worker, who gets source and chunk, and stands in another folder."""
    monkeypatch.chdir(tmp_path)
    write(kind, tmp_path / "in", COUNT)
    name = {"list": "in/list.jsonl", "folder": "in", "tar": "in/shard.tar"}.get(kind, "in/rows.parquet")
    source = open_source(name)
    given = pickle.dumps((source, list(source.chunks(4))[1]))
    monkeypatch.chdir("/")
    source, chunk = pickle.loads(given)
    rows = list(source.rows(chunk))
    assert [size_of(row) for row in rows] == [shape(number) for number in range(4, 8)]
    assert [list(row.expressions) for row in rows] == [asked(number) for number in range(4, 8)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_ends_in_a_chunk(kind, tmp_path):
    source = open_source(write(kind, tmp_path / "in", COUNT))
    assert [chunk.count for chunk in source.chunks(3, 7)] == [3, 3, 1]
    assert [size_of(row) for row in read(source, 3, 7)] == [shape(number) for number in range(7)]


@pytest.mark.parametrize("kind", KINDS)
def test_expressions_may_be_given_instead(kind, tmp_path):
    source = open_source(write(kind, tmp_path / "in", 2), asked=("red", "blue"))
    assert [row.expressions for row in read(source)] == [("red", "blue")] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_is_known_again_elsewhere_and_another_is_not(kind, tmp_path):
    one, same, other = (
        open_source(write(kind, tmp_path / name, count)).identity() for name, count in (("a", 5), ("b", 5), ("c", 6))
    )
    assert one == same != other


def test_lines_of_a_list_that_are_wrong_are_rows_that_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "_LONGEST", 200)
    file = tmp_path / "list.jsonl"
    good = {"image": "a.png", "expression": "red"}
    content = [
        b"\xef\xbb\xbf" + json.dumps(good | {"id": "x"}).encode(), b"", b"   ", b"no json", b'{"image": "a.png"}',
        json.dumps(good | {"id": "x"}).encode(), b'{"image": "\xff", "expression": "red"}', b'["a"]',
        json.dumps(good | {"expression": " "}).encode(), json.dumps(good | {"more": "x" * 900}).encode(),
        json.dumps(good | {"id": 12}).encode(), json.dumps(good | {"expressions": ["red"]}).encode(),
        json.dumps({"image": 5, "expression": "red"}).encode(), json.dumps(good).encode(),
    ]  # fmt: skip
    file.write_bytes(b"\n".join(content))  # and no newline at the end
    for size in (1, 4, 100):
        rows = read(open_source(str(file)), size)
        assert [row.place for row in rows] == [f"line {n}" for n in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)]
        assert [not row.problem for row in rows] == [n in (0, 3, 8, 11) for n in range(12)]
        assert [row.id for row in rows if not row.problem] == ["x", "x", "12", "14"]
        assert all(row.problem.startswith(row.place + ":") for row in rows if row.problem)
    assert "longer than 200 bytes" in rows[7].problem and "UTF-8" in rows[4].problem


def test_images_of_a_list_may_lie_elsewhere(tmp_path):
    listed = write("list", tmp_path / "in", 2)
    (tmp_path / "else").mkdir()
    (row, _) = read(open_source(listed, tmp_path / "else"))
    assert row.image == tmp_path / "else" / "p000.png" and row.name == "p000.png"
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        open_source(listed, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="--images .*: with a list or Parquet it is accepted"):
        open_source(write("tar", tmp_path / "tar", 1), tmp_path)


def test_images_of_a_folder_without_a_question_say_so(tmp_path):
    folder = tmp_path / "in"
    write("folder", folder, 3)
    (folder / "p001.txt").unlink()
    (folder / "p002.json").write_text("[]")
    (folder / "p000.1.mask.png").write_bytes(b"of refseg segment")
    (folder / "x.png").mkdir()
    rows = read(open_source(str(folder)))
    assert [row.name for row in rows] == ["p000.png", "p001.png", "p002.png"]
    assert [row.problem.split(":")[0] for row in rows] == ["", "p001.png", "p002.json"]
    assert "nothing is asked" in rows[1].problem


def archive(path, members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format) as made:
        for name, content in members:
            add(made, name, content)
    return str(path)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_archive_of_long_names_is_read_from_any_chunk_on(tmp_path, format):
    long = "d" * 90 + "/" + "ä" * 90
    members = [(f"{long}{n}.{ending}", picture(8 + n, 10) if ending == "jpg" else b"red\nblue\n")
               for n in range(6) for ending in ("jpg", "txt")]  # fmt: skip
    source = open_source(archive(tmp_path / "a.tar", members, format))
    for size in (1, 4):
        rows = read(source, size)
        assert [row.id for row in rows] == [f"{long}{n}" for n in range(6)]
        assert [size_of(row) for row in rows] == [(8 + n, 10) for n in range(6)]
        assert {row.expressions for row in rows} == {("red", "blue")}


def test_members_of_an_archive_that_are_no_sample_are_passed_over_or_said(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as made:
        add(made, "folder", b"", type=tarfile.DIRTYPE)
        add(made, "README", b"words")
        add(made, ".hidden", b"words")
        add(made, "a.JPG", picture())
        add(made, "a.seg.png", b"of another kind")
        add(made, "a.json", b'{"expression": "red", "id": 5}')
        add(made, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(made, "b.json", b'{"expression": "red"}')
        add(made, "c.png", picture())
        add(made, "d.png", picture())
        add(made, "d.json", b"no json")
        add(made, "x/a.png", picture())
        add(made, "x/a.txt", b"blue")
    rows = read(open_source(str(path)))
    assert [(row.id, row.name, not row.problem) for row in rows] == [
        ("a", "a.JPG", True), ("b", "", False), ("c", "c.png", False), ("d", "d.png", False), ("x/a", "x/a.png", True)
    ]  # fmt: skip
    assert "without an image" in rows[1].problem and "nothing is asked" in rows[2].problem
    assert rows[3].problem.startswith("d.json: not JSON")


def whole_archive(tmp_path):
    members = [
        (f"{n}.{ending}", picture() if ending == "png" else b"red") for n in range(5) for ending in ("png", "txt")
    ]
    return tmp_path / "a.tar", archive(tmp_path / "a.tar", members)


def headers(path):
    with tarfile.open(path) as made:
        return {member.name: member.offset for member in made}


@pytest.mark.parametrize("damage", ["cut in a picture", "cut in a header", "no header", "a flipped bit in one"])
def test_a_damaged_archive_gives_what_is_before_and_one_row_with_the_reason(tmp_path, damage):
    path, given = whole_archive(tmp_path)
    at, content = headers(path), bytearray(path.read_bytes())
    if damage == "cut in a picture":
        del content[at["3.png"] + 600 :]
    elif damage == "cut in a header":
        del content[at["3.txt"] + 100 :]
    elif damage == "no header":
        content[at["3.txt"] : at["3.txt"] + 512] = bytes(range(256)) * 2
    else:
        content[at["3.txt"] + 3] ^= 4
    path.write_bytes(content)
    for size in (1, 2, 3, 4):
        rows = read(open_source(given), size)
        assert [bool(row.problem) for row in rows] == [False, False, False, True]
        assert rows[3].problem.startswith(f"{given}: damaged behind its first 3 rows (")


def test_an_archive_that_is_none_is_refused(tmp_path):
    for name, content in (("a.tar", b"no archive" * 100), ("b.tar", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: damaged behind its first 0 rows"):
            open_source(str(tmp_path / name)).check(4)
    archive(tmp_path / "c.tar", [])
    with pytest.raises(ValueError, match=r"c.tar: empty; "):
        open_source(str(tmp_path / "c.tar")).check(4)
    (tmp_path / "d.tar.gz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"d.tar.gz: compressed; "):
        open_source(str(tmp_path / "d.tar.gz"))


def test_a_member_may_not_be_larger_than_memory(tmp_path, monkeypatch):
    _, given = whole_archive(tmp_path)
    monkeypatch.setattr(tars, "_LARGEST", 50)
    assert [row.problem for row in read(open_source(given))] == [
        f"{n}.png: {len(picture())} bytes; at most 50 are accepted" for n in range(5)
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"picture": ["a.png"], "expression": ["red"]}, "has the columns picture, expression; a column image"),
        ({"image": ["a.png"], "text": ["red"]}, "has the columns image, text; a column image"),
        ({"image": [5], "expression": ["red"]}, "column image of type int64; a column image"),
        ({"image": [["a.png"]], "expression": ["red"]}, "column image of type list"),
    ],
)
def test_a_table_with_other_columns_is_refused(tmp_path, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/a.parquet: {said}"):
        open_source(str(tmp_path / "a.parquet")).check(4)


def test_rows_of_a_table_that_are_wrong_say_so(tmp_path):
    texts = ["red", None, "red", " ", "red"]
    table = pa.table(
        {"image": ["a.png", "b.png", None, "c.png", "d\0.png"], "expression": texts, "id": [7, 8, 8, 9, 9]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(open_source(str(tmp_path / "a.parquet")))
    assert [(row.id, row.place, not row.problem) for row in rows] == [
        ("7", "row 1", True), ("8", "row 2", False), ("8", "row 3", False), ("9", "row 4", False), ("9", "row 5", False)
    ]  # fmt: skip
    assert "row 2: expression None" in rows[1].problem and "row 3: without an image" in rows[2].problem


def test_bytes_come_before_the_path_that_they_were_read_from(tmp_path):
    images = [{"bytes": picture(9, 11), "path": "gone.png"}, {"bytes": None, "path": "there.png"}]
    pq.write_table(pa.table({"image": images, "expression": ["red"] * 2}), tmp_path / "a.parquet")
    one, other = read(open_source(str(tmp_path / "a.parquet")))
    assert size_of(one) == (9, 11) and one.name == "gone.png" and other.image == tmp_path / "there.png"
    pq.write_table(pa.table({"bytes": [picture(9, 12)], "path": ["x"], "expression": ["red"]}), tmp_path / "b.parquet")
    (row,) = read(open_source(str(tmp_path / "b.parquet")))
    assert size_of(row) == (9, 12) and row.name == "x"


def test_a_damaged_table_is_a_row_with_the_reason_and_the_next_one_is_read(tmp_path):
    for name in ("a", "b"):
        write("paths", tmp_path / name, 5)
    broken = tmp_path / "a" / "rows.parquet"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    rows = read(open_source(str(tmp_path / "?" / "rows.parquet")), 2)
    assert [bool(row.problem) for row in rows] == [True] + [False] * 5 and str(broken) in rows[0].problem
    # Damage between the beginning and the index is met when the rows are read.
    broken.write_bytes(content[:4] + b"\xff" * 300 + content[304:])
    rows = read(open_source(str(tmp_path / "?" / "rows.parquet")), 2)
    assert len(rows) == 10 and rows[0].problem.startswith(f"{broken}: cannot be read") and not rows[-1].problem


def test_what_was_cut_since_the_chunks_were_counted_is_said(tmp_path):
    given = write("list", tmp_path / "in", 6)
    source = open_source(given)
    (chunk,) = source.chunks(10)
    lines = (tmp_path / "in" / "list.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "in" / "list.jsonl").write_text("".join(lines[:4]))
    rows = list(source.rows(chunk))
    assert [bool(row.problem) for row in rows] == [False] * 4 + [True] * 2 and "fewer rows than before" in rows[
        5
    ].problem
    (tmp_path / "in" / "list.jsonl").unlink()
    assert [row.id for row in source.rows(chunk)] == ["1", "2", "3", "4", "5", "6"]
    assert "cannot be read" in next(source.rows(chunk)).problem


def test_patterns_name_files_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s-008.tar", "s-009.tar", "s-010.tar", "t-1.tar", "{a}.tar", "s-011.jsonl"):
        (tmp_path / name).touch()
    assert files_of("s-{008..010}.tar") == ["s-008.tar", "s-009.tar", "s-010.tar"]
    assert files_of("{t-1,s-008}.tar") == ["t-1.tar", "s-008.tar"]
    assert files_of("{t,s}-*.tar") == ["t-1.tar", "s-008.tar", "s-009.tar", "s-010.tar"]
    assert files_of("{a}.tar") == ["{a}.tar"]
    for pattern, said in (("s-{008..012}.tar", "s-011.tar: no such file"), ("u-*.tar", r"u-\*.tar: no such file"),
                          ("a" * 5000, "no name of a file"), ("s-{0..9999999999}.tar", "more than 100000 files"),
                          ("", "input ''")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            files_of(pattern)
    with pytest.raises(ValueError, match=r"files of several kinds \(.jsonl, .tar\)"):
        open_source("s-0*")


def test_a_folder_of_archives_or_tables_is_these(tmp_path):
    write("structs", tmp_path / "data", 3)
    (tmp_path / "data" / "README.md").write_text("of a data set")
    assert open_source(str(tmp_path / "data")).kind == "parquet" and len(read(open_source(str(tmp_path / "data")))) == 3
    write("tar", tmp_path / "tars", 3)
    assert open_source(str(tmp_path / "tars")).kind == "tar"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: holds no images"):
        open_source(str(tmp_path / "empty")).check(4)
    with pytest.raises(ValueError, match="several folders"):
        open_source(str(tmp_path / "*"))
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(ValueError, match="a.png: an image; a list"):
        open_source(str(tmp_path / "a.png"))


def test_an_input_of_which_nothing_can_be_used_is_refused_and_one_with_a_bad_beginning_is_not(tmp_path):
    file = tmp_path / "list.jsonl"
    for content, said in (
        ("", "list.jsonl: empty; "),
        ("\n \n", "empty; "),
        ('{"text": "red"}\n' * 9, 'line 1: needs "im'),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=said):
            open_source(str(file)).check(4)
    file.write_text("no json\n" * 3 + '{"image": "a.png", "expression": "red"}\n')
    open_source(str(file)).check(4)
    tar = tmp_path / "0.tar"
    tar.write_bytes(b"no archive" * 99)
    archive(tmp_path / "1.tar", [("a.png", picture()), ("a.txt", b"red")])
    open_source(str(tmp_path / "[01].tar")).check(4)


def test_only_the_rows_of_a_chunk_are_taken_out_of_an_archive(tmp_path):
    """A long archive is never read as a whole, neither for its chunks nor for one of them."""
    noise = np.random.default_rng(0).bytes(200_000)
    members = [(f"{n}.{ending}", noise if ending == "png" else b"red") for n in range(40) for ending in ("png", "txt")]
    source = open_source(archive(tmp_path / "a.tar", members))

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            found = super().read(size)
            self.taken += len(found)
            return found

    file = Counted((tmp_path / "a.tar").read_bytes())
    assert [len(members) for _, members in tars._samples(file)] == [2] * 40
    assert 80 * 512 <= file.taken < len(noise)
    assert [chunk.count for chunk in source.chunks(16)] == [16, 16, 8]
