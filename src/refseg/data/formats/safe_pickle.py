"""Reading a pickle without executing it.

A pickle is a program: it can import any function and call it. The annotation files of the RefCOCO family are pickles of
plain containers, strings and numbers, which need none of that. This reader is an interpreter of its own for that part
of the language (protocols 0 to 5, Python 2's strings included). It has no import and no call, so there is nothing in it
that a file could misuse; a file that asks for one is refused with the name of what it wanted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refseg.data.formats.collection import no_collection
from refseg.data.formats.pickle_codes import FORBIDDEN, Damaged, without_escapes
from refseg.fields import shown

MAX_BYTES = 96 * 2**20  # the largest file of the RefCOCO family has a fifth of that
MAX_STEPS = 12_000_000  # twice those of the largest file of the RefCOCO family; they take some seconds
MAX_MEMORY = 340 * 2**20  # of all objects together, as estimated: one byte of a pickle can make one of 72
MAX_SETS = 100_000  # an empty one takes 216 bytes of memory and one of the file; the RefCOCO family has none
ACCEPTED = "lists, tuples, dicts, sets, text, bytes, numbers, booleans and None are accepted; nothing was executed"

_MARK = object()
_SCALARS = (str, bytes, int, float, type(None))  # bool is an int


def load_pickle(path: Path) -> Any:
    """The content of a pickle that holds plain data only.

    Strings that Python 2 wrote become text (UTF-8, or Latin-1 where they are not UTF-8).

    Raises:
        ValueError: The file cannot be read, is damaged, is too large, or wants more than plain data; names it.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: {path.stat().st_size} bytes; a pickle of at most {MAX_BYTES} bytes is accepted")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); a readable file is accepted") from error
    try:
        with no_collection():
            return _Reader(data).run()
    except _Wanted as error:
        raise ValueError(f"{path}: a pickle that wants {error}; {ACCEPTED}") from None
    except Damaged as error:
        raise ValueError(f"{path}: a damaged pickle ({error}); a pickle of plain data is accepted") from None


class _Wanted(Exception):
    """The file asks for something that is not plain data."""


_PUTS = {0x71: 1, 0x72: 4, 0x94: 0}  # BINPUT, LONG_BINPUT, MEMOIZE: the bytes of the number that follows
# What objects take at least, with their place in a list.
_TEXT, _NUMBER, _LIST, _DICT, _ENTRY = 64, 40, 72, 88, 100


class _Reader:
    """Interprets one pickle. Every operation reads its argument at `at` and works on `stack`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.memo: list[Any] = []  # what is remembered, by number
        self.far: dict[int, Any] = {}  # the same for numbers that do not follow one another
        self.open_marks = self.sets = 0
        self.room = MAX_MEMORY  # bytes that may still be used

    def run(self) -> Any:
        """The value. The operations that make up nearly all of the published files are written out here."""
        data, end, stack, memo, operations = self.data, len(self.data), self.stack, self.memo, _OPERATIONS
        at = 0
        try:
            for _ in range(MAX_STEPS):
                if at >= end:
                    raise Damaged("it ends too early")
                code = data[at]
                at += 1
                width = _PUTS.get(code)
                if width is not None and stack and stack[-1] is not _MARK and at + width <= end and (
                    not width or int.from_bytes(data[at : at + width], "little") == len(memo)
                ):  # fmt: skip
                    memo.append(stack[-1])
                    at += width
                elif code == 0x68 and data[at] < len(memo):  # BINGET
                    stack.append(memo[data[at]])
                    at += 1
                elif code == 0x6A and at + 4 <= end and (n := int.from_bytes(data[at : at + 4], "little")) < len(memo):
                    stack.append(memo[n])  # LONG_BINGET
                    at += 4
                elif code == 0x4B:  # BININT1
                    stack.append(data[at])
                    at += 1
                    self.room -= 8
                elif code == 0x2E:
                    self.at = at
                    return self.result()
                else:
                    self.at = at
                    operation = operations[code]
                    if operation is None:
                        self.refuse(bytes((code,)))
                    else:
                        operation(self)
                    at = self.at
                    if self.room < 0:
                        raise Damaged(f"more than {MAX_MEMORY} bytes of memory would be needed")
        except IndexError as error:
            raise Damaged("it ends too early") from error
        raise Damaged(f"more than {MAX_STEPS} values")

    def result(self) -> Any:
        """What is left at the end."""
        if len(self.stack) != 1 or self.open_marks:
            raise Damaged(f"{len(self.stack)} values at its end instead of one")
        if self.at != len(self.data):
            raise Damaged(f"{len(self.data) - self.at} bytes behind its end")
        return self.stack[0]

    def refuse(self, code: bytes) -> None:
        """Names what the file wants, or says that this is no pickle."""
        if code in (b"c", b"i"):
            module, name = self.text(self.line()), self.text(self.line())
            raise _Wanted(f"{shown(f'{module}.{name}')} to be imported")
        if code == b"\x93":  # the two names lie on the stack
            name, module = self.pop(), self.pop()
            raise _Wanted(f"{shown(f'{module}.{name}' if isinstance(module, str) else name)} to be imported")
        if code in (b"\x82", b"\x83", b"\x84"):
            number = int.from_bytes(self.take({b"\x82": 1, b"\x83": 2, b"\x84": 4}[code]), "little")
            raise _Wanted(f"an object by its extension number {number} (EXT)")
        if code == b"P":
            raise _Wanted(f"an object kept outside the file, {shown(self.text(self.line()))} (PERSID)")
        if code in FORBIDDEN:
            raise _Wanted(FORBIDDEN[code])
        raise Damaged(f"unknown operation {code!r} at byte {self.at - 1}")

    # What the operations share

    def take(self, count: int) -> bytes:
        first = self.at
        self.at = first + count
        if count < 0 or self.at > len(self.data):
            raise Damaged(f"{count} bytes are announced at byte {first}, {len(self.data) - first} are left")
        return self.data[first : self.at]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise Damaged(f"a line that starts at byte {self.at} has no end")
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def push(self, value: Any, bytes_: int) -> None:
        """A new value, and how many bytes it takes."""
        self.room -= bytes_
        self.stack.append(value)

    def size(self, bytes_: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(bytes_), "little", signed=signed)

    def text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    def utf8(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Damaged(f"text that is not UTF-8 before byte {self.at}") from error

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Damaged(f"no value where one is used, at byte {self.at - 1}")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise Damaged(f"no {kind.__name__} to add to, at byte {self.at - 1}")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        if not self.open_marks:
            raise Damaged(f"no start of a group, at byte {self.at - 1}")
        self.open_marks -= 1
        stack = self.stack
        first = len(stack) - 1
        while stack[first] is not _MARK:
            first -= 1
        found = stack[first + 1 :]
        del stack[first:]
        return found

    def empty_set(self) -> None:
        self.sets += 1
        if self.sets > MAX_SETS:
            raise Damaged(f"more than {MAX_SETS} sets")
        self.push(set(), 224)

    def key(self, value: Any) -> Any:
        # Only plain keys: the hash of nested tuples takes time that grows exponentially with a file's size.
        if not isinstance(value, _SCALARS):
            raise Damaged(f"a {type(value).__name__} as the key of a dict or the member of a set")
        if isinstance(value, int | float) and abs(value) >= 2**60:  # from here on hashes can be made to collide
            raise Damaged("a number beyond 2**60 as the key of a dict or the member of a set")
        return value

    def remember(self, number: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise Damaged(f"no value to remember, at byte {self.at - 1}")
        if number == len(self.memo):
            self.memo.append(self.stack[-1])
        elif 0 <= number < len(self.memo):
            self.memo[number] = self.stack[-1]
        else:
            self.room -= _ENTRY
            self.far[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        if not 0 <= number < len(self.memo) and number not in self.far:
            raise Damaged(f"value {number} is used before it is there")
        self.stack.append(self.memo[number] if 0 <= number < len(self.memo) else self.far[number])

    def number(self, raw: bytes, kind: Callable[[str], Any]) -> Any:
        try:
            text = raw.decode("ascii")
            if "_" in text:  # Python's grammar, not the pickle's
                raise ValueError
            return kind(text)
        except ValueError as error:
            raise Damaged(f"{shown(raw)} is no number") from error

    # Operations that build values

    def string(self, decode: Callable[[bytes], Any], length: int) -> None:
        raw = self.take(length)
        self.push(decode(raw), _TEXT + (length if decode is bytes or raw.isascii() else 4 * length))

    def mark(self) -> None:
        self.push(_MARK, 8)
        self.open_marks += 1

    def protocol(self) -> None:
        if (version := self.size(1)) > 5:
            raise Damaged(f"protocol {version}; 0 to 5 are known")

    def frame(self) -> None:
        if (size := self.size(8)) > len(self.data) - self.at:
            raise Damaged(f"a frame of {size} bytes at byte {self.at}, {len(self.data) - self.at} are left")

    def pop_one(self) -> None:
        if self.stack and self.stack[-1] is _MARK:
            self.open_marks -= 1
            self.stack.pop()
        else:
            self.pop()

    def duplicate(self) -> None:
        value = self.pop()
        self.room -= 8
        self.stack += [value, value]

    def int_line(self) -> None:
        raw = self.line()
        value = {b"00": False, b"01": True}.get(raw)
        self.push(self.number(raw, int) if value is None else value, _NUMBER + len(raw))

    def long_line(self) -> None:
        raw = self.line().removesuffix(b"L")
        self.push(self.number(raw, int), _NUMBER + len(raw))

    def long_sized(self, width: int) -> None:
        bytes_ = self.size(width, signed=width == 4)
        self.push(self.size(bytes_, signed=True), _NUMBER + bytes_)

    def old_string_line(self) -> None:
        raw = self.line().strip()
        if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
            raise Damaged(f"{shown(raw)} is no quoted string")
        raw = raw[1:-1]
        self.push(self.text(without_escapes(raw)), _TEXT + 4 * len(raw))

    def unicode_line(self) -> None:
        raw = self.line()
        try:
            self.push(raw.decode("raw-unicode-escape"), _TEXT + 4 * len(raw))
        except UnicodeDecodeError as error:
            raise Damaged(f"{shown(raw)} is no escaped text") from error

    def append(self) -> None:
        value = self.pop()
        self.top(list).append(value)

    def appends(self) -> None:
        values = self.pop_to_mark()
        self.top(list).extend(values)

    def set_item(self) -> None:
        value, key = self.pop(), self.key(self.pop())
        self.room -= _ENTRY
        self.top(dict)[key] = value

    def set_items(self) -> None:
        values = self.pop_to_mark()
        self.fill(self.top(dict), values)

    def dict_from_mark(self) -> None:
        found: dict[Any, Any] = {}
        self.fill(found, self.pop_to_mark())
        self.push(found, _DICT)

    def fill(self, target: dict[Any, Any], values: list[Any]) -> None:
        if len(values) % 2:
            raise Damaged(f"a key without a value, at byte {self.at - 1}")
        keys = values[::2]
        for key in keys:
            if type(key) is not str:
                self.key(key)
        self.room -= _ENTRY * len(keys)
        target.update(zip(keys, values[1::2], strict=True))

    def add_items(self) -> None:
        values = self.pop_to_mark()
        self.room -= _ENTRY * len(values)
        self.top(set).update(self.key(value) for value in values)

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self.pop() for _ in range(count)][::-1]), _LIST)


def _operations() -> list[Callable[[_Reader], Any] | None]:
    """What each byte means; None is refused."""
    plain: dict[bytes, Callable[[_Reader], Any]] = {
        b"\x80": _Reader.protocol,
        b"\x95": _Reader.frame,
        b"(": _Reader.mark,
        b"0": _Reader.pop_one,
        b"1": _Reader.pop_to_mark,
        b"2": _Reader.duplicate,
        b"N": lambda r: r.push(None, 8),
        b"\x88": lambda r: r.push(True, 8),
        b"\x89": lambda r: r.push(False, 8),
        b"I": _Reader.int_line,
        b"L": _Reader.long_line,
        b"J": lambda r: r.push(r.size(4, signed=True), _NUMBER),
        b"K": lambda r: r.push(r.size(1), 8),
        b"M": lambda r: r.push(r.size(2), _NUMBER),
        b"\x8a": lambda r: r.long_sized(1),
        b"\x8b": lambda r: r.long_sized(4),
        b"F": lambda r: r.push(r.number(r.line(), float), _NUMBER),
        b"G": lambda r: r.push(struct.unpack(">d", r.take(8))[0], _NUMBER),
        b"S": _Reader.old_string_line,
        b"T": lambda r: r.string(r.text, r.size(4, signed=True)),
        b"U": lambda r: r.string(r.text, r.size(1)),
        b"V": _Reader.unicode_line,
        b"X": lambda r: r.string(r.utf8, r.size(4)),
        b"\x8c": lambda r: r.string(r.utf8, r.size(1)),
        b"\x8d": lambda r: r.string(r.utf8, r.size(8)),
        b"B": lambda r: r.string(bytes, r.size(4)),
        b"C": lambda r: r.string(bytes, r.size(1)),
        b"\x8e": lambda r: r.string(bytes, r.size(8)),
        b"]": lambda r: r.push([], _LIST),
        b"}": lambda r: r.push({}, _DICT),
        b")": lambda r: r.push((), 8),
        b"\x8f": lambda r: r.empty_set(),
        b"l": lambda r: r.push(r.pop_to_mark(), _LIST),
        b"t": lambda r: r.push(tuple(r.pop_to_mark()), _LIST),
        b"d": _Reader.dict_from_mark,
        b"\x85": lambda r: r.tuple_of(1),
        b"\x86": lambda r: r.tuple_of(2),
        b"\x87": lambda r: r.tuple_of(3),
        b"a": _Reader.append,
        b"e": _Reader.appends,
        b"s": _Reader.set_item,
        b"u": _Reader.set_items,
        b"\x90": _Reader.add_items,
        b"p": lambda r: r.remember(r.number(r.line(), int)),
        b"q": lambda r: r.remember(r.size(1)),
        b"r": lambda r: r.remember(r.size(4)),
        b"\x94": lambda r: r.remember(len(r.memo)),
        b"g": lambda r: r.recall(r.number(r.line(), int)),
        b"h": lambda r: r.recall(r.size(1)),
        b"j": lambda r: r.recall(r.size(4)),
    }
    return [plain.get(bytes((code,))) for code in range(256)]


_OPERATIONS = _operations()
