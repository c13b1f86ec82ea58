"""`refseg serve`: the page and the HTTP API."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from refseg.cli.options import DeviceOption, PrecisionOption, complain

MIB = 2**20


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Packaged name, folder, or model of the hub; may be given several times. All packaged ones."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str, typer.Option(envvar="REFSEG_TOKEN", help="Wanted of whoever asks the API.", show_envvar=True)
    ] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name under which it is called, as behind a proxy; * for any.")
    ] = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = None,
    max_mb: Annotated[int, typer.Option(min=1, max=2000, help="Largest request in MiB.")] = 20,
    max_megapixels: Annotated[int, typer.Option(min=1, max=89, help="Largest image.")] = 40,
    max_expressions: Annotated[int, typer.Option(min=1, max=1000, help="Most expressions of a request.")] = 32,
    queue: Annotated[int, typer.Option(min=1, max=10000, help="Requests that may wait; others get 429.")] = 16,
    timeout: Annotated[float, typer.Option(min=1, max=86400, help="Longest time of a request in seconds.")] = 120,
    loaded: Annotated[int, typer.Option(min=1, max=100, help="Models in memory at a time.")] = 3,
    keep_mb: Annotated[int, typer.Option(min=1, help="MiB of log-odds kept for the threshold's slider.")] = 256,
    keep_seconds: Annotated[float, typer.Option(min=1, help="For so long they are kept.")] = 600,
) -> None:
    """Serve a page and an HTTP API that segment what expressions refer to; Ctrl-C stops.

    The page is at /, the API at /v1/segment, described by /openapi.json; numbers for Prometheus are at /metrics.
    """
    try:
        from refseg.web.server import hosts_of, listen, run
    except ImportError as error:
        wanted = "`pip install 'refseg[web]'`"
        raise ValueError(f"serve: needs FastAPI and uvicorn ({error}); {wanted} installs them") from error
    from refseg.device import pick_device
    from refseg.fast.choice import check_precision
    from refseg.predictor import Predictor
    from refseg.web.app import create_app
    from refseg.web.limits import Limits
    from refseg.web.shelf import Shelf
    from refseg.weights.folders import DEFAULT_MODEL, packaged_models

    if any(not ("!" <= sign <= "~") for sign in token):
        raise ValueError("token: letters, digits and signs of ASCII without spaces are accepted")
    limits = replace(
        Limits(), bytes=max_mb * MIB, pixels=max_megapixels * 10**6, expressions=max_expressions, waiting=queue,
        seconds=float(timeout), loaded=loaded, kept_bytes=keep_mb * MIB, kept_seconds=float(keep_seconds),
    )  # fmt: skip
    check_precision(precision)  # what is wrong with these two is said now
    pick_device(device)
    names = model or [DEFAULT_MODEL, *(name for name in packaged_models() if name != DEFAULT_MODEL)]
    shelf = Shelf(names, lambda found: Predictor.from_pretrained(found, device, precision), limits.loaded)
    listening = listen(host, port)
    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        complain(f"warning: whoever reaches {host} can ask; --token TOKEN or REFSEG_TOKEN wants one of them")
    at = listening.getsockname()
    shown = f"[{at[0]}]" if ":" in at[0] else at[0]

    def ready() -> None:
        typer.echo(f"refseg serves {', '.join(shelf.names)} on http://{shown}:{at[1]} (Ctrl-C stops)")
        sys.stdout.flush()

    run(create_app(shelf, limits, token, (*hosts_of(host), *(allow_host or ()))), listening, limits, ready)
    typer.echo("stopped", err=True)
