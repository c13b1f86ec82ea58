"""The routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from refseg import __version__
from refseg.prediction import Prediction
from refseg.web.asking import Ask, Refusal, number_of, read_ask, threshold_of
from refseg.web.examples import SCENES, example_expressions, example_picture
from refseg.web.guard import Guard
from refseg.web.kept import Entry, Kept
from refseg.web.limits import Limits
from refseg.web.metrics import Metrics
from refseg.web.schema import ASKED, FIGURE, NAME, REQUEST, THRESHOLD, Answers, Examples, Models, refusals
from refseg.web.shelf import Shelf
from refseg.web.worker import Answered, Drawn, Event, Job, Outcome, Told, Worker, told

PAGE = Path(__file__).parent / "page"
LINES = "application/x-ndjson"
SWEEP = 30  # seconds between looks at what is kept too long
GRACE = 10  # seconds that the end waits for a model
SLIDING = 2  # thresholds that are worked on at a time
GONE = 499  # nobody reads this any more


def create_app(shelf: Shelf, limits: Limits, token: str = "", hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The application.

    Args:
        shelf: The models.
        limits: What is refused, and what is kept.
        token: Wanted of every request to the API; empty where anyone may ask.
        hosts: Names under which the server may be called; see `refseg.web.guard.Guard`.
    """
    metrics, kept = Metrics(), Kept(limits.kept_bytes, limits.kept_seconds)
    worker = Worker(shelf, limits, metrics)
    reading, sliding = asyncio.Semaphore(limits.reading), asyncio.Semaphore(SLIDING)

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        sweeping = asyncio.create_task(_sweep(kept, metrics))
        yield
        sweeping.cancel()
        await run_in_threadpool(worker.stop, GRACE)

    app = FastAPI(
        title="refseg", version=__version__, lifespan=living, docs_url=None, redoc_url=None,
        description="Referring image segmentation: an image and sentences go in, the masks of what they name come out.",
    )  # fmt: skip
    app.state.worker = worker
    app.add_middleware(Guard, hosts=hosts, limits=limits, token=token, metrics=metrics)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(ClientDisconnect, _gone)

    wanted = [Security(HTTPBearer(auto_error=False, description="The token that the server was started with."))]

    @app.post(
        "/v1/segment", responses={200: {"model": Answers, "content": {LINES: {}}}, **refusals(*ASKED)},
        openapi_extra={"requestBody": REQUEST}, dependencies=wanted,
    )  # fmt: skip
    async def segment(request: Request) -> Response:
        """Segments what expressions refer to in an image.

        With `Accept: application/x-ndjson` a line of JSON tells every step (`waiting`, `loading`, `working`), and the
        last one has the answers under `done`, or `failed` with status and error. Who hangs up is no longer answered.
        """
        worker.check_room()
        async with reading:
            ask = await read_ask(request, limits, shelf.names)
        job, events = _job(ask)
        worker.add(job)
        if LINES in request.headers.get("accept", ""):
            lines = _lines(job, events, limits, kept, metrics)
            return StreamingResponse(lines, media_type=LINES)
        event = await _outcome(request, job, events, limits)
        return await run_in_threadpool(_response, event, job.ask, kept, metrics)

    @app.post(
        "/v1/explain", responses={200: FIGURE, **refusals(*ASKED)}, openapi_extra={"requestBody": REQUEST},
        dependencies=wanted, response_class=Response,
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """A figure of why a mask came out, for one expression: what every word changes, attention, masks by layer.

        PNG, or SVG with `Accept: image/svg+xml`; of the mask at 0.5, and of the image at two megapixels at most. What
        the model does not read of the expression is a JSON list in the header X-Refseg-Notes.
        """
        worker.check_room()
        async with reading:
            ask = await read_ask(request, limits, shelf.names)
        if len(ask.expressions) != 1:
            raise Refusal(400, f"{len(ask.expressions)} expressions: a figure is of one")
        if ask.threshold != 0.5:
            raise Refusal(400, f"threshold {ask.threshold:g}: a figure is of the mask at 0.5")
        figure = "svg" if "image/svg+xml" in request.headers.get("accept", "") else "png"
        job, events = _job(replace(ask, figure=figure))
        worker.add(job)
        event = await _outcome(request, job, events, limits)
        return _response(event, ask, kept, metrics)

    @app.get(
        "/v1/answers/{name}", responses={200: {"model": Answers}, **refusals(400, 401, 403, 404)}, dependencies=wanted,
        openapi_extra={"parameters": [NAME, THRESHOLD]},
    )  # fmt: skip
    async def answers(request: Request) -> Response:
        """The same answers with masks where the probability is above another threshold; no model is asked."""
        name = request.path_params["name"]
        entry = kept.find(name)
        if entry is None:
            raise Refusal(404, f"answer: not kept any more, after {limits.kept_seconds:g} seconds or for others; the "
                               "image can be sent again")  # fmt: skip
        try:
            at = threshold_of(number_of(request.query_params.get("threshold", "0.5")))
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        async with sliding:  # they share their threads with all else
            return await run_in_threadpool(_at_threshold, name, entry, at)

    @app.get("/v1/models", response_model=Models, responses=refusals(401, 403), dependencies=wanted)
    async def models() -> Any:
        """The models that are served."""
        return {"models": shelf.listed()}

    @app.get("/v1/examples", response_model=Examples, responses=refusals(401, 403), dependencies=wanted)
    async def examples() -> Any:
        """Drawn scenes to begin with."""
        found = [
            {"name": name, "image": f"/page/examples/{name}.png", "expressions": example_expressions(name)}
            for name in SCENES
        ]
        return {"examples": found}

    @app.get("/page/examples/{name}.png", include_in_schema=False)
    def example(name: str) -> Response:
        if name not in SCENES:
            raise HTTPException(404)
        return Response(example_picture(name), media_type="image/png")

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse, responses=refusals(401), dependencies=wanted)
    def numbers() -> Response:
        """Requests, passes, queue and memory in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def _job(ask: Ask) -> tuple[Job, asyncio.Queue[Event]]:
    """A job, and where it can be heard in this loop."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        with suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(events.put_nowait, event)

    return Job(ask, tell), events


async def _sweep(kept: Kept, metrics: Metrics) -> None:
    """Frees what has had its time, asked or not."""
    while True:
        await asyncio.sleep(SWEEP)
        kept.forget_old()
        metrics.kept.set(kept.bytes)


async def _until_gone(request: Request) -> None:
    """Ends when nobody waits for the answer any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _outcome(request: Request, job: Job, events: asyncio.Queue[Event], limits: Limits) -> Outcome:
    """What becomes of a job in the end; nothing more is done for it when nobody waits, or it is too late."""
    until = asyncio.get_running_loop().time() + limits.seconds
    leaving = asyncio.create_task(_until_gone(request))
    try:
        while True:
            getting = asyncio.create_task(events.get())
            rest = until - asyncio.get_running_loop().time()
            await asyncio.wait({getting, leaving}, timeout=max(0.0, rest), return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                return Refusal(GONE, "nobody waits for this answer") if leaving.done() else _late(limits)
            if not isinstance(event := getting.result(), Told):
                return event
    finally:
        leaving.cancel()
        job.cancelled.set()


async def _lines(
    job: Job, events: asyncio.Queue[Event], limits: Limits, kept: Kept, metrics: Metrics
) -> AsyncIterator[str]:
    """What becomes of a job, a line for every step; whoever hangs up cancels it."""
    try:
        until = asyncio.get_running_loop().time() + limits.seconds
        while True:
            try:
                event = await asyncio.wait_for(events.get(), max(0.0, until - asyncio.get_running_loop().time()))
            except TimeoutError:
                event = _late(limits)
            if isinstance(event, Told):
                yield json.dumps(told(event)) + "\n"
                continue
            if isinstance(event, Answered):
                body = await run_in_threadpool(_answered, event, job.ask, kept, metrics)
                yield json.dumps({"state": "done", "result": body}) + "\n"
            elif isinstance(event, Refusal):
                yield json.dumps({"state": "failed", "status": event.status, "error": event.message}) + "\n"
            return
    finally:
        job.cancelled.set()


def _late(limits: Limits) -> Refusal:
    return Refusal(504, f"no answer within {limits.seconds:g} seconds; fewer expressions or a smaller picture may do")


def _response(outcome: Outcome, ask: Ask, kept: Kept, metrics: Metrics) -> Response:
    if isinstance(outcome, Answered):
        return JSONResponse(_answered(outcome, ask, kept, metrics))
    if isinstance(outcome, Drawn):
        told = {"x-refseg-notes": json.dumps(outcome.notes)} if outcome.notes else {}  # ASCII, as a header must be
        return Response(outcome.content, media_type=outcome.kind, headers=told)
    return JSONResponse({"error": outcome.message}, outcome.status)


def _at_threshold(name: str, entry: Entry, threshold: float) -> Response:
    found = [prediction.at(threshold) for prediction in entry.predictions]
    return JSONResponse(_described(name, entry.model, threshold, found, (), 0.0))


def _answered(event: Answered, ask: Ask, kept: Kept, metrics: Metrics) -> dict[str, Any]:
    name = kept.keep(ask.model, list(event.predictions)) if event.kept else None
    metrics.kept.set(kept.bytes)
    return _described(name, ask.model, ask.threshold, event.predictions, event.notes, event.seconds)


def _described(
    name: str | None,
    model: str,
    threshold: float,
    predictions: Sequence[Prediction],
    notes: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Answers as JSON; see `refseg.web.schema.Answers`."""
    height, width = predictions[0].mask.shape
    return {
        "id": name,
        "model": model,
        "size": [height, width],
        "threshold": threshold,
        "seconds": round(seconds, 4),
        "warnings": list(notes),
        "answers": [{"found": bool(prediction.area), **prediction.to_coco()} for prediction in predictions],
    }


async def _refused(_request: Request, error: Any) -> Response:
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse({"error": error.message}, error.status, headers)


async def _not_found(request: Request, error: Any) -> Response:
    said = {404: "there is nothing here", 405: f"{request.method} is not accepted here"}
    message = said.get(error.status_code, str(error.detail))
    return JSONResponse({"error": message}, error.status_code, getattr(error, "headers", None))


async def _gone(_request: Request, _error: Any) -> Response:
    return Response(status_code=GONE)
