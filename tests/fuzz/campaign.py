"""Feeds every reader with broken inputs and counts what becomes of them: `make fuzz N=50000`.

An input may be read, or refused by a ValueError or OSError whose text names the input. All else is a failure: another
error, a text that names nothing or is an error's class, more than 20 s, or a GiB and a half of memory more.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch

from fuzz.mutate import bytewise
from fuzz.readers import Reader, readers

SECONDS = 20
MEMORY = 1.5 * 2**20  # KiB
CLASS_FIRST = re.compile(r"^\w*(Error|Exception)\b")


class Hang(BaseException):
    """An input took too long; no `except Exception` of a reader catches it."""


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    inputs: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Raises `Hang` in what takes longer."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def try_one(reader: Reader, content: bytes, seconds: float = SECONDS) -> str | None:
    """ "read", "refused", or what is wrong with how the reader took it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = "read"
    try:
        with limited(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(content)
    except (ValueError, OSError) as error:
        said = str(error)
        if isinstance(error, UnicodeError):
            return f"{type(error).__name__}: {said[:100]}"
        if CLASS_FIRST.match(said) or not said.strip():
            return f"unclear: {said[:100]!r}"
        if not any(name in said for name in reader.names):
            return f"names nothing: {said[:200]!r}"
        told = "refused"
    except Hang:
        return f"hang: more than {seconds} s"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library is no Exception
        at = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(at.filename).name}:{at.lineno}: {str(error)[:100]}"
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"memory: {more // 1024} MiB more" if more > MEMORY else told


def mutated(reader: Reader, random: Random) -> bytes:
    """A broken input for a reader."""
    content = random.choice(reader.seeds)
    how = random.choice((bytewise, *reader.mutators, *reader.mutators))
    return how(random, content)


def campaign(inputs: int, seed: int, folder: Path, only: str = "", save: Path | None = None) -> dict[str, Tally]:
    """Tries `inputs` inputs, as many of each kind.

    Args:
        inputs: How many, of all kinds together.
        seed: Decides them.
        folder: An empty one to work in.
        only: One kind, or all.
        save: Where inputs that failed are kept.
    """
    kinds = [reader for reader in readers(folder) if only in ("", reader.kind)]
    found = {reader.kind: Tally() for reader in kinds}
    for reader in kinds:
        print(reader.kind, file=sys.stderr, flush=True)
        random = Random(f"{seed} {reader.kind}")
        for number in range(max(1, inputs // len(kinds))):
            content = mutated(reader, random)
            told = try_one(reader, content)
            tally = found[reader.kind]
            tally.inputs += 1
            if told == "refused":
                tally.refused += 1
            elif told != "read":
                tally.failures.append(f"{reader.kind} {number}: {told}")
                print(tally.failures[-1], file=sys.stderr, flush=True)  # an hour's run may be stopped
                if save is not None:
                    save.mkdir(parents=True, exist_ok=True)
                    (save / f"{reader.kind.replace(' ', '-')}-{number}").write_bytes(content)
    return found


def table(found: dict[str, Tally]) -> str:
    """The counts as a table in Markdown."""
    lines = ["| kind | inputs | refused | read | failures |", "|---|---|---|---|---|"]
    total: Counter[str] = Counter()
    for kind, tally in found.items():
        row = {"inputs": tally.inputs, "refused": tally.refused}
        row |= {"read": tally.inputs - tally.refused - len(tally.failures), "failures": len(tally.failures)}
        total.update(row)
        lines.append(f"| {kind} | " + " | ".join(f"{number:,}" for number in row.values()) + " |")
    lines.append("| all | " + " | ".join(f"{total[name]:,}" for name in row) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line of `make fuzz`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="one kind, as in the table")
    parser.add_argument("--save", type=Path, help="folder for inputs that failed")
    told = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(told.inputs, told.seed, Path(folder), told.only, told.save)
    failures = [line for tally in found.values() for line in tally.failures]
    print("\n".join([*failures[:200], table(found)]))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
