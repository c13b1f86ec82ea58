"""The socket: where it listens, and how it ends."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from refseg.web.limits import Limits

LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
ANYWHERE = ("0.0.0.0", "::")
STOPPING = 30  # seconds that open requests have when the server is told to stop


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        ValueError: The address is not of this machine, or the port is taken.
    """
    listening = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, UnicodeError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        told = f"host {host!r} port {port}: cannot listen there ({reason})"
        raise ValueError(f"{told}; --host and --port take others") from error
    return listening


def hosts_of(host: str) -> tuple[str, ...]:
    """The names under which a server on that address may be called."""
    if host in ANYWHERE:
        return ("*",)
    return (*LOCAL, host)


def run(app: Any, listening: socket.socket, limits: Limits, ready: Callable[[], None] = lambda: None) -> None:
    """Answers until Ctrl-C or SIGTERM; then what was begun is answered, and nothing else.

    Args:
        app: The application.
        listening: What `listen` returned.
        limits: How many connections.
        ready: Called when requests are accepted.
    """
    for name in ("uvicorn.error", "python_multipart"):  # what they warn of is answered
        logging.getLogger(name).setLevel(logging.ERROR)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=STOPPING,
        limit_concurrency=limits.listeners, server_header=False, timeout_keep_alive=15, ws="none",
    )  # fmt: skip
    server = _Server(config, ready)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: None)  # raised once more behind the end, when it has been obeyed
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """One that says when it has begun."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        if self.started:
            self._ready()
