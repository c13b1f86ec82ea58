"""A server under load for as long as wanted: its rate, its latencies, its memory over time, and malformed requests.

    python benchmarks/serve_load.py --seconds 3600 --json

Starts `refseg serve` with one thread on a free port of this machine, measures how many requests a second it answers
when two clients ask without a pause, and then asks at a share of this rate, a request with one RefShapes scene and two
expressions at a time, for the given time. Memory is the server's resident set. Then 500 damaged requests are sent.
Linux.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image

from refseg.data.shapes import RefShapes

SCENES = 40
CALIBRATION = 20  # seconds


class Server:
    """`refseg serve` in a process of its own."""

    def __init__(self, model: str) -> None:
        """Starts it and waits until it says where it is."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "refseg", "serve", "--port", "0", "--model", model]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        found = re.search(r":(\d+) \(", self.process.stdout.readline())
        assert found is not None
        self.port = int(found[1])

    def memory(self) -> float:
        """Resident set in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def ask(self, body: bytes) -> int:
        """The status of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/segment", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def stop(self) -> int:
        """Ends it as a service manager does, and returns its exit code."""
        self.process.terminate()
        return self.process.wait(60)


def bodies() -> list[bytes]:
    """Requests about scenes of val, two expressions each."""
    data, found = RefShapes(), []
    for number in range(SCENES):
        content = io.BytesIO()
        sample = data[number]
        Image.fromarray(sample.image).save(content, format="PNG")
        texts = [expression.text for expression in sample.expressions[:2]]
        image = base64.b64encode(content.getvalue()).decode()
        found.append(json.dumps({"image": image, "expressions": texts}).encode())
    return found


def fastest(server: Server, requests: list[bytes], seconds: float) -> float:
    """Requests a second when two clients ask without a pause."""
    counts, end = [0, 0], time.monotonic() + seconds

    def client(place: int) -> None:
        while time.monotonic() < end:
            server.ask(requests[(counts[place] * 2 + place) % len(requests)])
            counts[place] += 1

    threads = [threading.Thread(target=client, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def load(server: Server, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Asks at a rate, whether the answers come or not; memory at the end of every twentieth of the time."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    lock, start, memory = threading.Lock(), time.monotonic(), [round(server.memory(), 1)]

    def one(number: int) -> None:
        begun = time.monotonic()
        status = server.ask(requests[number % len(requests)])
        with lock:
            statuses[status] += 1
            latencies.append(time.monotonic() - begun)

    threads: list[threading.Thread] = []
    for number in range(max(1, int(rate * seconds))):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        threads = [thread for thread in threads if thread.is_alive()]
        threads.append(threading.Thread(target=one, args=(number,)))
        threads[-1].start()
        if time.monotonic() - start > len(memory) * seconds / 20:
            memory.append(round(server.memory(), 1))
    for thread in threads:
        thread.join()
    at = statistics.quantiles(latencies, n=100)
    return {
        "seconds": round(time.monotonic() - start, 1), "requests": sum(statuses.values()), "rate": round(rate, 3),
        "statuses": dict(statuses), "memory_mib": [*memory, round(server.memory(), 1)],
        "latency_seconds": {"p50": round(at[49], 3), "p95": round(at[94], 3), "p99": round(at[98], 3)},
    }  # fmt: skip


def malformed(server: Server, requests: list[bytes], count: int, seed: int) -> dict[int, int]:
    """Statuses of requests with changed, missing and added bytes."""
    stream, statuses = random.Random(seed), Counter[int]()
    for _ in range(count):
        body = bytearray(stream.choice(requests))
        for _ in range(stream.randint(1, 8)):
            at = stream.randrange(len(body))
            if stream.random() < 0.5:
                body[at] = stream.randrange(256)
            else:
                new = bytes(stream.randrange(256) for _ in range(stream.randrange(20)))
                body[at : at + stream.randrange(100)] = new
        statuses[server.ask(bytes(body))] += 1
    return dict(statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lgformer-shapes")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--share", type=float, default=0.8, help="of the fastest rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    requests = bodies()
    server = Server(given.model)
    try:
        rate = fastest(server, requests, CALIBRATION)
        found = {
            "model": given.model, "fastest": round(rate, 3), "share": given.share, "seed": given.seed,
            **load(server, requests, given.share * rate, given.seconds),
            "malformed": malformed(server, requests, 500, given.seed), "date": date.today().isoformat(),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        }  # fmt: skip
    finally:
        code = server.stop()
    found["exit_code"] = code
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
