from __future__ import annotations

import time

import pytest

from ball import OUTLINE, own_data
from refseg.data.reading import Reading
from refseg.data.sets import open_data
from refseg.training import pace
from refseg.training.pace import Stopwatch, pace_warnings, reading_warning, steps_between_evaluations


@pytest.mark.parametrize(("epoch", "between"), [(1, 100), (3, 102), (99, 198), (100, 100), (1325, 1325)])
def test_a_small_set_is_not_scored_at_every_pass(epoch, between):
    assert steps_between_evaluations(epoch) == between


def test_what_takes_longer_than_one_thinks():
    assert pace_warnings(0, 16, 32, 6500, 1000, 600) == []
    assert pace_warnings(42404, 32, 32, 53000, 1325, 10834) == []  # the papers'
    (told,) = pace_warnings(3, 16, 32, 6500, 100, 3)
    assert told == "6500 steps are 34,667 passes over 3 items: fewer --steps may do"
    (told,) = pace_warnings(0, 2, 2, 100, 10, 5000)
    assert "each asks 5000 expressions, and between two of them 20 are trained on; --eval-limit" in told
    assert pace_warnings(0, 2, 2, 100, 10, None) == []


def test_reading_that_takes_long_is_said(tmp_path, monkeypatch):
    data = open_data(str(own_data(tmp_path, [OUTLINE])), "all", Reading())
    assert reading_warning(data, 1) == []
    monkeypatch.setattr(pace, "SLOW", 0.0)
    (told,) = reading_warning(data, 2)
    assert "2 worker(s) read" in told


@pytest.mark.parametrize(("reading", "training", "workers", "says"), [
    (0.004, 0.0, 0, "--workers 1 or more reads"), (0.004, 0.0, 3, "more than --workers 3 reads"), (0.0, 0.004, 0, None),
])  # fmt: skip
def test_waiting_for_batches_is_said_once(monkeypatch, reading, training, workers, says):
    clock, told = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def batches():
        for number in range(60):
            clock[0] += 100.0 if number < 2 else reading  # starting the workers is not counted
            yield number

    for _ in Stopwatch(workers, told.append).waiting(batches()):
        clock[0] += training
    assert len(told) == (says is not None) and (says is None or says in told[0] and "100% of the time" in told[0])
