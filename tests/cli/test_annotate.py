"""`refseg annotate` from the outside: what it prints, what it refuses, and that it says what `refseg segment` says."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from annotated import answers_in
from refseg.annotate.answering import answered

ROWS = 12
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def listed(tmp_path):
    pixels = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    rows = []
    for number in range(ROWS):
        Image.fromarray(pixels.integers(0, 255, (40 + number, 60, 3), np.uint8)).save(tmp_path / "in" / f"{number}.png")
        rows.append({"image": f"{number}.png", "expressions": ["the red circle", f"the blue square {number}"]})
    (tmp_path / "in" / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "in" / "list.jsonl"


def test_a_list_is_answered_as_segment_answers_it(refseg, model, listed, tmp_path):
    code, said, complaint = refseg("annotate", listed, tmp_path / "rows.jsonl", "--model", model)
    assert (code, complaint) == (0, "") and said == f"24 rows for 12 of the input -> {tmp_path / 'rows.jsonl'}\n"
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    code, said, _ = refseg("segment", "--list", listed, "--model", model, "--out", tmp_path / "out", "--json",
                           "--masks-only")  # fmt: skip
    wanted = json.loads(said)
    assert [row["expression"] for row in found] == [row["expression"] for row in wanted] and len(found) == 2 * ROWS
    for row, other in zip(found, wanted, strict=True):
        # Eight images go through the network in one pass, so that the last digit may be another.
        assert row["area"] == pytest.approx(other["area"], abs=3)
        assert row["score"] == pytest.approx(other["score"], abs=1e-4)
        assert row["image"] == Path(other["image"]).name and row["rle"]["size"] == other["rle"]["size"]
        assert (row["height"], row["width"]) == tuple(row["rle"]["size"]) and len(row["model"]) == 64
    code, said, _ = refseg("annotate", listed, tmp_path / "rows.jsonl", "--model", model)
    assert code == 0 and said == f"nothing left to do -> {tmp_path / 'rows.jsonl'}\n"


def test_a_folder_with_given_expressions_to_parquet(refseg, model, listed, tmp_path):
    code, said, _ = refseg("annotate", listed.parent, tmp_path / "out", "--model", model, "--expression", "red",
                           "--expression", "left", "--format", "parquet", "--rows", 5, "--limit", 7)  # fmt: skip
    assert code == 0 and said.startswith("14 rows for 7 of the input -> ")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "_manifest.json", "part-000000.parquet", "part-000001.parquet"]  # fmt: skip
    table = pq.read_table(tmp_path / "out")
    assert table.column("expression").to_pylist() == ["red", "left"] * 7
    assert table.column("image").to_pylist()[::2] == sorted(f"{n}.png" for n in range(ROWS))[:7]


def test_bad_rows_are_rows_and_a_few_of_them_are_said(refseg, model, listed, tmp_path):
    (listed.parent / "3.png").write_bytes(b"no image")
    with listed.open("a") as file:
        file.write("no json\n" + '{"image": "gone.png", "expression": "red"}\n' * 9)
    code, said, complaint = refseg("annotate", listed, tmp_path / "out", "--model", model, "--rows", 1)
    assert code == 0 and "34 rows for 22 of the input, 12 of them with an error" in said
    lines = complaint.splitlines()
    assert len(lines) == 5 and all(line.startswith("refseg: ") for line in lines)
    assert "3.png: no image" in lines[0] and lines[0].endswith("(and 1 more in this part)")
    assert "line 13: not JSON" in lines[1] and "gone.png" in lines[2]
    errors = [row["image"] for row in answers_in(tmp_path / "out") if row["error"]]
    assert errors == ["3.png", "3.png", ""] + ["gone.png"] * 9
    code, _, complaint = refseg("annotate", listed, tmp_path / "out", "--model", model, "--rows", 1, "--threshold", 0.4)
    assert code == 2 and "was made with another threshold" in complaint and complaint.count("\n") == 1


def test_a_job_without_any_answer_fails(refseg, model, listed, tmp_path):
    for file in listed.parent.glob("*.png"):
        file.unlink()
    code, said, _ = refseg("annotate", listed, tmp_path / "out", "--model", model)
    assert code == 2 and "24 of them with an error" in said
    with listed.open("a") as file:
        file.write("no json\n" * 60)
    assert refseg("annotate", listed, tmp_path / "new", "--model", model)[0] == 2
    (tmp_path / "new" / "part-000001.jsonl").unlink()
    assert refseg("annotate", listed, tmp_path / "new", "--model", model)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl", "out"], "nowhere.jsonl: no such file or folder; a list in JSON lines, a folder of images"),
        (["{in}", "out"], "0.png: nothing is asked; --expression, or 0.json or 0.txt beside it, is accepted"),
        (["{in}/0.png", "out"], "0.png: an image; a list in JSON lines"),
        (["{list}", "out", "--model", "nothing-like-it"], "nothing-like-it"),
        (["{list}", "out", "--threshold", "2"], "threshold 2.0: a probability between 0 and 1 is accepted"),
        (["{list}", "out", "--workers", "2"], "--workers 2 without --ray"),
        (["{list}", "out", "--expression", " "], "expression ' ': empty"),
        (["{list}", "out", "--format", "csv"], "format 'csv': jsonl or parquet is accepted"),
        (["{list}", "out", "--rows", "0"], "--rows"),
        (["{list}", "{list}"], "list.jsonl: is there, and not of this command"),
        (["{list}", "{in}/0.png"], "0.png: is a file; a folder, or a file that ends in .jsonl or .parquet"),
        (["{list}", "{in}/0.png/out"], "0.png/out: cannot be written to"),
        (["{in}/0.jsonl", "out"], "0.jsonl: empty"),
        (["{in}/bad.parquet", "out"], "bad.parquet: "),
        (["{in}/bad.tar", "out"], "bad.tar: damaged behind its first 0 rows"),
        (["", "out"], "input ''"),
        (["{list}", ""], "output ''"),
        (["{list}", "out", "--images", "nowhere"], "nowhere: no such folder"),
        (["{list}", "out", "--device", "abacus"], "abacus"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(refseg, model, listed, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (listed.parent / "0.jsonl").write_text("")
    for name in ("bad.parquet", "bad.tar"):
        (listed.parent / name).write_bytes(b"neither" * 200)
    before = {file: file.read_bytes() for file in listed.parent.iterdir()}
    given = [part.format_map({"in": listed.parent, "list": listed}) for part in arguments]
    code, out, complaint = refseg("annotate", *given, *([] if "--model" in arguments else ["--model", model]))
    assert code == 2 and said in complaint and out == ""
    assert complaint.startswith("refseg: ") and complaint.count("\n") == 1 and "Traceback" not in complaint
    assert {file: file.read_bytes() for file in listed.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("library", "extra", "arguments"),
    [("ray", "ray", ["--ray", "local"]), ("pyarrow.parquet", "parquet", ["--format", "parquet"])],
)
def test_a_library_that_is_missing_is_named(refseg, model, listed, tmp_path, monkeypatch, library, extra, arguments):
    monkeypatch.setitem(sys.modules, library, None)
    code, _, complaint = refseg("annotate", listed, tmp_path / "out", "--model", model, *arguments)
    assert code == 2 and f"`pip install 'refseg[{extra}]'` brings it" in complaint and complaint.count("\n") == 1


def test_without_parquet_and_ray_neither_is_needed(refseg, model, listed, tmp_path, monkeypatch):
    for name in ("ray", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    assert refseg("annotate", listed, tmp_path / "out", "--model", model)[0] == 0


def test_an_interruption_says_how_far_it_came(refseg, model, listed, tmp_path, monkeypatch):
    from refseg.annotate import job

    rows = []

    def stopped(*given):
        for row in answered(*given):
            rows.append(row)
            if len(rows) == 15:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(job, "answered", stopped)
    code, _, complaint = refseg("annotate", listed, tmp_path / "out", "--model", model, "--rows", 3)
    assert code == 130 and "interrupted after 6 rows of the input; the same command goes on" in complaint
    monkeypatch.undo()
    code, said, _ = refseg("annotate", listed, tmp_path / "out", "--model", model, "--rows", 3)
    assert code == 0 and said.startswith("12 rows for 6 of the input")


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "refseg", "annotate", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out", "out.jsonl"])
def test_a_job_that_is_killed_at_any_moment_ends_as_if_nobody_had(model, listed, tmp_path, output):
    rows = listed.read_text() * 20
    listed.write_text(rows)
    told = [listed, tmp_path / output, "--model", model, "--rows", 2]
    parts = tmp_path / ("out" if output == "out" else "out.jsonl.parts")
    chance, kills = random.Random(1), 0
    for _ in range(3):
        before = len(list(parts.glob("part-*")))
        process = start(*told)
        while process.poll() is None and len(list(parts.glob("part-*"))) <= before:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills, "it was always done before it could be killed"
    process = start(*told)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    process = start(listed, tmp_path / "whole.jsonl", "--model", model, "--rows", 2)
    assert process.communicate()[1] == "" and process.returncode == 0
    whole = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    if output == "out":
        found = answers_in(parts)
    else:
        found = [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
    assert found == whole and len(found) == 20 * 2 * ROWS
    assert not list(parts.glob(".*.part"))


@pytest.mark.slow
def test_two_starts_at_once_write_once(model, listed, tmp_path):
    listed.write_text(listed.read_text() * 10)
    processes = [start(listed, tmp_path / "out", "--model", model, "--rows", 2) for _ in range(2)]
    said = [process.communicate()[1] for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 2], [0, 0]), said  # the second may come when the first is done
    if codes == [0, 2]:
        assert any("is writing into it; another folder is accepted" in text for text in said)
    assert len(answers_in(tmp_path / "out")) == 10 * 2 * ROWS
