"""Whoever only asks, or mistypes, does not wait for torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "accelerate", "tensorboard"}
CALL = """
import sys
sys.argv[0] = "refseg"
from refseg.cli.main import main
try:
    main()
except SystemExit as stop:
    code = stop.code
print("\\nLOADED", code or 0, *sorted({name.split(".")[0] for name in sys.modules}))
"""


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command, and the packages that it imported."""
    done = subprocess.run([sys.executable, "-c", CALL, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert "LOADED" in done.stdout, done.stderr
    code, *names = done.stdout.rsplit("LOADED", 1)[1].split()
    return int(code), set(names)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["models"], 0),
        (["models", "eavl", "--json"], 0),
        (["models", "nothing-like-it"], 2),
        (["compare", "a", "b"], 2),
        (["data", "check", "nowhere"], 2),
        (["data", "check", "examples", "--fast"], 1),
        (["segment", "nowhere.png", "the red circle"], 2),
        (["segment", "examples/scene.png"], 2),
        (["segment", "examples/scene.png", "red", "--model", "nowhere"], 2),
        (["segment", "examples/scene.png", "red", "--model", "eavl-shapes"], 2),
        (["segment", "examples/scene.png", "red", "--threshold", "7"], 2),
        (["segment", "--list", "nowhere.jsonl"], 2),
        (["explain", "nowhere.png", "the red circle"], 2),
        (["explain", "examples/scene.png", "red", "--out", "figure.jpg"], 2),
        (["explain", "examples/scene.png", "red", "--model", "eavl-shapes"], 2),
        (["eval", "nowhere"], 2),
        (["eval", "lgformer-shapes", "--data", "nowhere"], 2),
        (["eval", "lgformer-shapes", "--split", "nowhere"], 2),
        (["eval", "--predictions", "nowhere"], 2),
        (["eval"], 2),
        (["train", "nothing"], 2),
        (["runs", "nowhere"], 2),
        (["report", "nowhere"], 2),
        (["push", "nowhere", "user/name"], 2),
        (["push", "lgformer-shapes", "name"], 2),
        (["train", "lgformer-shapes"], 2),
        (["convert", "lavt", "nowhere.pth", "out"], 2),
        (["no-such-command"], 2),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else str(given),
)
def test_nothing_heavy_is_imported(arguments, code):
    found, names = loaded(*arguments)
    assert found == code and not names & HEAVY


def test_segmenting_imports_torch_but_no_library_of_models(tmp_path):
    code, names = loaded("segment", "examples/scene.png", "the striped square", "--out", str(tmp_path))
    assert code == 0 and names & HEAVY == {"torch"}


def test_the_types_and_the_ground_need_no_torch():
    call = "import sys, refseg, refseg.types, refseg.files, refseg.masks, refseg.protocols, refseg.prediction; " \
           "refseg.list_models(); assert 'torch' not in sys.modules"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", call]).returncode == 0


def test_the_command_line_itself_needs_not_even_numpy():
    call = "import sys, refseg.cli.main; assert 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", call]).returncode == 0
