"""How much one process takes on."""

from __future__ import annotations

from dataclasses import dataclass

from refseg.checked import Checked

MIB = 2**20


@dataclass(frozen=True)
class Limits(Checked):
    """What is refused, and what is kept for how long.

    Attributes:
        bytes: Largest body of a request.
        pixels: Most pixels of an image.
        expressions: Most expressions of a request.
        characters: Longest expression.
        waiting: Requests that wait for a model; the next one is told to come again (429).
        seconds: Longest time from the last byte of a request to its answer, and of sending the request.
        reading: Bodies that are read and decoded at a time; the others wait.
        figure_pixels: Figures of why are of the image at this size, if it is larger.
        together: Images, and expressions of several requests, that go through a network in one pass.
        loaded: Models held in memory; the one that was asked longest ago goes.
        kept_bytes: Memory of log-odds kept for other thresholds; the oldest go.
        kept_seconds: For so long they are kept.
        listeners: Connections at a time; the next one is told to come again (503).
        silent: Seconds after which a connection that has asked nothing is closed.
    """

    bytes: int = 20 * MIB
    pixels: int = 40_000_000
    expressions: int = 32
    characters: int = 500
    waiting: int = 16
    seconds: float = 120.0
    reading: int = 8
    figure_pixels: int = 2_000_000
    together: int = 8
    loaded: int = 3
    kept_bytes: int = 256 * MIB
    kept_seconds: float = 600.0
    listeners: int = 100
    silent: float = 10.0
