"""`refseg runs` and `refseg report`, as a person uses them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from test_history import LINES, made


def test_runs_are_listed(refseg, tmp_path):
    made(tmp_path / "one")
    made(tmp_path / "two", LINES[:3], seed=1)
    with (tmp_path / "two" / "log.jsonl").open("a") as log:
        log.write('{"step": 1')
    code, said, _ = refseg("runs", tmp_path)
    flat = " ".join(said.split())
    assert code == 0 and "mIoU 30.00 at 100" in flat and "150 / 150" in flat and "finished" in flat
    assert "two: log.jsonl: line 4: was cut off" in flat and "stopped" in flat
    code, said, _ = refseg("runs", tmp_path / "one", tmp_path / "two", "--json")
    one, two = json.loads(said)
    assert code == 0 and one["best"] == {"metric": "mIoU", "score": 0.3, "step": 100} and one["loss"] == 0.9
    assert two["loss"] == 1.0 and two["best"] is None and two["step"] == 100 and two["of_steps"] == 150
    assert 0 <= one["age"] < 600


def test_nothing_to_list_is_said(refseg, tmp_path, monkeypatch):
    code, said, err = refseg("runs", tmp_path, "--json")
    assert code == 2 and not said and err.startswith(f"refseg: {tmp_path}: no run is there; folders with a run.json")
    assert refseg("runs", tmp_path / "nowhere")[0] == 2
    monkeypatch.chdir(tmp_path)
    assert refseg("runs")[0] == 2
    made(tmp_path / "mine")
    assert "mine" in refseg("runs")[1]


def test_a_report_is_one_file(refseg, tmp_path):
    run = made(tmp_path / "one")
    code, said, _ = refseg("report", run)
    assert code == 0 and said == f"report: {run / 'report.html'}\n"
    assert "<svg" in (run / "report.html").read_text()
    assert refseg("report", run)[0] == 0  # once more, in its own place
    page = tmp_path / "pages" / "both.html"
    code, _, err = refseg("report", run, made(tmp_path / "two"))
    assert code == 2 and "2 runs: --out FILE.html" in err
    assert refseg("report", run, tmp_path / "two", run, "--out", page)[0] == 0
    assert "one, two" in page.read_text()


def test_a_report_replaces_no_other_file(refseg, tmp_path):
    run = made(tmp_path / "one")
    letter = tmp_path / "letter.html"
    letter.write_text("dear all")
    code, _, err = refseg("report", run, "--out", letter)
    assert code == 2 and "no page of `refseg report`; another name is accepted, or --overwrite" in err
    assert letter.read_text() == "dear all"
    assert refseg("report", run, "--out", letter, "--overwrite")[0] == 0 and "<svg" in letter.read_text()
    code, _, err = refseg("report", run, "--out", run)
    assert code == 2 and "a folder; the name of a file" in err
    code, _, err = refseg("report", tmp_path, "--out", letter)
    assert code == 2 and "holds no run.json; the folder of a run" in err
    assert refseg("report")[0] == 2


def test_listing_needs_no_torch(tmp_path):
    made(tmp_path / "one")
    call = "import sys; sys.argv = ['refseg', 'runs', sys.argv[1]]\nfrom refseg.cli.main import main\n"
    call += "try: main()\nexcept SystemExit as stop: assert not stop.code\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", call, str(tmp_path)]).returncode == 0


@pytest.mark.parametrize(
    "losses", [[1e308, -1e308, 1.0], [5e-324, 5e-324], [0, 10**400], [-1.0, -2.0], [1e-310, 1e290]], ids=str
)
def test_numbers_at_the_ends_of_what_there_is_are_drawn_or_left_out(refseg, tmp_path, losses):
    run = made(tmp_path / "run")
    lines = [{"step": n + 1, "loss": loss, "gradient": loss, "val": {"mIoU": loss}} for n, loss in enumerate(losses)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = run / "pictures" / "00000001"
    folder.mkdir(parents=True)
    (folder / "pictures.json").write_text('[{"file": "0.png", "iou": 1' + 400 * "0" + "}]")
    code, _, err = refseg("report", run, "--out", tmp_path / "page.html")
    assert code == 0 and "nan" not in (tmp_path / "page.html").read_text().lower().replace("nan</", "")


def test_texts_of_a_run_cannot_write_on_the_terminal_or_spoil_a_page(refseg, tmp_path):
    run = made(tmp_path / "run")
    text = (run / "run.json").read_text().replace('"lgformer-shapes"', r'"\u001b[31mred\ud800"')
    (run / "run.json").write_text(text)
    code, out, err = refseg("runs", tmp_path)
    assert code == 0 and "\x1b[31m" not in out + err and "red" in out
    assert refseg("report", run, "--out", tmp_path / "page.html")[0] == 0
