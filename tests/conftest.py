"""Shared by all tests: few threads, fixtures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
torch.set_num_threads(1)  # tensors are tiny here; on a busy machine several threads wait for each other for minutes
REFERENCE = TESTS / "reference"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _forgetful(tmp_path_factory, monkeypatch):
    """What a test looked at is not remembered for the next one."""
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def reference():
    """Reads a file of published numbers: tensors by name."""
    from safetensors.torch import load_file

    return lambda name: load_file(REFERENCE / f"{name}.safetensors")


@pytest.fixture
def refseg(monkeypatch, capsys):
    """Runs `refseg ARGUMENTS` and returns its exit code, stdout and stderr."""

    from refseg.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["refseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return run
