"""The socket: where it listens, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from refseg.web.limits import Limits

LOCAL = ("localhost", "127.0.0.1", "::1")
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
    server = Server(config_of(app, limits), ready)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: None)  # raised once more behind the end, when it has been obeyed
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def config_of(app: Any, limits: Limits) -> uvicorn.Config:
    """How uvicorn serves the application."""

    class Patient(H11Protocol):
        """Closes a connection that has not asked anything after a while, so that silent ones do not fill the house."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(limits.silent, self._close_if_silent)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return uvicorn.Config(
        app, http=Patient, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=STOPPING,
        limit_concurrency=limits.listeners, server_header=False, timeout_keep_alive=15, ws="none",
    )  # fmt: skip


class Server(uvicorn.Server):
    """One that says when it has begun, and whose end is told to those who wait."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._ready = ready

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which waits for requests: those in the queue are refused at once, the last before the end."""
        worker = self.config.app.state.worker  # type: ignore[union-attr]
        worker.refuse()
        last = asyncio.get_running_loop().call_later(STOPPING - 2, worker.give_up)
        await super().shutdown(sockets)
        last.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        if self.started:
            self._ready()
