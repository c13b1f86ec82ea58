"""`refseg serve` as a person starts and stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")

from served import asking  # noqa: E402


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


STUBBED = """
import sys, threading
sys.path.insert(0, {tests!r})
from served import Stub
from refseg.web.app import create_app
from refseg.web.limits import Limits
from refseg.web.server import listen, run
from refseg.web.shelf import Shelf
stub = Stub(together=False)
stub.free.clear()
listening = listen("127.0.0.1", 0)
threading.Thread(target=lambda: (sys.stdin.readline(), stub.free.set()), daemon=True).start()
run(create_app(Shelf(["lavt-shapes"], lambda _: stub, 1), Limits()), listening, Limits(),
    lambda: print(listening.getsockname()[1], flush=True))
"""


def test_what_waits_when_the_server_stops_is_told_so_and_what_was_begun_is_answered():
    code = STUBBED.format(tests=str(Path(__file__).parents[1]))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = int(process.stdout.readline())
    found = {}

    def ask(place, accept):
        headers = {"content-type": "application/json", "accept": accept}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/segment", json.dumps(asking([str(place)])).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                found[place] = (response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            found[place] = (error.code, error.read().decode())

    threads = []
    for place, accept in enumerate(("application/json", "application/json", "application/x-ndjson"), start=1):
        threads.append(threading.Thread(target=ask, args=(place, accept)))
        threads[-1].start()
        waiting = f"refseg_waiting {place - 1}.0"
        end = time.monotonic() + 30
        while waiting not in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode():
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    threads[1].join(30)
    threads[2].join(30)
    process.stdin.write("go on\n")
    process.stdin.flush()
    threads[0].join(30)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    assert found[1][0] == 200 and found[2][0] == 503 and "stopping" in found[2][1]
    assert json.loads(found[3][1].splitlines()[-1]) == {
        "state": "failed", "status": 503, "error": "the server is stopping; ask again later",
    }  # fmt: skip
