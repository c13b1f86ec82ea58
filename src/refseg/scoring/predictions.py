"""Predictions on disk: one JSON line per expression, written once while a model is evaluated.

The first line is a header that says how the masks were made: `model`, `protocol`, `size` ("original" or [height, width]
of the network) and `threshold`, the protocol's other choices that decide a mask, `data` and `split`, and `precision`
where it is not fp32. Every other line has `image_id`, `ref_id`, `sent_id`, `expression`, `rle` (COCO's compressed code)
and `score`. Of a file from another project `size` and `threshold` in the header are needed, and `sent_id` and `rle` in
the lines; what else it says must agree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from refseg.answers import Answer, Answerer
from refseg.data.checks.identity import DataIdentity
from refseg.data.formats.rle import decode_rle, encode_rle
from refseg.data.questions import Question, batches
from refseg.data.transforms import InputConfig
from refseg.fields import parse_json, shown
from refseg.files import write_beside, writing
from refseg.protocols import MASK_FIELDS, Protocol
from refseg.scoring.evaluation import score_answers
from refseg.scoring.metrics import Scores
from refseg.types import Samples

FORMAT = 1


def make_header(
    predictor: Answerer,
    model: str,
    data: DataIdentity,
    split: str,
    words: str,
    limit: int | None,
    protocol: Protocol,
    orientation: str = "fitting",
) -> dict[str, Any]:
    """The first line of a predictions file: everything that decides what follows."""
    about = predictor.about
    config = about.input
    size: Any = "original" if config is None or protocol.resolution == "original" else list(config.size)
    return {
        "format": FORMAT,
        "model": model,
        "sha256": about.sha256,
        "identity": about.identity,
        **data.as_dict(),
        "split": split,
        "words": words,
        "limit": limit,
        "protocol": protocol.name,
        "size": size,
        **({} if config is None else {"fit": config.resize}),
        **{name: getattr(protocol, name) for name in MASK_FIELDS},
        **({"orientation": orientation} if orientation == "stored" else {}),  # else photos are upright
        **({} if about.precision == "fp32" else {"precision": about.precision}),
    }


class PredictionWriter:
    """Writes a predictions file beside its place and renames it when it is complete.

    A run that was stopped leaves the file beside; the next one with the same header goes on behind its last whole line.
    So does one that asks for more of the same expressions than a file that is there, complete or not.

    Args:
        path: The file.
        header: Its first line.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.beside = path.with_name(f".{path.name}.part")
        self._before: PredictionFile | None = None
        for there in (self.beside, path):
            if there == self.beside and there.is_file() and _first(there) == header:
                break
            if there.is_file() and asks_for_more(header, _first(there)):
                _take_over(there, self.beside, header)
                break
        if self.beside.is_file() and _mend(self.beside, header):
            self._before = PredictionFile(self.beside)
        self._file: BinaryIO = self.beside.open("ab" if self._before else "wb")
        if self._before is None:
            with writing(path):
                self._line(header)
                self._file.flush()

    @property
    def resumed(self) -> int:
        """How many expressions were taken over from an earlier run."""
        return len(self._before.ids) if self._before else 0

    def known(self, question: Question) -> list[np.ndarray] | None:
        """The masks of a question that an earlier run answered, else None.

        Raises:
            ValueError: It answered other words, or about another image or reference, under the same identifiers.
        """
        if self._before is None or not all(map(self._before.has, question.sent_ids)):
            return None
        masks, config = [], self._before.config()
        for number, text, sent_id in zip(question.numbers, question.texts, question.sent_ids, strict=True):
            asked = self._before.row(sent_id).get("expression", text)
            if asked != text:
                raise ValueError(f"{self.path.parent}: its expression {sent_id!r} was {asked!r}, and the data now say "
                                 f"{text!r}; a new folder is accepted")  # fmt: skip
            masks.append(self._before.answer(question, number, config))  # its image, reference and size too
        return masks

    def keep(self, question: Question, answer: Answer) -> None:
        """Writes the lines of a question.

        Raises:
            OSError: They cannot be written; names the file.
        """
        with writing(self.path):
            self._keep(question, answer)
            self._file.flush()

    def _keep(self, question: Question, answer: Answer) -> None:
        sample = question.sample
        answers = zip(question.numbers, question.texts, answer.masks, answer.scores, strict=True)
        for number, text, mask, score in answers:
            expression = sample.expressions[number]
            if self._before is not None and self._before.has(expression.sent_id):
                continue
            self._line({
                "image_id": sample.image_id,
                "ref_id": sample.references[expression.reference].ref_id,
                "sent_id": expression.sent_id,
                "expression": text,
                "rle": encode_rle(mask),
                "score": None if score is None else round(score, 6),
            })  # fmt: skip

    def finish(self) -> None:
        """Puts the complete file in its place."""
        with writing(self.path):
            os.fsync(self._file.fileno())
            self.close()
            self.beside.replace(self.path)

    def close(self) -> None:
        """Lets go of the file; what was written stays beside, for the next run."""
        with writing(self.path):
            self._file.close()

    def _line(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")


def read_header(path: Path) -> dict[str, Any]:
    """The first line of a predictions file; the others are not read.

    Raises:
        ValueError: There is no such file, or it does not begin with a header.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a predictions file or a folder of saved scores is accepted")
    with path.open("rb") as file:
        header = _parse(path, 1, file.readline())
    missing = [name for name in ("size", "threshold") if name not in header]
    if missing:
        raise ValueError(f"{path} line 1: no {' and no '.join(missing)}; a header with model, protocol, size "
                         "and threshold is accepted")  # fmt: skip
    return header


class PredictionFile:
    """A predictions file; only the places of its lines are kept in memory.

    Args:
        path: The file.

    Raises:
        ValueError: It is not a predictions file; the message names the line.
    """

    def __init__(self, path: Path) -> None:
        self.header = read_header(path)
        self.path = path
        self._at: dict[str, int] = {}
        with path.open("rb") as file:
            file.readline()
            place = file.tell()
            for line, text in enumerate(file, start=2):
                if text.strip():
                    row = _parse(path, line, text)
                    if "sent_id" not in row or "rle" not in row:
                        raise ValueError(f"{path} line {line}: without sent_id or rle; both are needed")
                    if str(row["sent_id"]) in self._at:
                        raise ValueError(f"{path} line {line}: expression {row['sent_id']!r} again; once is accepted")
                    self._at[str(row["sent_id"])] = place
                place += len(text)

    @property
    def ids(self) -> set[str]:
        """Identifiers of its expressions."""
        return set(self._at)

    @property
    def in_order(self) -> list[str]:
        """The same in the order of its lines."""
        return list(self._at)

    def has(self, sent_id: str) -> bool:
        """Whether it answers an expression."""
        return sent_id in self._at

    def row(self, sent_id: str) -> dict[str, Any]:
        """The line of an expression."""
        with self.path.open("rb") as file:
            file.seek(self._at[sent_id])
            return _parse(self.path, 0, file.readline())

    def mask(self, sent_id: str) -> np.ndarray:
        """(H, W) bool of an expression."""
        return decode_rle(self.row(sent_id)["rle"])

    def answer(self, question: Question, number: int, config: InputConfig | None) -> np.ndarray:
        """The (H, W) bool mask of an expression of a question, after a look at what else its line says.

        Raises:
            ValueError: The line is about another image or reference, or its mask has another size.
        """
        expression = question.sample.expressions[number]
        row = self.row(expression.sent_id)
        ref_id = question.sample.references[expression.reference].ref_id
        _same(self.path, row, image_id=question.sample.image_id, ref_id=ref_id)
        size = question.size if config is None else config.size
        where = f"{self.path}: image {question.sample.image_id} ({expression.sent_id})"
        try:
            mask = decode_rle(row["rle"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if mask.shape != size:
            raise ValueError(f"{where}: mask of shape {mask.shape}; {size} is accepted")
        return mask

    def config(self) -> InputConfig | None:
        """What the model saw, as far as targets of the network's size need it; None for masks at original size.

        Raises:
            ValueError: The header's size or fit is not one.
        """
        size, fit = self.header["size"], self.header.get("fit", "squash")
        if size == "original":
            return None
        sides = size if isinstance(size, list) and len(size) == 2 else [0, 0]
        if not all(type(side) is int and side > 0 for side in sides) or fit not in ("squash", "letterbox"):
            raise ValueError(f"{self.path}: size {size!r} and fit {fit!r}; \"original\" or [height, width], and "
                             "squash or letterbox are accepted")  # fmt: skip
        return InputConfig.of_answers((sides[0], sides[1]), fit)

    def check(self, protocol: Protocol) -> None:
        """Makes sure that the masks were made as a protocol makes them.

        Raises:
            ValueError: Names every difference, in one line.
        """
        made = "original" if self.config() is None else "network"
        found = [("resolution", made, protocol.resolution)]
        found += [(n, self.header[n], getattr(protocol, n)) for n in MASK_FIELDS if n in self.header]
        differences = [f"{name} {given!r}, not {wanted!r}" for name, given, wanted in found if given != wanted]
        if differences:
            raise ValueError(f"{self.path}: made with {'; '.join(differences)} as the protocol {protocol.name!r} needs "
                             "it; predict again under it, or score saved scores (--save-scores)")  # fmt: skip


def score_predictions(
    file: PredictionFile,
    data: Samples,
    protocol: Protocol,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Scores, dict[str, float]]:
    """Scores a predictions file, this package's or another project's, on the split it is about.

    Args:
        file: The predictions.
        data: The split; every image is read once.
        protocol: How masks are compared.
        limit: How many expressions the file is about; all by default.
        progress: Called with the number of images done since the last call.

    Returns:
        The scores, and what it took, as `evaluate` has it.

    Raises:
        ValueError: The masks were made in another way, expressions are missing or unknown, or a line is about another
            image or reference.
    """
    file.check(protocol)
    config, ids, missing = file.config(), file.ids, list[str]()

    def answers(batch: list[Question]) -> Iterator[list[np.ndarray] | None]:
        for question in batch:
            absent = [sent_id for sent_id in question.sent_ids if sent_id not in ids]
            missing.extend(absent)
            ids.difference_update(question.sent_ids)
            yield None if absent else [file.answer(question, number, config) for number in question.numbers]

    unknown = () if getattr(data, "left_out", ()) else ids  # it may answer what was left out
    found = score_answers(batches(data, limit, file.header.get("words", "true")), answers, config, protocol, progress)
    for what, some in (("without a prediction for", missing), ("with predictions for unknown", sorted(unknown))):
        if some:
            first = ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")
            raise ValueError(f"{file.path}: {what} {len(some)} expressions ({first}); all of the split, and no other, "
                             "are accepted")  # fmt: skip
    return found


def _same(path: Path, row: dict[str, Any], **wanted: str) -> None:
    for name, value in wanted.items():
        if name in row and str(row[name]) != value:
            raise ValueError(f"{path}: expression {row['sent_id']!r} has the {name} {row[name]!r}; in the data it "
                             f"is {value!r}")  # fmt: skip


def _parse(path: Path, line: int, text: bytes) -> dict[str, Any]:
    where = f"{path} line {line}"
    try:
        row = parse_json(text.decode("utf-8-sig" if line == 1 else "utf-8"), where)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not text in UTF-8; a predictions file is accepted") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: {shown(row)}; an object is accepted")
    return row


def asks_for_more(header: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether a header asks what another one did, and for more expressions."""
    new, old = header.get("limit"), there.get("limit")
    alike = there.keys() == header.keys() and all(there[name] == header[name] for name in header if name != "limit")
    return alike and type(old) is int and (new is None or new > old)


def _first(path: Path) -> dict[str, Any]:
    """The first line of a file, or nothing where it is no header."""
    try:
        return read_header(path)
    except ValueError:
        return {}


def _take_over(path: Path, beside: Path, header: dict[str, Any]) -> None:
    """Writes the whole lines of a file below another header, without its last image, which a limit may have cut."""
    with path.open("rb") as file:
        whole = [(n, text) for n, text in enumerate(file, start=1) if n > 1 and text.endswith(b"\n")]
    lines = [(_parse(path, n, text).get("image_id"), text) for n, text in whole]
    last = lines[-1][0] if lines else None
    kept = [text for image_id, text in lines if image_id != last]
    write_beside(beside, lambda new: new.write_bytes(json.dumps(header).encode() + b"\n" + b"".join(kept)))


def _mend(path: Path, header: dict[str, Any]) -> bool:
    """Cuts a half-written last line off; says whether the file begins with that header."""
    with path.open("rb+") as file:
        first = file.readline()
        if not first.endswith(b"\n") or first != json.dumps(header).encode() + b"\n":
            return False
        whole = file.tell()
        for text in file:
            if not text.endswith(b"\n"):
                file.truncate(whole)
                break
            whole += len(text)
    return True
