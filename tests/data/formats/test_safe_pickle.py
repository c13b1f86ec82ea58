from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refseg.data.formats import safe_pickle
from refseg.data.formats.safe_pickle import load_pickle

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["tab\t", "back\\slash", "new\nline", "ä 树 🙂", "'\""])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    | st.lists(inner, max_size=4).map(tuple),
    max_leaves=20,
)  # fmt: skip


def written(tmp_path, content: bytes):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(content)
    return path


def same(a, b):
    """Equal in value and in every type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values, st.integers(0, 5))
def test_reads_what_pickle_wrote_in_every_protocol(tmp_path, value, protocol):
    assert same(load_pickle(written(tmp_path, pickle.dumps(value, protocol))), value)


@pytest.mark.parametrize("protocol", [4, 5])
def test_sets_and_bytes(tmp_path, protocol):
    value = [{1, "a", None}, set(), b"x" * 300, b"", 2**2500, list(range(3000)), {str(i): i for i in range(2000)}]
    assert same(load_pickle(written(tmp_path, pickle.dumps(value, protocol))), value)


def test_shared_parts_stay_shared(tmp_path):
    word = ["man"]
    found = load_pickle(written(tmp_path, pickle.dumps([word, word], 2)))
    assert found == [["man"], ["man"]] and found[0] is found[1]


def test_protocol_0_of_python_2(tmp_path):
    text = (
        b"(lp0\n(dp1\nS'raw'\np2\nS'it\\'s a \\\\ caf\\xc3\\xa9\\n'\np3\nsS'ref_id'\np4\nI12\nsS'big'\nL123L\ns"
        b"S'ok'\nI01\nsS'f'\nF0.5\nsVlatin\\u00e9\ng2\nsS'sent_ids'\n(lp5\nI0\naI-3\nasa."
    )
    assert load_pickle(written(tmp_path, text)) == [
        {
            "raw": "it's a \\ café\n",
            "ref_id": 12,
            "big": 123,
            "ok": True,
            "f": 0.5,
            "latiné": "raw",
            "sent_ids": [0, -3],
        }
    ]


def test_protocol_2_of_python_2_has_strings_of_bytes(tmp_path):
    text = b"\x80\x02]q\x00}q\x01(U\x03rawq\x02U\x05caf\xc3\xa9T\x04\x00\x00\x00sentU\x04caf\xe9K\x05\x8a\x01\xffue."
    text = text.replace(b"]q\x00}q\x01(", b"]q\x00(}q\x01(")
    # UTF-8 where it is UTF-8, Latin-1 where it is not
    assert load_pickle(written(tmp_path, text)) == [{"raw": "café", "sent": "café", 5: -1}]


RAN = []


class Calls:
    """Unpickled by Python it runs a function of ours, which would note it."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def note(*_):
    RAN.append(1)
    return {}


def marker(tmp_path):
    return tmp_path / "ran"


def system(protocol):
    return lambda p: pickle.dumps([{"raw": Calls(os.system, f"touch {marker(p)}")}], protocol)


def evaluated(p):
    return pickle.dumps(Calls(eval, f"open({str(marker(p))!r}, 'w')"), 2)


def call(p):
    return f"cos\nsystem\n(S'touch {marker(p)}'\ntR.".encode()


class State:
    def __setstate__(self, state):
        RAN.append(1)


def with_state(p):
    found = State()
    found.x = 1
    return pickle.dumps({"a": [found]}, 2)


MALICIOUS = {
    "os.system, protocol 0": (system(0), r"'(posix|nt|os)\.system' to be imported"),
    "os.system, protocol 2": (system(2), r"\.system' to be imported"),
    "os.system, protocol 5": (system(5), r"\.system' to be imported"),
    "os.system by hand": (call, r"'os\.system' to be imported"),
    "eval": (evaluated, r"'__builtin__\.eval' to be imported"),
    "an array": (lambda p: pickle.dumps([np.arange(3)], 4), r"'numpy\._core\.multiarray\._reconstruct' to be imported"),
    "a number of numpy": (lambda p: pickle.dumps({"ref_id": np.int64(3)}, 2), r"multiarray\.scalar' to be imported"),
    "an OrderedDict": (lambda p: pickle.dumps(collections.OrderedDict(a=1)), r"'collections\.OrderedDict'"),
    "a date": (lambda p: pickle.dumps(datetime.date(2020, 1, 1)), r"'datetime\.date'"),
    "a decimal": (lambda p: pickle.dumps(decimal.Decimal(1)), r"'decimal\.Decimal'"),
    "a path": (lambda p: pickle.dumps([Path("x")]), r"'pathlib\.PosixPath'|'pathlib\._local\.PosixPath'"),
    "a class": (lambda p: pickle.dumps(State), r"\.State' to be imported"),
    "a state": (with_state, "to be imported"),
    "a function": (lambda p: pickle.dumps(builtins.print), r"print' to be imported"),
    "INST": (lambda p: b"(S'touch x'\nios\nsystem\n.", r"'os\.system' to be imported"),
    "OBJ": (lambda p: b"(S'a'\nS'b'\no.", "to make an object \\(OBJ\\)"),
    "REDUCE without a function": (lambda p: b"S'os.system'\n(S'x'\ntR.", "to call a function \\(REDUCE\\)"),
    "BUILD": (lambda p: b"}S'__class__'\nS'x'\nsb.", "to set the state of an object \\(BUILD\\)"),
    "NEWOBJ": (lambda p: b"\x80\x02S'x'\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX": (lambda p: b"\x80\x04S'x'\n)}\x92.", "NEWOBJ_EX"),
    "EXT1": (lambda p: b"\x80\x02\x82\x05.", "extension number 5"),
    "EXT2": (lambda p: b"\x80\x02\x83\x05\x01.", "extension number 261"),
    "EXT4": (lambda p: b"\x80\x02\x84\x05\x00\x00\x00.", "extension number 5"),
    "PERSID": (lambda p: b"Psecret\n.", "kept outside the file, 'secret'"),
    "BINPERSID": (lambda p: b"S'secret'\nQ.", "kept outside the file"),
    "BYTEARRAY8": (lambda p: pickle.dumps(bytearray(b"x"), 5), "a bytearray"),
    "a buffer": (lambda p: b"\x80\x05\x97.", "a buffer"),
    "READONLY_BUFFER": (lambda p: b"\x80\x05C\x01a\x98.", "a buffer"),
    "FROZENSET": (lambda p: pickle.dumps(frozenset([1]), 4), "a frozenset"),
    "STACK_GLOBAL of no names": (lambda p: b"\x80\x04K\x01K\x02\x93.", "to be imported"),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_nothing_runs_and_the_file_says_what_it_wanted(tmp_path, name):
    make, message = MALICIOUS[name]
    path = written(tmp_path, make(tmp_path))
    RAN.clear()
    with pytest.raises(ValueError, match=message) as caught:
        load_pickle(path)
    assert str(path) in str(caught.value) and "wants" in str(caught.value) and "accepted" in str(caught.value)
    assert not marker(tmp_path).exists() and not RAN


def test_the_malicious_files_are_real(tmp_path):
    """Python's own reader runs them; without this the test above could pass on harmless bytes."""
    pickle.loads(system(2)(tmp_path))
    assert marker(tmp_path).exists()
    marker(tmp_path).unlink()
    pickle.loads(call(tmp_path))
    assert marker(tmp_path).exists()
    RAN.clear()
    pickle.loads(pickle.dumps(Calls(note)))
    pickle.loads(with_state(tmp_path))
    assert len(RAN) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends too early"),
        (b"?hello", "unknown operation b'\\?' at byte 0"),
        (b"\x80\x06N.", "protocol 6"),
        (b"]", "ends too early"),
        (b".", "0 values at its end"),
        (b"NN.", "2 values at its end"),
        (b"(N.", "values at its end"),
        (b"N.N.", "2 bytes behind its end"),
        (b"a.", "no value"),
        (b"}K\x01a.", "no list to add to"),
        (b"]K\x01K\x02s.", "no dict to add to"),
        (b"}(K\x01u.", "a key without a value"),
        (b"(K\x01d.", "a key without a value"),
        (b"e.", "no start of a group"),
        (b"}]K\x01s.", "a list as the key"),
        (b"})K\x01s.", "a tuple as the key"),
        (b"\x8f(]\x90.", "a list as the key of a dict or the member"),
        (b"h\x05.", "value 5 is used before"),
        (b"gx\n.", "no number"),
        (b"I1_000\n.", "no number"),
        (b"Ihello\n.", "no number"),
        (b"I" + b"9" * 5000 + b"\n.", "no number"),
        (b"Fx\n.", "no number"),
        (b"Sabc\n.", "no quoted string"),
        (b"S'\\q'\n.", "unknown escape"),
        (b"V\\u12\n.", "no escaped text"),
        (b"X\x02\x00\x00\x00\xff\xfe.", "not UTF-8"),
        (b"T\xff\xff\xff\xff.", "bytes are announced"),
        (b"X\xff\xff\xff\x7fabc.", "2147483647 bytes are announced"),
        (b"\x8e" + struct.pack("<Q", 2**62) + b".", "are announced"),
        (b"\x8b\xff\xff\xff\xff.", "bytes are announced"),
        (b"\x95" + struct.pack("<Q", 2**40) + b"N.", "a frame of"),
        (b"(1q\x00.", "no value to remember"),
        (b"1.", "no start of a group"),
        (b"S'no end", "has no end"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_pickle(path)
    assert str(path) in str(caught.value) and "damaged" in str(caught.value)


def test_missing_files_folders_and_sizes(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot be read"):
        load_pickle(tmp_path / "none.p")
    with pytest.raises(ValueError, match="cannot be read"):
        load_pickle(tmp_path)
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10 bytes"):
        load_pickle(written(tmp_path, pickle.dumps(list(range(100)))))
    monkeypatch.undo()
    monkeypatch.setattr(safe_pickle, "MAX_STEPS", 50)
    with pytest.raises(ValueError, match="more than 50 values"):
        load_pickle(written(tmp_path, b"(" + b"}" * 100 + b"l."))


@pytest.mark.parametrize(
    "one", [b"]", b"}", b"]\x94", b")\x85", b"\x8c\x03abc", b"M\x00\x01", b"]r\x00\x00\x00\x70", b"(l"]
)
def test_memory_is_bounded_whatever_fills_it(tmp_path, monkeypatch, one):
    monkeypatch.setattr(safe_pickle, "MAX_MEMORY", 10_000)
    with pytest.raises(ValueError, match="more than 10000 bytes of memory"):
        load_pickle(written(tmp_path, b"(" + one * 1000 + b"l."))
    assert len(load_pickle(written(tmp_path, b"(" + one * 20 + b"l."))) == 20


def test_bombs_stay_small(tmp_path):
    # A place in the memo that Python's reader would make room for, and lists that hold each other 2**60 times.
    assert load_pickle(written(tmp_path, b"Nr\xff\xff\xff\x7f.")) is None
    doubled = b"".join(b"(h%ch%clq%c" % (i, i, i + 1) for i in range(60))
    found = load_pickle(written(tmp_path, b"(]q\x00" + doubled + b"l."))
    assert len(found) == 61 and found[60] == [found[59], found[59]]
    tuples = doubled.replace(b"l", b"t")
    with pytest.raises(ValueError, match="a tuple as the key"):  # the hash of such a tuple would take years
        load_pickle(written(tmp_path, b"(}(]q\x00" + tuples + b"}h\x3cNsl."))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_is_always_a_value_error(tmp_path, data):
    protocol = data.draw(st.integers(0, 5))
    content = bytearray(pickle.dumps([{"raw": "a man", "ids": [1, 2, 300], "x": (None, True, 0.5)}] * 2, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        load_pickle(written(tmp_path, bytes(content)))
    except ValueError:
        pass


def test_sets_and_numbers_that_only_cost_time_or_memory_are_refused(tmp_path):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(b"\x80\x04(" + b"\x8f" * 200_000 + b"l.")
    with pytest.raises(ValueError, match="more than 100000 sets"):
        load_pickle(path)
    modulus = 2**61 - 1  # of Python's hash of numbers: all these keys would have the hash 0
    path.write_bytes(pickle.dumps({k * modulus: 0 for k in range(1, 50)}))
    with pytest.raises(ValueError, match=r"a number beyond 2\*\*60 as the key"):
        load_pickle(path)
