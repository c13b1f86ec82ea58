"""What the benchmarks share: two versions of the package in one process, and contestants timed in turn."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Version:
    """The package as a checkout has it: inside of `with`, `import refseg` means that one, also within its functions."""

    def __init__(self, checkout: Path) -> None:
        """Refuses a folder that is none."""
        if not (checkout / "src/refseg").is_dir():
            raise SystemExit(f"{checkout}: no checkout of refseg; a folder with src/refseg is accepted")
        self.source, self.commit = str(checkout / "src"), commit_of(checkout)
        self._modules: dict[str, ModuleType] = {}
        self._others: dict[str, ModuleType] = {}

    def __enter__(self) -> Version:
        """Puts its modules in the place of another's."""
        self._others = _taken()
        sys.modules.update(self._modules)
        sys.path.insert(0, self.source)
        return self

    def __exit__(self, *_: object) -> None:
        """Puts the other's back."""
        sys.path.remove(self.source)
        self._modules = _taken()
        sys.modules.update(self._others)

    def network(self, preset: str, seed: int) -> Any:
        """The network of a preset with random weights, in evaluation mode, and the input of the preset."""
        with self:
            from refseg.methods import METHODS
            from refseg.presets import get_preset

            found = get_preset(preset)
            torch.manual_seed(seed)
            return METHODS[found.method][0](found.model).eval(), found.input


def _taken() -> dict[str, ModuleType]:
    """The modules of the package, which `import` then no longer finds."""
    names = [name for name in sys.modules if name == "refseg" or name.startswith("refseg.")]
    return {name: sys.modules.pop(name) for name in names}


def commit_of(checkout: Path) -> str:
    """Its commit, with a + where files differ from it."""
    asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def compared(against: Path | None) -> tuple[dict[str, Path], dict[str, str]]:
    """The checkouts that a benchmark compares, this one last, and what its lines say of the other's commit."""
    if against is None:
        return {"now": ROOT}, {}
    other = against.resolve()
    return {"before": other, "now": ROOT}, {"against": Version(other).commit}


def in_process(checkout: Path, code: str, *given: object) -> Any:
    """What a program prints as JSON that runs in a process of its own with a checkout's package.

    It knows `most_memory`, which gives the most that its process has taken so far, in KiB (Linux).
    """
    asked = [sys.executable, "-c", _MOST_MEMORY + code, *map(str, given)]
    done = subprocess.run(asked, capture_output=True, text=True, env={"PYTHONPATH": str(checkout / "src")})
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


_MOST_MEMORY = """
def most_memory():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
"""


def in_turn(contestants: Mapping[str, Callable[[], object]], times: int, clock: str) -> dict[str, list[float]]:
    """Seconds of every contestant, who run one after another again and again; a first round is not counted."""
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(times + 1):
        for name, run in contestants.items():
            begun = now()
            run()
            if turn:
                seconds[name].append(now() - begun)
    return seconds


def told(seconds: list[float], against: list[float] | None = None) -> dict[str, float]:
    """Median, least and most; and how many times faster than another, by the medians."""
    found = {name: round(of(seconds), 4) for name, of in (("median", statistics.median), ("least", min), ("most", max))}
    if against is not None:
        found["times_faster"] = round(statistics.median(against) / statistics.median(seconds), 3)
    return found


def machine(threads: int, clock: str) -> dict[str, Any]:
    """Where a number comes from."""
    return {
        "date": date.today().isoformat(), "machine": processor(), "cores": os.cpu_count(), "threads": threads,
        "clock": clock, "torch": torch.__version__, "python": platform.python_version(),
        "commit": commit_of(ROOT),
        "command": " ".join([f"python -m benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
    }  # fmt: skip


def processor() -> str:
    """Its name, and which products of few bits it has."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in lines.items()}
    flags = found.get("flags", "").split()
    units = [unit for unit in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if unit in flags]
    return f"{found.get('model name', platform.processor() or platform.machine())} ({', '.join(units) or 'unknown'})"


def rate_of_products(times: int = 5) -> float:
    """Thousand millions of float32 multiply-adds a second of a plain convolution here: what bounds the rest."""
    x, weight = torch.randn(1, 512, 60, 60), torch.randn(512, 512, 3, 3)
    with torch.inference_mode():
        seconds = in_turn({"": lambda: torch.nn.functional.conv2d(x, weight, padding=1)}, times, "cpu")[""]
    return round(512 * 512 * 9 * 3600 / min(seconds) / 1e9, 1)


def say(found: dict[str, Any], as_json: bool) -> None:
    """Prints what was measured, as one line of JSON or to read."""
    print(json.dumps(found) if as_json else json.dumps(found, indent=2), flush=True)
