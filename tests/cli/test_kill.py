"""A list and an evaluation that are killed at any moment go on, and everything ends as if nobody had killed them."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refseg.files import writing

ROWS = 60
SOURCE = Path(__file__).parents[2] / "src"


def start(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "refseg", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, **options)


def finished(process):
    said = process.communicate()[1].decode()
    return process.returncode, said


def killed_while_it_writes(out, seed, *arguments):
    """Starts a command three times and kills it when something more lies in `out`, a random moment later."""
    chance, kills = random.Random(seed), 0
    for _ in range(3):
        before = sum(path.stat().st_size for path in out.glob("*")) if out.exists() else 0
        process = start(*arguments)
        while process.poll() is None and (not out.exists() or sum(size(p) for p in out.glob("*")) <= before):
            time.sleep(0.005)
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        kills += finished(process)[0] == -signal.SIGKILL
    assert kills, "it was always done before it could be killed"
    code, said = finished(start(*arguments))
    assert code == 0, said


def size(path):
    try:
        return path.stat().st_size
    except OSError:  # it was renamed between the two
        return 0


@pytest.fixture
def photos(tmp_path):
    pixels = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        name = f"photo{number}.png"
        Image.fromarray(pixels.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / name)
        rows.append({"image": name, "expressions": [f"the red circle {number}", "the blue square"]})
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "list.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_list_that_is_killed(refseg, model, photos, tmp_path, seed):
    told = ["segment", "--list", photos, "--model", model, "--masks-only", "--out"]
    killed_while_it_writes(tmp_path / "killed", seed, *told, tmp_path / "killed")
    assert refseg(*told, tmp_path / "whole")[0] == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.png")}
    assert len(files) == 2 * ROWS
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed").glob("*.png")} == files
    assert not [path for path in (tmp_path / "killed").iterdir() if path.name.endswith(".part")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_an_evaluation_that_is_killed(refseg, model, tmp_path, seed):
    told = ["eval", model, "--data", "refshapes", "--split", "val", "--limit", 240, "--out"]
    killed_while_it_writes(tmp_path / "killed", seed, *told, tmp_path / "killed")
    assert refseg(*told, tmp_path / "whole")[0] == 0
    one, other = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("killed", "whole"))
    assert one["results"] == other["results"] and one["mIoU"] == other["mIoU"]
    lines = [(tmp_path / name / "predictions.jsonl").read_text().splitlines()[1:] for name in ("killed", "whole")]
    assert lines[0] == lines[1] and len(lines[0]) == 240
    assert not [path for path in (tmp_path / "killed").iterdir() if path.name.endswith(".part")]


@pytest.fixture
def small_disk():
    """No file grows beyond 3,000 bytes, as on a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(room=3000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "command",
    [
        ["segment", "{photo}", "it", "--model", "{model}", "--out", "{out}"],
        ["eval", "{model}", "--limit", "40", "--out", "{out}"],
        ["data", "export", "refshapes", "{out}", "--split", "val", "--limit", "4"],
    ],
    ids=lambda command: command[0],
)
def test_a_full_disk_is_said_in_one_line_and_the_command_can_be_given_again(
    refseg, model, photo, tmp_path, small_disk, command
):
    told = [part.format(photo=photo, model=model, out=tmp_path / "out") for part in command]
    small_disk()
    code, _, said = refseg(*told)
    small_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert code == 2 and said.count("refseg: ") == 1 and "Error" not in said and str(tmp_path / "out") in said
    assert refseg(*told)[0] == 0
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".part")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["eval", "{model}", "--limit", "2", "--json"]])
def test_a_full_standard_output_is_said(model, arguments):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "refseg", *(part.format(model=model) for part in arguments)]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(SOURCE)})  # fmt: skip
    assert found.returncode == 2 and "Traceback" not in found.stderr and found.stderr.startswith("refseg: ")


def test_a_file_that_cannot_be_written_is_named_once(tmp_path):
    with pytest.raises(OSError, match=rf"^{tmp_path}/a: cannot be written \(File too large\)$"):  # noqa: SIM117
        with writing(tmp_path / "out"), writing(tmp_path / "a"):
            raise OSError(27, "File too large")
