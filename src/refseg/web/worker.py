"""One thread that asks the models: a bounded queue, passes of several requests, ends in time, and tells how far it is.

The requests' own tasks wait elsewhere. What they hear are `Told` while the work goes on, and then an `Answered`, a
`Drawn` or a `Refusal`.
"""

from __future__ import annotations

import io
import logging
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from PIL import Image

from refseg.answers import Answerer
from refseg.data.formats.images import read_image
from refseg.data.formats.pictures import opened
from refseg.files import first_line
from refseg.prediction import Prediction
from refseg.web.asking import Ask, Refusal
from refseg.web.kept import memory_of
from refseg.web.limits import Limits
from refseg.web.metrics import Metrics
from refseg.web.shelf import Shelf

PASS_PIXELS = 2**26  # of all full-size maps of a pass: 256 MiB as floats
log = logging.getLogger("refseg.web")


@dataclass(frozen=True)
class Told:
    """How far a request is.

    Attributes:
        state: "waiting", "loading" or "working".
        done: Requests in front of it, or expressions that are answered.
        of: Expressions of the request.
    """

    state: str
    done: int
    of: int


@dataclass(frozen=True, eq=False)
class Answered:
    """The answers to a request.

    Attributes:
        predictions: One per expression, without the image.
        kept: Whether they have the log-odds still; else these were more than may be kept.
        notes: What whoever asked should know.
        seconds: That the models took for the passes it was part of.
    """

    predictions: tuple[Prediction, ...]
    kept: bool
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure of why a mask came out: the bytes of a file, their media type, and what whoever asks should know."""

    content: bytes
    kind: str
    notes: tuple[str, ...] = ()


Outcome = Answered | Drawn | Refusal
Event = Told | Outcome


class Job:
    """A request on its way through the worker.

    Args:
        ask: What is wanted.
        tell: Hears everything that becomes of it, in the worker's thread.
    """

    def __init__(self, ask: Ask, tell: Callable[[Event], None]) -> None:
        self.ask, self.tell = ask, tell
        self.cancelled = threading.Event()
        self.pixels: np.ndarray | None = None
        self.notes: list[str] = []


class Worker:
    """The thread and its queue.

    Args:
        shelf: The models.
        limits: How many may wait and how much goes through a network together.
        metrics: Counts what is done.
    """

    def __init__(self, shelf: Shelf, limits: Limits, metrics: Metrics) -> None:
        self._shelf, self._limits, self._metrics = shelf, limits, metrics
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._current: list[Job] = []
        self._thread = threading.Thread(target=self._run, name="refseg-worker", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def refuse(self) -> None:
        """Takes nothing more, and refuses what waits; what is being answered goes on."""
        with self._changed:
            self._ended = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            job.tell(_stopping())

    def give_up(self) -> None:
        """Refuses what is being answered, too."""
        for job in list(self._current):
            job.cancelled.set()
            job.tell(_stopping())

    def stop(self, seconds: float) -> None:
        """Ends the thread, and waits so long for it."""
        self.refuse()
        self._thread.join(seconds)

    def check_room(self) -> None:
        """Refuses before a body is read what would be refused behind it.

        Raises:
            Refusal: As `add`.
        """
        with self._changed:
            self._check_room()

    def _check_room(self) -> None:
        if self._ended:
            raise _stopping()
        self._waiting = deque(other for other in self._waiting if not other.cancelled.is_set())
        if len(self._waiting) >= self._limits.waiting:
            raise Refusal(429, f"{len(self._waiting)} requests are waiting already; ask again in a moment")

    def add(self, job: Job) -> None:
        """Puts a job in the queue.

        Raises:
            Refusal: 429 where the queue is full, 503 where the server stops.
        """
        with self._changed:
            self._check_room()
            ahead = len(self._waiting)
            job.tell(Told("waiting", ahead, len(job.ask.expressions)))  # before the thread can say more
            self._waiting.append(job)
            self._metrics.waiting.set(ahead + 1)
            self._changed.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._current = [job]
            with self._telling(self._current):
                self._answer(self._current)

    @contextmanager
    def _telling(self, jobs: list[Job]) -> Iterator[None]:
        """What goes wrong in the block is told to the jobs; what no request can be blamed for also to the log."""
        try:
            yield
            return
        except Refusal as error:
            refusal = error
        except ValueError as error:
            refusal = Refusal(400, self._shelf.without_paths(first_line(error)))
        except Exception as error:
            if isinstance(error, MemoryError) or "memory" in str(error):
                refusal = Refusal(503, "not enough memory for this request; a smaller picture may do")
            else:
                log.exception("a request failed")
                refusal = Refusal(500, "the model failed; the server's log says why")
        for job in jobs:
            job.tell(refusal)

    def _next(self) -> Job | None:
        """The next job that someone still waits for; None at the end."""
        with self._changed:
            while not self._ended:
                while self._waiting:
                    job = self._waiting.popleft()
                    self._metrics.waiting.set(len(self._waiting))
                    if not job.cancelled.is_set():
                        return job
                self._changed.wait()
        return None

    def _answer(self, jobs: list[Job]) -> None:
        """Answers a job, and with it those that can go through the network in the same pass; all come into `jobs`."""
        name = jobs[0].ask.model
        answerer = self._model(jobs[0], name)
        self._read(jobs)
        if jobs and jobs[0].ask.figure:
            self._draw(answerer, jobs[0])
            return
        if jobs and answerer.together:
            self._join(jobs, name)
        alone = jobs
        if len(jobs) > 1 and sum(_pixels_of(job) for job in jobs) <= PASS_PIXELS:
            try:
                self._pass_together(answerer, jobs)
                alone = []
            except Exception:  # of one of them; the others are not to suffer from it
                log.warning("a pass of %d requests failed; each is answered alone", len(jobs))
        for job in alone:
            with self._telling([job]):
                self._answer_alone(answerer, job)

    def _model(self, job: Job, name: str) -> Answerer:
        if not self._shelf.loaded(name):
            job.tell(Told("loading", 0, len(job.ask.expressions)))
        try:
            return self._shelf.get(name)
        except (ValueError, OSError) as error:
            log.error("model %s: %s", name, error)
            raise Refusal(503, f"model {name}: cannot be loaded; the server's log says why") from error

    def _read(self, jobs: list[Job], first: int = 0) -> None:
        """Decodes the images from number `first` on; a job whose image cannot be read is told so, and leaves."""
        for job in jobs[first:]:
            with self._telling([job]):  # whatever is wrong with one image is no fault of the others
                self._decode(job)
            if job.pixels is None:
                jobs.remove(job)

    def _decode(self, job: Job) -> None:
        """Reads the image of a job.

        Raises:
            Refusal: It has more pixels than are accepted.
            ValueError: It is none.
        """
        most = f"at most {self._limits.pixels} are accepted"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with opened(job.ask.image, "image") as picture:
                    width, height = picture.size
            except ValueError as error:
                if "too many pixels" in str(error):  # so many that its header alone is refused
                    raise Refusal(413, f"image of too many pixels: {most}") from error
                raise
            if width * height > self._limits.pixels:
                raise Refusal(413, f"image of {width}x{height} pixels: {most}")
            pixels = read_image(job.ask.image)
        job.notes += [str(warning.message) for warning in caught]
        job.pixels = pixels

    def _join(self, jobs: list[Job], name: str) -> None:
        """Takes waiting jobs about the same model along, as many as fit in a pass with the first."""
        while True:
            with self._changed:
                fitting = (job for job in self._waiting if job.ask.model == name and self._fit([*jobs, job]))
                job = next(fitting, None)
                if job is None:
                    return
                self._waiting.remove(job)
                self._metrics.waiting.set(len(self._waiting))
            if not job.cancelled.is_set():
                jobs.append(job)
                self._read(jobs, first=len(jobs) - 1)

    def _fit(self, jobs: list[Job]) -> bool:
        few = sum(len(job.ask.expressions) for job in jobs) <= self._limits.together
        return few and not any(job.ask.figure for job in jobs)

    def _pass_together(self, answerer: Answerer, jobs: list[Job]) -> None:
        """One pass for several requests."""
        started = time.monotonic()
        images = [cast(np.ndarray, job.pixels) for job in jobs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `notes` says what concerns each
            found = answerer.predict(images, [job.ask.expressions for job in jobs])
        took = time.monotonic() - started
        self._metrics.passed(jobs[0].ask.model, len(jobs), took)
        notes = [answerer.notes(job.ask.expressions) for job in jobs]
        at = [[_at(each, job.ask) for each in some] for job, some in zip(jobs, found, strict=True)]
        for job, predictions, noted in zip(jobs, at, notes, strict=True):  # nothing fails from here on
            job.notes += noted
            _hand_over(job, predictions, True, took)

    def _draw(self, answerer: Answerer, job: Job) -> None:
        """A figure of what every word changes, and of what the method shows of its way."""
        from refseg.explain import explain

        def go_on() -> None:
            if job.cancelled.is_set():
                raise Refusal(499, "nobody waits for this figure")

        job.tell(Told("working", 0, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = at_most(cast(np.ndarray, job.pixels), self._limits.figure_pixels)
            found = explain(pixels, job.ask.expressions[0], answerer, go_on=go_on)
        notes = tuple(answerer.notes(job.ask.expressions))
        if job.ask.figure == "svg":
            job.tell(Drawn(found.svg().encode(), "image/svg+xml", notes))
            return
        content = io.BytesIO()
        found.figure().save(content, format="PNG")
        job.tell(Drawn(content.getvalue(), "image/png", notes))

    def _answer_alone(self, answerer: Answerer, job: Job) -> None:
        """A few expressions at a time, so that it can be ended between, and memory does not grow with their number."""
        texts, pixels = job.ask.expressions, cast(np.ndarray, job.pixels)
        if job.ask.threshold != 0.5 and not answerer.about.log_odds:
            raise ValueError(f"threshold {job.ask.threshold:g}: {job.ask.model} gives masks without log-odds; 0.5 is "
                             "accepted")  # fmt: skip
        step = max(1, min(self._limits.together, PASS_PIXELS // (pixels.shape[0] * pixels.shape[1])))
        started, found, kept = time.monotonic(), list[Prediction](), True
        job.notes += answerer.notes(texts)
        for first in range(0, len(texts), step):
            if job.cancelled.is_set():
                return
            job.tell(Told("working", first, len(texts)))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                some = answerer.predict([pixels], [texts[first : first + step]])[0]
            job.notes += [text for each in caught if (text := str(each.message)) not in job.notes]
            found += [_at(prediction, job.ask) for prediction in some]
            if memory_of(found) > self._limits.kept_bytes:
                kept, found = False, [replace(prediction, logits=None) for prediction in found]
        took = time.monotonic() - started
        self._metrics.passed(job.ask.model, 1, took)
        _hand_over(job, found, kept, took)


def _stopping() -> Refusal:
    return Refusal(503, "the server is stopping; ask again later")


def at_most(pixels: np.ndarray, most: int) -> np.ndarray:
    """(H, W, 3) uint8 made smaller, if it has more than so many pixels."""
    height, width = pixels.shape[:2]
    if height * width <= most:
        return pixels
    share = (most / (height * width)) ** 0.5
    size = max(8, int(width * share)), max(8, int(height * share))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _pixels_of(job: Job) -> int:
    """Of all its full-size maps."""
    height, width = cast(np.ndarray, job.pixels).shape[:2]
    return height * width * len(job.ask.expressions)


def _hand_over(job: Job, predictions: list[Prediction], kept: bool, seconds: float) -> None:
    job.pixels = None
    job.tell(Answered(tuple(predictions), kept, tuple(job.notes), seconds))


def _at(prediction: Prediction, ask: Ask) -> Prediction:
    """A prediction at the wanted threshold, without its image."""
    at = prediction if ask.threshold == prediction.threshold else prediction.at(ask.threshold)
    return replace(at, image=None)


def told(what: Told) -> dict[str, Any]:
    """How far a request is, as JSON."""
    return {"state": what.state, "ahead" if what.state == "waiting" else "done": what.done, "of": what.of}
