"""What every request passes: size of the body, access, and headers that keep a browser on this page."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refseg.fields import shown
from refseg.web.asking import Refusal
from refseg.web.limits import Limits
from refseg.web.metrics import Metrics

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OPEN = ("/", "/healthz", "/openapi.json")  # and the files of the page


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: What is behind it.
        hosts: Names under which the server may be called, "*" for any: no page of another name can make a browser ask.
        limits: Largest body, and time to send it.
        token: Wanted of requests to the API and the metrics; empty where anyone may ask.
        metrics: Counts requests by route and status.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], limits: Limits, token: str, metrics: Metrics) -> None:
        self._app, self._limits, self._token, self._metrics = app, limits, token, metrics
        self._hosts = {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            if refusal := self._refused(scope):
                await _answer(sending, refusal)
            else:
                await self._app(scope, self._limited(receive), sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requested(route, status or 500, time.monotonic() - started)

    def _refused(self, scope: Scope) -> Refusal | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = host_of(headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts and "*" not in self._hosts:
            return Refusal(400, f"host {shown(host)}: this server is not called so; `--allow-host` lets a name in")
        if scope["path"].startswith("/v1/") and _from_elsewhere(headers, host):
            return Refusal(403, "a page of another server asks; this server's own page, and programs, are accepted")
        if self._token and not (scope["path"] in OPEN or scope["path"].startswith("/page/")):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token.encode()):
                return Refusal(401, "a token is wanted; the header `Authorization: Bearer TOKEN` is accepted")
        told = headers.get(b"content-length", b"0")
        if told.isdigit() and len(told) < 20 and int(told) <= self._limits.bytes:
            return None
        return Refusal(413, f"body: at most {self._limits.bytes} bytes are accepted")

    def _limited(self, receive: Receive) -> Receive:
        """Counts the bytes of a body, whatever its header says, and the time that it takes."""
        read, until = 0, time.monotonic() + self._limits.seconds
        whole = False

        async def counted() -> Message:
            nonlocal read, whole
            try:
                message = await asyncio.wait_for(receive(), None if whole else max(0.0, until - time.monotonic()))
            except TimeoutError as error:
                raise Refusal(408, f"body: did not arrive within {self._limits.seconds:g} seconds") from error
            read += len(message.get("body", b""))
            whole = whole or not message.get("more_body", False)
            if read > self._limits.bytes:
                raise Refusal(413, f"body: at most {self._limits.bytes} bytes are accepted")
            return message

        return counted


def _from_elsewhere(headers: dict[bytes, bytes], host: str) -> bool:
    """Whether a browser says that a page of another server made it ask.

    A form needs no leave of ours to be sent, and though its answer cannot be read, the work would be done.
    """
    if headers.get(b"sec-fetch-site", b"").lower() == b"cross-site":
        return True
    origin = headers.get(b"origin", b"").decode("latin-1")
    return bool(origin) and host_of(origin.partition("://")[2]) != host


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


async def _answer(send: Any, refusal: Refusal) -> None:
    body = json.dumps({"error": refusal.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    else:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
