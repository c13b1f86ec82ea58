"""Ray's workers: the same rows as one process gives, whoever is killed.

Most of it is asked of a Ray that is played here, whose workers end when they should; the slow tests start a real one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from annotated import Known, answers_in, asked, write
from refseg.annotate import workers
from refseg.annotate.job import InProcess, Job, output_of
from refseg.annotate.opening import open_source
from refseg.weights.store import save_model
from tiny import tiny_model

SOURCE = Path(__file__).parents[2] / "src"
COUNT = 20


class Ended(BaseException):
    """The process of a worker ends."""


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


class Promise:
    def __init__(self, inside, name, given, actor):
        self.inside, self.name, self.given, self.actor = inside, name, given, actor


class PlayedRay:
    """What is used of Ray; work is done when somebody waits for it, in an order that chance decides."""

    def __init__(self, seed=0):
        kinds = ("RayActorError", "RaySystemError", "WorkerCrashedError", "OutOfMemoryError", "ObjectLostError")
        self.exceptions = SimpleNamespace(RayTaskError=RayTaskError, **{n: type(n, (RayError,), {}) for n in kinds})
        self.chance, self.started, self.killed, self.is_up = random.Random(seed), 0, 0, False

    def init(self, **given):
        self.given, self.is_up = given, True

    def shutdown(self):
        self.is_up = False

    def cluster_resources(self):
        return {"CPU": 2.0}

    def kill(self, actor):
        actor.alive = False
        self.killed += 1

    def remote(self, **options):
        assert options == {"num_cpus": 1, "num_gpus": 0, "max_restarts": 0, "max_task_retries": 0}
        return lambda kind: SimpleNamespace(remote=lambda *given: self.actor(kind(*given)))

    def actor(self, inside):
        self.started += 1
        actor = SimpleNamespace(alive=True)
        for name in ("load", "answer"):
            remote = SimpleNamespace(remote=lambda *given, name=name: Promise(inside, name, given, actor))
            setattr(actor, name, remote)
        return actor

    def wait(self, promises, num_returns, timeout):
        assert len(set(promises)) == len(promises) and num_returns == 1
        chosen = self.chance.choice(promises)
        return [chosen], [promise for promise in promises if promise is not chosen]

    def get(self, promise):
        assert promise.actor.alive, "a worker that has ended was asked again"
        try:
            return getattr(promise.inside, promise.name)(*promise.given)
        except Ended:
            promise.actor.alive = False
            raise self.exceptions.RayActorError("The actor died.\nNo module named 'refseg'") from None
        except Exception as error:
            raise RayTaskError(error) from None


@pytest.fixture
def played(monkeypatch):
    """A played Ray whose workers have the known model; `kills` are the questions at which one ends, and how often."""
    ray = PlayedRay()
    ray.kills, ray.loads, ray.answered = Counter(), [], Counter()

    class Mortal(Known):
        def predict(self, images, expressions, details=False):
            for text in (text for texts in expressions for text in texts):
                if ray.kills[text]:
                    ray.kills[text] -= 1
                    raise Ended
            ray.answered.update(text for texts in expressions for text in texts)
            return super().predict(images, expressions, details)

    def load(self):
        if ray.loads and (what := ray.loads.pop(0)) is not None:
            raise what
        self._predictor = Mortal(ray.identities.pop(0) if ray.identities else "stub-1")
        return self._predictor.about

    ray.identities = []
    monkeypatch.setattr(workers, "_library", lambda address: ray)
    monkeypatch.setattr(workers.Worker, "load", load)
    return ray


@pytest.fixture
def listed(tmp_path):
    given = Path(write("list", tmp_path / "in", COUNT))
    lines = given.read_text().splitlines()
    lines[4] = json.dumps({"image": "p004.png", "expressions": ["left", "deadly"]})
    lines[6] = json.dumps({"image": "gone.png", "expression": "left"})
    lines[9] = "no json"
    lines[13] = json.dumps({"image": "p013.png", "expression": "3"})
    given.write_text("\n".join(lines) + "\n")
    return str(given)


def plain(given, output, rows=3):
    source = open_source(given)
    with Job(source, output_of(str(output)), rows=rows) as job:
        list(job.run(InProcess(Known(), source)))
    return contents(output)


def on_ray(given, output, rows=3, workers_=2, **more):
    source = open_source(given)
    with Job(source, output_of(str(output)), rows=rows) as job:
        with workers.OnRay("stub", source, 0.5, workers=workers_, **more) as executor:
            list(job.run(executor))
    return contents(output)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.startswith("part-")}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [1, 3, 50])
def test_the_rows_are_those_of_one_process_in_whatever_order_they_come(played, listed, tmp_path, rows, seed):
    played.chance = random.Random(seed)
    assert on_ray(listed, tmp_path / "ray", rows) == plain(listed, tmp_path / "plain", rows)
    assert played.started == 2 and not played.is_up
    assert len(answers_in(tmp_path / "ray")) == sum(len(asked(n)) for n in range(COUNT)) + 2 - sum(
        len(asked(n)) for n in (4, 6, 9, 13)
    ) + len(["left", "no json", "3"])


@pytest.mark.parametrize("seed", range(5))
def test_a_worker_that_ends_now_and_then_changes_nothing(played, listed, tmp_path, seed):
    played.chance = random.Random(seed)
    played.kills = Counter({"deadly": 1, "12": 1, "3": 1})
    assert on_ray(listed, tmp_path / "ray") == plain(listed, tmp_path / "plain")
    assert played.started == 5 and played.killed == 3 and played.kills.total() == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [1, 3, 50])
def test_a_row_at_which_every_worker_ends_is_a_row_with_that_error(played, listed, tmp_path, rows, seed):
    played.chance = random.Random(seed)
    played.kills = Counter({"deadly": 1000})
    on_ray(listed, tmp_path / "ray", rows)
    plain(listed, tmp_path / "plain", rows)
    found, wanted = (answers_in(tmp_path / name) for name in ("ray", "plain"))
    blamed = [(row["image"], row["expression"]) for row in found if row["error"] == workers.ENDED]
    assert blamed == [("p004.png", "left"), ("p004.png", "deadly")]
    places = [[(row["image"], row["expression"]) for row in rows] for rows in (found, wanted)]
    assert places[0] == places[1]
    assert [row for row in found if row["error"] != workers.ENDED] == [
        row for row in wanted if row["image"] != "p004.png"
    ]
    assert played.answered["3"] == 1  # a chunk without it is answered once


def test_a_job_whose_driver_is_stopped_goes_on_with_other_workers(played, listed, tmp_path):
    source = open_source(listed)
    with Job(source, output_of(str(tmp_path / "ray")), rows=3) as job:
        with workers.OnRay("stub", source, workers=2) as executor:
            parts = job.run(executor)
            for _ in range(3):
                next(parts)
            del parts
    before = contents(tmp_path / "ray")
    assert len(before) == 3
    played.answered.clear()
    after = on_ray(listed, tmp_path / "ray")
    assert after == plain(listed, tmp_path / "plain") and before.items() <= after.items()
    # of what was there nothing was asked again
    assert played.answered.total() < len(answers_in(tmp_path / "ray")) - 3


def test_a_model_that_cannot_be_loaded_is_said(played, listed, tmp_path):
    played.loads = [ValueError("no such model\nmore")]
    with pytest.raises(ValueError, match="^no such model$"):
        on_ray(listed, tmp_path / "ray", workers_=1)
    assert not played.is_up


def test_workers_that_end_while_they_load_are_replaced_and_not_for_ever(played, listed, tmp_path):
    played.loads = [Ended(), None]
    on_ray(listed, tmp_path / "ray", workers_=1)
    assert played.started == 2
    played.loads = [Ended() for _ in range(100)]
    with pytest.raises(OSError, match=r"3 workers ended while they loaded the model \(No module named 'refseg'\); f"):
        on_ray(listed, tmp_path / "other", workers_=2)


def test_another_model_of_the_same_name_on_another_machine_is_refused(played, listed, tmp_path):
    played.identities = ["stub-1", "stub-2"]
    with pytest.raises(ValueError, match="stub: is not the same model on all machines"):
        on_ray(listed, tmp_path / "ray")


def test_a_fault_of_a_worker_is_one_line(played, listed, tmp_path, monkeypatch):
    def broken(self, chunk, only):
        raise KeyError("x\ny")

    monkeypatch.setattr(workers.Worker, "answer", broken)
    with pytest.raises(OSError, match=r"^a worker failed \(KeyError: .*\)$"):
        on_ray(listed, tmp_path / "ray")


def test_a_ray_that_does_not_start_is_tried_again_and_then_said(played, listed, tmp_path):
    tried = []

    def init(**given):
        tried.append(given)
        assert given["num_cpus"] == 2 and not given["include_dashboard"] and given["_node_ip_address"] == "127.0.0.1"
        raise Exception("The current node timed out\nand more")

    played.init = init
    with pytest.raises(
        OSError, match=r"^--ray local: Ray does not start here \(The current node timed out\); a less busy"
    ):
        on_ray(listed, tmp_path / "ray")
    assert len(tried) == 3 and not any(Path(given["_temp_dir"]).exists() for given in tried)
    played.init = lambda **given: (_ for _ in ()).throw(ConnectionError("none"))
    with pytest.raises(ValueError, match=r"^--ray auto: no Ray there \(none\); local, auto or HOST:PORT is accepted$"):
        on_ray(listed, tmp_path / "ray", address="auto")


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_where_nobody_listens_is_said_at_once(played, listed, tmp_path, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = address.format(port=free.getsockname()[1])
        with pytest.raises(
            ValueError, match=rf"^--ray {address}: no Ray there \(.*refused\); local, auto or HOST:PORT"
        ):
            on_ray(listed, tmp_path / "ray", address=address)
        assert not hasattr(played, "given")
        free.listen()
        on_ray(listed, tmp_path / "ray", address=address)
        assert played.given["address"] == address and "num_cpus" not in played.given


def test_what_a_killed_ray_left_is_taken_away(played, listed, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_short_folder", lambda: str(tmp_path / "temporary"))
    for name in ("rs-4194304-abcdefgh", f"rs-{os.getpid()}-abcdefgh", "rs-mine-abcdefgh", "rs-4194304-mine"):
        (tmp_path / "temporary" / name / "inside").mkdir(parents=True)  # no process has the first number
    on_ray(listed, tmp_path / "ray")
    left = sorted(folder.name for folder in (tmp_path / "temporary").iterdir())
    assert left == sorted([f"rs-{os.getpid()}-abcdefgh", "rs-mine-abcdefgh", "rs-4194304-mine"])


def test_whoever_waits_for_a_worker_is_told(played, listed, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(workers, "_PATIENCE", -1.0)
    empty, wait = [None], played.wait
    played.wait = lambda *a, **b: ([], []) if empty and empty.pop() is None else wait(*a, **b)
    on_ray(listed, tmp_path / "ray", say=said.append)
    assert said == ["no worker has loaded the model yet; Ray has 2 CPUs and 0 GPUs"]


# ------------------------------------------------------------------------------------------------------ a real Ray


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model(), folder)
    return folder


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "refseg", "annotate", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finished(process):
    said, complaint = process.communicate(timeout=900)
    assert process.returncode == 0, complaint
    return said


def children_of(process):
    """All processes below one, with what they are called."""
    found, below = {}, {process}
    parents = {}
    for folder in Path("/proc").iterdir():
        try:
            text = (folder / "stat").read_text()
            parents[int(folder.name)] = int(text.rsplit(")", 1)[1].split()[1])
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue
    while True:
        more = {child for child, parent in parents.items() if parent in below} - below
        if not more:
            return {child: found.get(child, "") for child in below - {process}}
        below |= more


def lives(process):
    """Whether a process still runs; one that ended and that nobody has asked about has no command line any more."""
    try:
        return bool((Path("/proc") / str(process) / "cmdline").read_bytes())
    except OSError:
        return False


def wait_for(found, process):
    until = time.monotonic() + 600
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


LONG = 240


@pytest.fixture
def many(tmp_path):
    given = Path(write("tar", tmp_path / "in", 30)).parent
    (given / "shard.tar").rename(given / "0.tar")
    for number in range(1, LONG // 30):
        (given / f"{number}.tar").write_bytes((given / "0.tar").read_bytes())
    (given / "5.tar").write_bytes((given / "5.tar").read_bytes()[:9000])  # and the rest of it is lost
    return str(given / "*.tar")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes as Linux shows them")
def test_two_workers_of_a_real_ray_one_of_them_killed_and_the_driver_too(model, many, tmp_path):
    told = [many, "--model", model, "--rows", 4]
    finished(start(many, tmp_path / "plain", *told[1:]))
    ray = [many, tmp_path / "ray", *told[1:], "--ray", "local", "--workers", 2]

    def parts():
        return sorted(file.name for file in (tmp_path / "ray").glob("part-*"))

    driver = start(*ray)
    wait_for(lambda: len(parts()) >= 2, driver)
    below = children_of(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    before = {name: (tmp_path / "ray" / name).read_bytes() for name in parts()}
    until = time.monotonic() + 60
    # Two small agents of Ray's own take a minute to see that they are alone.
    while left := [name for child, name in below.items() if lives(child) and "Agent" not in name]:
        assert time.monotonic() < until, f"what the killed driver had started goes on: {left}"
        time.sleep(0.2)

    driver = start(*ray)
    wait_for(lambda: len(parts()) >= len(before) + 3, driver)
    inside = [child for child, name in children_of(driver.pid).items() if name.startswith("ray::Worker")]
    assert len(inside) == 2
    os.kill(inside[0], signal.SIGKILL)
    finished(driver)
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    assert before.items() <= contents(tmp_path / "ray").items()
    assert not list((tmp_path / "ray").glob(".*.part"))
    rows = answers_in(tmp_path / "ray")
    assert len({row["model"] for row in rows}) == 1 and sum(row["error"] is not None for row in rows) == 1
    assert finished(start(*ray)).startswith("nothing left to do")
