"""`refseg serve` as a person starts and stops it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")


def started(*arguments, **environment):
    """A server on a free port, and its address."""
    command = [sys.executable, "-m", "refseg", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    line = process.stdout.readline()
    return process, re.search(r"http://\S+", line).group(), line


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_stops_in_order(how):
    process, url, line = started("--model", "lavt-shapes", REFSEG_TOKEN="abc")
    try:
        assert "lavt-shapes" in line and b'"ok"' in urllib.request.urlopen(f"{url}/healthz").read()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v1/models")
    finally:
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "" and err == "stopped\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nothing-like-it"], "model 'nothing-like-it': not found"),
        (["--model", "lavt-shapes", "--model", "lavt-shapes"], "two called 'lavt-shapes'"),
        (["--model", ""], "model ''"),
        (["--host", "nowhere.invalid"], "host 'nowhere.invalid' port 8000: cannot listen there"),
        (["--host", ""], "host ''"),
        (["--token", "a b"], "token:"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--port", "70000"], "--port"),
        (["--timeout", "nan"], "timeout"),
    ],
)
def test_what_cannot_be_served_is_one_line(refseg, arguments, said):
    code, out, err = refseg("serve", *arguments)
    assert code == 2 and out == "" and said in err and len(err.splitlines()) == 1


def test_a_port_that_is_taken_is_named(refseg):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = refseg("serve", "--port", port)
    assert code == 2 and f"host '127.0.0.1' port {port}: cannot listen there" in err and "--port" in err


def test_without_the_extra_it_says_what_to_install(refseg, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("refseg.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = refseg("serve")
    assert code == 2 and "refseg[web]" in err and len(err.splitlines()) == 1
