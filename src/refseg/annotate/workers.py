"""Ray's workers: each holds the model and answers chunks, on this machine or on many.

A worker that is killed is replaced and its chunk given to another. A chunk that ends its worker every time is given
out row by row, and the row at which workers end becomes a row with that error. Nothing is kept in memory but the chunks
that are being answered; parts are written by whoever started, so that the workers need only read the input.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.annotate.answering import failed
from refseg.annotate.job import answers_to
from refseg.annotate.sources import Chunk, Source
from refseg.files import first_line, is_alive

if TYPE_CHECKING:
    from refseg.answers import About

LOCAL = "local"
_STARTS = 3  # of a Ray of its own; on a busy machine its parts do not find each other in time
_STORE = 2**27  # bytes that Ray keeps answers in
_ENDED_TOGETHER, _ENDED_ALONE = 2, 2  # times that workers end at a chunk, and then at a row, before it is to blame
_LOADS, _LATER_LOADS = 3, 30  # times workers may end one after another while they load the model, at first and later
_PATIENCE = 30.0  # seconds without a worker until that is said
ENDED = "the worker that answered it ended each time: out of memory, or a fault in a library"


class Worker:
    """What runs in a process of Ray: a model, and a source to read rows from."""

    def __init__(
        self, model: str, device: str | None, source: Source, threshold: float, precision: str | None = None
    ) -> None:
        self._model, self._device, self._source, self._threshold = model, device, source, threshold
        self._precision = precision

    def load(self) -> About:
        """Loads the model; here and not above, so that what is wrong with it is told as such."""
        from refseg.predictor import Predictor

        self._predictor = Predictor.from_pretrained(self._model, self._device, self._precision)
        return self._predictor.about

    def answer(self, chunk: Chunk, only: int | None) -> list[dict[str, Any]]:
        """Answers a chunk, or one row of it."""
        return answers_to(self._predictor, self._source, chunk, self._threshold, only)


@dataclass
class _Task:
    """A chunk that is answered whole, or one of its rows."""

    chunk: Chunk
    only: int | None = None
    ended: int = 0  # workers that ended at it


@dataclass
class _Open:
    """A chunk that is answered row by row."""

    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)


class OnRay:
    """Answers on Ray; a context manager that starts or joins it.

    Args:
        model: Name of the model, as the command takes it; loaded in every worker.
        source: Where the rows come from; the workers read it themselves.
        threshold: Probability above which a pixel is in the mask.
        address: `local` for a Ray of this machine alone and for this job alone; else that of a cluster.
        workers: How many; one per CPU, or per GPU if a GPU is wanted, by default.
        device: Where the model computes.
        say: Takes what a user should know meanwhile.
        precision: In which it answers; see `Predictor.from_pretrained`.

    Raises:
        ValueError: Ray is not installed, there is none at the address, or a worker cannot load the model.
        OSError: A Ray of this machine does not start, or workers end while they load the model.
    """

    def __init__(
        self,
        model: str,
        source: Source,
        threshold: float = 0.5,
        address: str = LOCAL,
        workers: int | None = None,
        device: str | None = None,
        say: Callable[[str], None] = lambda message: None,
        precision: str | None = None,
    ) -> None:
        self._given = (_findable(model), device, source, threshold, precision)
        self._source, self._address, self._device, self._say = source, address, device, say
        self._workers = workers
        self._ray = _library(address)
        self._temporary = ""
        self._about: About | None = None
        self._loading: dict[Any, Any] = {}  # workers that load the model, by what they promised
        self._idle: deque[Any] = deque()
        self._lost = 0  # workers that ended while they loaded the model
        self._why = ""  # the last one ended

    def __enter__(self) -> OnRay:
        try:
            self._connect()
            gpus = self._ray.cluster_resources().get("GPU", 0)
            self._gpu = 1 if gpus and (self._device is None or self._device.startswith("cuda")) else 0
            cpus = self._ray.cluster_resources().get("CPU", 1)
            for _ in range(self._workers or max(1, int(gpus if self._gpu else cpus))):
                self._start_worker()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @property
    def about(self) -> About:
        """What is said of the model; waits for the first worker that has loaded it."""
        waited, told = time.monotonic(), False
        while self._about is None:
            for promise in self._ready(list(self._loading)):
                self._loaded(promise)
            if self._about is None and not told and time.monotonic() - waited > _PATIENCE:
                told = True
                self._say("no worker has loaded the model yet; Ray has " + _resources(self._ray))
        return self._about

    def answered(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
        """The answers to chunks, in the order in which they come."""
        coming = iter(chunks)
        again: deque[_Task] = deque()
        running: dict[Any, tuple[Any, _Task]] = {}
        opened: dict[int, _Open] = {}
        while True:
            while self._idle and (task := again.popleft() if again else _next(coming)) is not None:
                worker = self._idle.popleft()
                running[worker.answer.remote(task.chunk, task.only)] = worker, task
            if not running and not again and (task := _next(coming)) is None:
                return
            if not running and not again and task is not None:  # there is no worker at the moment
                again.append(task)
            for promise in self._ready([*running, *self._loading]):
                if promise in self._loading:
                    self._loaded(promise)
                    continue
                worker, task = running.pop(promise)
                found = self._result(promise)
                if found is not None:
                    self._idle.append(worker)
                else:
                    self._replace(worker)
                    found = self._given_up(task, again, opened)
                done = None if found is None else _put(task, found, opened)
                if done is not None:
                    yield task.chunk, done

    def _given_up(self, task: _Task, again: deque[_Task], opened: dict[int, _Open]) -> list[dict[str, Any]] | None:
        """What becomes of a task at which a worker ended: it is done again, row by row, or is to blame."""
        task.ended += 1
        if task.only is None and task.ended == _ENDED_TOGETHER:
            if task.chunk.count == 1:
                task.only = 0
            else:
                opened[task.chunk.number] = _Open()
                again.extend(_Task(task.chunk, only) for only in range(task.chunk.count))
                return None
        if task.only is not None and task.ended >= _ENDED_ALONE:
            assert self._about is not None
            row = next(row for number, row in enumerate(self._source.rows(task.chunk)) if number == task.only)
            model = self._about.identity or self._about.sha256
            return failed(row, self._source.shards[task.chunk.shard], model, row.problem or ENDED)
        again.appendleft(task)
        return None

    def _replace(self, worker: Any) -> None:
        self._ray.kill(worker)  # one that cannot be reached may be there, and has what the next one needs
        self._start_worker()

    def _start_worker(self) -> None:
        options = {"num_cpus": 1, "num_gpus": self._gpu, "max_restarts": 0, "max_task_retries": 0}
        worker = self._ray.remote(**options)(Worker).remote(*self._given)
        self._loading[worker.load.remote()] = worker

    def _loaded(self, promise: Any) -> None:
        worker = self._loading.pop(promise)
        about = self._result(promise)
        if about is None:
            self._lost += 1
            if self._lost >= (_LOADS if self._about is None else _LATER_LOADS):
                ended = f"{self._lost} workers ended while they loaded the model ({self._why})"
                raise OSError(f"{self._given[0]}: {ended}; fewer --workers, or machines with more memory, are accepted")
            self._replace(worker)
            return
        if self._about is not None and about.identity != self._about.identity:
            raise ValueError(f"{self._given[0]}: is not the same model on all machines; one and the same is accepted")
        self._lost, self._about = 0, about
        self._idle.append(worker)

    def _ready(self, promises: list[Any]) -> list[Any]:
        return list(self._ray.wait(promises, num_returns=1, timeout=1.0)[0])

    def _result(self, promise: Any) -> Any:
        """What a worker gave; None if it ended.

        Raises:
            ValueError: The model cannot be loaded.
            OSError: The device failed.
        """
        try:
            return self._ray.get(promise)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ValueError):
                raise ValueError(first_line(cause)) from None
            if isinstance(cause, OSError):
                raise OSError(first_line(cause)) from None
            raise OSError(f"a worker failed ({type(cause).__name__}: {first_line(cause)})") from None
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.RaySystemError,
                self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError,
                self._ray.exceptions.ObjectLostError) as error:  # fmt: skip
            self._why = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            return None

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": "CRITICAL", "configure_logging": True}
        if self._address != LOCAL:
            try:
                _look_for(self._address)  # Ray itself tries for minutes
                self._ray.init(address=self._address, **quiet)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise ValueError(f"--ray {self._address}: no Ray there ({first_line(error)}); local, auto or HOST:PORT "
                                 "is accepted") from error  # fmt: skip
            return
        workers = self._workers or os.cpu_count() or 1
        _sweep(Path(_short_folder()))
        for trial in range(1, _STARTS + 1):
            self._temporary = tempfile.mkdtemp(prefix=f"rs-{os.getpid()}-", dir=_short_folder())
            try:
                self._ray.init(
                    address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE,
                    _temp_dir=self._temporary, _node_ip_address="127.0.0.1", **quiet,
                )  # fmt: skip
                return
            except Exception as error:  # its own class is Exception itself
                self._leave()
                if trial == _STARTS:
                    hint = "a less busy machine is accepted, or `ray start --head` and --ray auto"
                    raise OSError(f"--ray local: Ray does not start here ({first_line(error)}); {hint}") from error

    def _leave(self) -> None:
        self._ray.shutdown()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = ""


def _next(chunks: Iterator[Chunk]) -> _Task | None:
    chunk = next(chunks, None)
    return None if chunk is None else _Task(chunk)


def _put(task: _Task, rows: list[dict[str, Any]], opened: dict[int, _Open]) -> list[dict[str, Any]] | None:
    """The rows of a chunk if they are all there."""
    if task.chunk.number not in opened:
        return rows
    found = opened[task.chunk.number].rows
    found[task.only or 0] = rows
    if len(found) < task.chunk.count:
        return None
    del opened[task.chunk.number]
    return [row for number in range(task.chunk.count) for row in found[number]]


def _findable(model: str) -> str:
    """The name of a model that is found wherever a worker stands."""
    from refseg.weights.folders import packaged_models

    return str(Path(model).absolute()) if model not in packaged_models() and os.path.isdir(model) else model


def _look_for(address: str) -> None:
    """Looks whether anybody listens at HOST:PORT.

    Raises:
        OSError: Nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _short_folder() -> str:
    """A folder for what is temporary with a short name, since those of sockets may not be long."""
    usual = tempfile.gettempdir()
    return "/tmp" if len(usual) > 30 and os.path.isdir("/tmp") else usual


def _sweep(folder: Path) -> None:
    """Takes away what a Ray of a killed command left."""
    for leftover in folder.glob("rs-*-????????"):
        process = leftover.name.split("-")[1]
        if process.isdigit() and not is_alive(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)


def _resources(ray: Any) -> str:
    found = ray.cluster_resources()
    return f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"


def _library(address: str) -> Any:
    """Ray, told to report to nobody, and one of this machine alone to listen to this machine alone.

    Raises:
        ValueError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 else: behind whatever else the machine does
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ValueError(f"--ray: needs Ray ({error}); `pip install 'refseg[ray]'` brings it") from error
    return ray
