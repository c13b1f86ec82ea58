"""A job that is stopped goes on and ends as if it had not been; an output of another job is kept."""

from __future__ import annotations

import json
import os
import stat

import pyarrow.parquet as pq
import pytest

from annotated import KINDS, Known, answers_in, asked, masks, write
from refseg.annotate import job as job_module
from refseg.annotate.job import InProcess, Job, output_of
from refseg.annotate.opening import open_source
from refseg.annotate.sinks import merge
from refseg.files import FolderLock

COUNT = 11
EXPRESSIONS = sum(len(asked(number)) for number in range(COUNT))


def run(given, output, stub=None, format=None, retry=False, stop=None, asked=(), **more):
    """Runs a job of chunks of 3; returns the model and what was written."""
    stub = stub or Known()
    source = open_source(given, asked=asked)
    written = []
    with Job(source, output_of(str(output), format), rows=3, **more) as job:
        for part in job.run(InProcess(stub, source, job.threshold), retry):
            written.append(part)
            if len(written) == stop:
                raise KeyboardInterrupt
    return stub, written


@pytest.fixture
def listed(tmp_path):
    return write("list", tmp_path / "in", COUNT)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_answered_in_parts(kind, tmp_path):
    _, written = run(write(kind, tmp_path / "in", COUNT), tmp_path / "out")
    assert [part.inputs for part in written] == [3, 3, 3, 2] and sum(part.rows for part in written) == EXPRESSIONS
    assert sorted(contents(tmp_path / "out")) == ["_manifest.json", *(f"part-{n:06d}.jsonl" for n in range(4))]
    rows = answers_in(tmp_path / "out")
    assert [row["area"] for row in rows] == [int(mask.sum()) for number in range(COUNT) for mask in masks(number)]
    assert [row["expression"] for row in rows] == [text for number in range(COUNT) for text in asked(number)]


def test_parquet_holds_the_same_rows_with_their_types(listed, tmp_path):
    stub = Known(kills=None)
    with open(listed, "a") as file:
        file.write('{"image": "gone.png", "expression": "left"}\n')
    run(listed, tmp_path / "lines", stub)
    run(listed, tmp_path / "table", format="parquet")
    assert answers_in(tmp_path / "table", "parquet") == answers_in(tmp_path / "lines")
    types = {str(pq.read_schema(file)) for file in (tmp_path / "table").glob("*.parquet")}
    assert len(types) == 1  # also of a part in which all or no rows have an error


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_job_that_was_stopped_does_what_is_missing_alone(listed, tmp_path, format):
    run(listed, tmp_path / "whole", format=format)
    with pytest.raises(KeyboardInterrupt):
        run(listed, tmp_path / "out", format=format, stop=2)
    (tmp_path / "out" / f"part-000000.{format}").unlink()
    stub, written = run(listed, tmp_path / "out", format=format)
    assert stub.passes == [[asked(n) for n in chunk] for chunk in ((0, 1, 2), (6, 7, 8), (9, 10))]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    stub, written = run(listed, tmp_path / "out", format=format)
    assert stub.passes == written == [] and contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_output_of_another_job_is_refused_and_kept(listed, tmp_path):
    run(listed, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = write("list", tmp_path / "other", COUNT + 1)
    for said, more in (
        (r"another threshold \(0.5, and now 0.4\)", {"threshold": 0.4}),
        (r"another model \(stub stub-1, and now stub stub-2\)", {"stub": Known("stub-2")}),
        (r"another limit \(none, and now 5\)", {"limit": 5}),
        (r"another expressions \(\[\], and now \['red'\]\)", {"asked": ("red",)}),
        (r"another format \('jsonl', and now 'parquet'\)", {"format": "parquet"}),
    ):
        with pytest.raises(ValueError, match=rf"out: was made with {said}; the same is accepted, or another OUTPUT"):
            run(listed, tmp_path / "out", **more)
    with pytest.raises(ValueError, match="out: was made with another input; the same is accepted"):
        run(other, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_files_of_others_are_kept(listed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "part-000001.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="part-000001.jsonl: is there without _manifest.json; it was kept"):
        run(listed, out)
    (out / "part-000001.jsonl").unlink()
    for mine in ('{"name": "an app"}', "no json", "[1]"):
        (out / "_manifest.json").write_text(mine)
        with pytest.raises(ValueError, match="_manifest.json: "):
            run(listed, out)
        assert contents(out) == {"notes.txt": b"mine", "_manifest.json": mine.encode()}
    (out / "_manifest.json").unlink()
    run(listed, out)
    assert contents(out)["notes.txt"] == b"mine" and len(contents(out)) == 6


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_one_file_is_made_of_the_parts_and_nothing_is_done_again(listed, tmp_path, format):
    run(listed, tmp_path / "parts", format=format)
    file = tmp_path / f"answers.{format}"
    with pytest.raises(KeyboardInterrupt):
        run(listed, file, stop=2)
    assert not file.exists()
    stub, written = run(listed, file)
    assert len(written) == 2 and sum(map(len, stub.passes)) == COUNT - 6
    found = (
        pq.read_table(file).to_pylist() if format == "parquet" else list(map(json.loads, file.read_text().splitlines()))
    )
    assert found == answers_in(tmp_path / "parts", format)
    assert sorted(contents(tmp_path / f"answers.{format}.parts")) == ["_manifest.json"]
    before = file.read_bytes()
    stub, written = run(listed, file)
    assert stub.passes == written == [] and file.read_bytes() == before
    with pytest.raises(ValueError, match="another threshold"):
        run(listed, file, threshold=0.4)
    assert file.read_bytes() == before
    file.unlink()  # its parts are gone too: it is made again
    run(listed, file)
    assert file.read_bytes() == before


def test_a_job_that_is_killed_while_it_makes_one_file_goes_on(listed, tmp_path, monkeypatch):
    file = tmp_path / "answers.jsonl"

    def killed(*given):
        merge(*given)
        raise KeyboardInterrupt  # before anybody has noted that it is done

    monkeypatch.setattr(job_module, "merge", killed)
    with pytest.raises(KeyboardInterrupt):
        run(listed, file)
    before = file.read_bytes()
    monkeypatch.undo()
    stub, written = run(listed, file)
    assert stub.passes == written == [] and file.read_bytes() == before
    assert sorted(contents(tmp_path / "answers.jsonl.parts")) == ["_manifest.json"]


def test_a_file_of_that_name_is_kept(listed, tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text("mine")
    with pytest.raises(ValueError, match="answers.jsonl: is there, and not of this command; it was kept"):
        run(listed, file)
    assert file.read_text() == "mine"
    (tmp_path / "plain").write_text("mine")
    with pytest.raises(ValueError, match="plain: is a file; a folder, or a file that ends in .jsonl or .parquet"):
        run(listed, tmp_path / "plain")
    with pytest.raises(ValueError, match="its name says jsonl, and --format parquet"):
        output_of("a.jsonl", "parquet")
    with pytest.raises(ValueError, match="format 'csv': jsonl or parquet is accepted"):
        output_of("a", "csv")
    (tmp_path / "folder.jsonl").mkdir()
    assert output_of(str(tmp_path / "folder.jsonl")).file is None


def test_rows_with_an_error_are_made_again_if_that_is_wanted(listed, tmp_path):
    picture = tmp_path / "in" / "p004.png"
    content = picture.read_bytes()
    picture.write_bytes(content[:60])
    run(listed, tmp_path / "out")
    assert [row["image"] for row in answers_in(tmp_path / "out") if row["error"]] == ["p004.png"] * len(asked(4))
    picture.write_bytes(content)
    stub, _ = run(listed, tmp_path / "out")
    assert stub.passes == []
    stub, written = run(listed, tmp_path / "out", retry=True)
    assert stub.passes == [[asked(3), asked(4), asked(5)]] and written[0].errors == 0
    assert [row for row in answers_in(tmp_path / "out") if row["error"]] == []


def test_errors_are_counted_and_named(listed, tmp_path):
    with open(listed, "a") as file:
        file.write('{"image": "gone.png", "expressions": ["left", "right"]}\n')
    _, written = run(listed, tmp_path / "out")
    assert [(part.rows, part.errors) for part in written][-1][1] == 2 and sum(part.errors for part in written) == 2
    assert "gone.png" in written[-1].first and written[0].first == ""


def test_only_one_process_writes_into_an_output(listed, tmp_path):
    (tmp_path / "out").mkdir()
    with FolderLock(tmp_path / "out"), pytest.raises(ValueError, match=rf"process {os.getpid()} is writing into it"):
        run(listed, tmp_path / "out")
    run(listed, tmp_path / "out")
    assert not (tmp_path / "out" / ".refseg.lock").exists()


def test_what_a_killed_process_left_half_written_is_taken_away(listed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".part-000001.jsonl.4194304.part").write_text("half")  # no process has this number
    run(listed, tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_said(listed, tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ValueError, match="cannot be written to"):
        run(listed, tmp_path / "locked" / "out")


def test_an_output_below_a_file_is_said(listed, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file/out: cannot be written to"):
        run(listed, tmp_path / "file" / "out")


def test_one_file_with_an_error_is_made_again_if_that_is_wanted(listed, tmp_path):
    picture, file = tmp_path / "in" / "p004.png", tmp_path / "answers.jsonl"
    content = picture.read_bytes()
    picture.write_bytes(b"no image")
    run(listed, file)
    assert sum(json.loads(line)["error"] is not None for line in file.read_text().splitlines()) == len(asked(4))
    picture.write_bytes(content)
    assert run(listed, file)[1] == []
    run(listed, file, retry=True)
    assert all(json.loads(line)["error"] is None for line in file.read_text().splitlines())
    assert run(listed, file, retry=True)[1] == []
