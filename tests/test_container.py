"""The container's file says what the project does; no daemon builds it here."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.error
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")

from served import stubbed  # noqa: E402

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def steps():
    """Instructions and their arguments, lines that go on joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def of(steps, name):
    return [argument for instruction, argument in steps if instruction == name]


def test_what_is_copied_exists_and_is_let_in(steps):
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for argument in of(steps, "COPY") for name in argument.split()[:-1]}
    assert copied == let_in and all((ROOT / name).exists() for name in copied)


def test_it_runs_without_rights_what_the_command_line_takes(steps):
    order = [instruction for instruction, _ in steps]
    user = of(steps, "USER")[-1]
    assert user != "root" and f"useradd --create-home --uid 10001 {user}" in " ".join(of(steps, "RUN"))
    assert order.index("USER") > max(place for place, name in enumerate(order) if name == "RUN")
    assert json.loads(of(steps, "ENTRYPOINT")[0]) == ["refseg"] and json.loads(of(steps, "CMD")[0])[0] == "serve"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"EXTRAS=(\S+)", " ".join(of(steps, "ARG")))[1]
    python = re.search(r"PYTHON=(\S+)", " ".join(of(steps, "ARG")))[1]
    assert set(extras.split(",")) <= set(project["optional-dependencies"]) and "3.11" <= python <= "3.13"


def test_its_health_check_is_one(steps):
    check = of(steps, "HEALTHCHECK")[0]
    command = json.loads(check[check.index("CMD ") + 4 :])
    assert command[:2] == ["python", "-c"] and ":8000/healthz" in command[2] and of(steps, "EXPOSE") == ["8000"]
    with stubbed() as served:
        exec(command[2].replace(":8000", f":{served.port}"), {})
        dead = served.port
    with pytest.raises(urllib.error.URLError):
        exec(command[2].replace(":8000", f":{dead}"), {})
