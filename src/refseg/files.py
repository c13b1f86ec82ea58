"""Files that are never half written, and what an error about one says."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape as glob_escape
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that is too long for the system is that of none."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def hash_of(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong while an open file is written names the file, which Python's own errors do not.

    Raises:
        OSError: It cannot be written; says why in one line.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # whoever raised it has named the file already
            raise
        raise OSError(f"{path}: cannot be written ({error.strerror})") from error


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


_PATIENCE, _PAUSE = 5, 0.02  # times a folder is asked for, and seconds between: whoever only looks holds it that long
_PART = re.compile(r"\..+\.(\d+)\.part")


def sweep(folder: Path, name: str | None = None) -> None:
    """Takes away what killed processes left half-written in a folder: `.NAME.PID.part` of processes that have ended.

    Args:
        folder: The folder.
        name: Take only the leftovers of this file or folder; without it, of all files.
    """
    for leftover in folder.glob(f".{'*' if name is None else glob_escape(name)}.*.part"):
        found = _PART.fullmatch(leftover.name)
        if found is not None and not is_alive(int(found[1])):
            if not leftover.is_dir() or leftover.is_symlink():
                leftover.unlink(missing_ok=True)
            elif name is not None:
                shutil.rmtree(leftover, ignore_errors=True)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


class FolderLock:
    """A folder that one process at a time writes into; the lock ends with its process, however that ends.

    Where a file system or a platform knows no such locks, nothing is locked. Whoever takes the folder finds it without
    the leftovers of killed processes.

    Args:
        folder: The folder, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / ".refseg.lock"
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Takes the folder.

        Raises:
            ValueError: Another process has it.
        """
        if fcntl is None:
            return
        patience = _PATIENCE
        while self._descriptor is None:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError:
                return
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = _owner(descriptor)
                os.close(descriptor)
                patience -= 1
                if patience:
                    time.sleep(_PAUSE)
                    continue
                raise ValueError(f"{self.folder}: process {owner} is writing into it; another folder is accepted, or "
                                 "this one when it has ended") from error  # fmt: skip
            except OSError:
                os.close(descriptor)
                return
            if self._is_still_there(descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                self._descriptor = descriptor
                sweep(self.folder)
            else:  # whoever had it took the file away in between
                os.close(descriptor)

    def release(self) -> None:
        """Gives the folder back."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_still_there(self, descriptor: int) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            return False


def _owner(descriptor: int) -> str:
    return os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"


def writer_of(folder: Path) -> str | None:
    """The process id of whoever writes into a folder under a `FolderLock`; None where nobody does, or nobody can know.

    Nothing is changed by asking.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(FolderLock(folder).path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back with the file
    except BlockingIOError:
        return _owner(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return None


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
