"""Of two that write into one folder the second is refused, whatever became of the first."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from refseg.files import FolderLock

HOLD = (
    "import sys, time; from pathlib import Path; from refseg.files import FolderLock\n"
    "lock = FolderLock(Path(sys.argv[1])); lock.acquire(); print('has it', flush=True); time.sleep(60)"
)


def test_the_second_is_refused_with_the_first_ones_number(tmp_path):
    with FolderLock(tmp_path):
        assert (tmp_path / ".refseg.lock").read_text() == str(os.getpid())
        with pytest.raises(ValueError, match=f"process {os.getpid()} is writing into it"), FolderLock(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    with FolderLock(tmp_path):
        pass


def test_a_killed_process_keeps_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "has it\n"
    with pytest.raises(ValueError, match=f"process {process.pid} is writing"):
        FolderLock(tmp_path).acquire()
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(50):  # the system lets go when the process is gone
        try:
            with FolderLock(tmp_path):
                return
        except ValueError:
            time.sleep(0.1)
    raise AssertionError("a dead process still has the folder")


def test_without_locks_nothing_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr("refseg.files.fcntl", None)
    with FolderLock(tmp_path), FolderLock(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_hold_a_lock_is_no_obstacle(tmp_path):
    with FolderLock(tmp_path / "nowhere"):
        pass
