"""The progress bar of the command line, as it writes to stderr."""

from __future__ import annotations

import re

import pytest

from refseg.progress import ProgressBar


def text_of(capsys):
    said = capsys.readouterr()
    assert said.out == ""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.err)


def test_counts_with_and_without_a_total(capsys):
    with ProgressBar("checking", 5) as bar:
        bar.advance(2)
        bar.advance(1)
    assert re.search(r"3/5 .*checking", text_of(capsys))
    with ProgressBar("scoring", None) as bar:
        bar.advance(7)
    assert re.search(r"7/\? .*scoring", text_of(capsys))


def test_steps_show_their_losses_behind_what_a_narrow_terminal_must_not_lose(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    with ProgressBar("training", None) as bar:
        bar.at(101, 200, {"mask": 0.5})
        bar.at(102, 200, {"mask": 0.25, "dice": 1, "reconstruction": 0.125, "gradient": 5e-5})
    assert re.search(r"102/200 .*training m", text_of(capsys).replace("\n", " "))


def test_a_file_gets_a_line_now_and_then(capsys):
    with ProgressBar("training", None) as bar:
        for step in range(1, 121):
            bar.at(step, 120, {"loss": 1 / step, "rate": 5e-5})
    assert text_of(capsys).splitlines() == [
        "training step 50/120: loss 0.02 rate 5e-05", "training step 100/120: loss 0.01 rate 5e-05",
        "training step 120/120: loss 0.00833 rate 5e-05",
    ]  # fmt: skip


def test_the_rate_of_a_resumed_run_counts_its_own_steps_only(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressBar("training", None, hidden=True) as bar:
        bar.at(901, 1000, {})
        task = bar._progress.tasks[0]
        assert task.completed == 901 and task.total == 1000
        assert sum(sample.completed for sample in task._progress) <= 1


@pytest.mark.parametrize("steps", [0, 3])
def test_hidden_or_without_a_step_nothing_is_written(capsys, steps):
    with ProgressBar("checking", 5, hidden=steps > 0) as bar:
        for _ in range(steps):
            bar.advance(1)
    assert text_of(capsys) == ""


def test_a_refused_input_leaves_no_bar(capsys):
    with pytest.raises(ValueError, match="no"), ProgressBar("checking", 5):
        raise ValueError("no")
    assert text_of(capsys) == ""
