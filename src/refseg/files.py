"""Files that are never half written, and what an error about one says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def hash_of(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_folder(out: Path) -> None:
    """Makes sure that files can be written into a folder.

    Raises:
        ValueError: They cannot.
    """
    probe = out / f".refseg-write-test-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written to ({error.strerror}); a writable folder is accepted") from error


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under another name, flushes it and renames it, so that `path` is never half written.

    Raises:
        OSError: It cannot be written; says why in one line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)  # some writers create their file for the owner alone
        beside.replace(path)
        flush_folder(path.parent)
    except Exception as error:  # the libraries' writers wrap a full disk in errors of their own
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else first_line(error)
        raise OSError(f"{path}: cannot be written ({why})") from error
    finally:
        beside.unlink(missing_ok=True)


def write_text_beside(path: Path, text: str) -> None:
    """The same with a text, as UTF-8.

    Raises:
        OSError: See `write_beside`.
    """
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def flush_folder(folder: Path) -> None:
    """Makes sure that what was renamed in a folder survives a power cut; systems that cannot are left alone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
