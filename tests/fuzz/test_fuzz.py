"""Broken inputs of every kind are read or refused by name; the campaign that shows it can find what is not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fuzz.campaign import Tally, campaign, table, try_one
from fuzz.readers import Reader
from refseg.encoders.tokenizer import _read_as


@pytest.mark.slow
def test_two_thousand_broken_inputs_are_read_or_refused_by_name(tmp_path):
    found = campaign(2000, 0, tmp_path)
    assert [line for tally in found.values() for line in tally.failures] == []
    assert sum(tally.inputs for tally in found.values()) >= 1900
    assert all(tally.refused for tally in found.values()), "a kind of which nothing was refused was not tried"


def _raises(error):
    def read(_):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda content: None, "read"),
        (_raises(ValueError("file.json: no good")), "refused"),
        (_raises(KeyError("x")), "KeyError in test_fuzz.py"),
        (_raises(ValueError("no good")), "names nothing"),
        (_raises(ValueError("ValueError: file.json")), "unclear"),
        (_raises(UnicodeEncodeError("utf-8", "a", 0, 1, "file.json")), "UnicodeEncodeError"),
        (lambda content: time.sleep(5), "hang"),
    ],
)
def test_the_campaign_finds_what_is_wrong(read, told):
    reader = Reader("json", [b"{}"], read, ("file.json",))
    assert try_one(reader, b"", seconds=0.2).startswith(told)
    assert try_one(replace(reader, read=lambda content: None), b"") == "read"


def test_the_table_adds_up():
    found = {"a": Tally(3, 1, ["a 0: x"]), "b": Tally(2, 2)}
    assert table(found).splitlines()[2:] == [
        "| a | 3 | 1 | 1 | 1 |",
        "| b | 2 | 2 | 0 | 0 |",
        "| all | 5 | 3 | 1 | 1 |",
    ]


def test_no_reader_swallows_a_hang():
    """A tokenizer's panic is no Exception, and a hang is none either: only the first is a refusal."""

    def read(_):
        with _read_as("file.json"):
            time.sleep(5)

    assert try_one(Reader("json", [b""], read, ("file.json",)), b"", seconds=0.2).startswith("hang")
