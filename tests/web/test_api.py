"""The HTTP API as programs use it, and as they misuse it."""

from __future__ import annotations

import json
import random
import shutil
import socket
import threading
import time
import zlib

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")

from refseg.data.formats.rle import decode_rle
from refseg.predictor import Predictor
from refseg.web.limits import Limits
from refseg.weights.store import save_model
from served import Stub, asking, picture, serving, stubbed
from tiny import tiny_model

BOUNDARY = "xyzzy"


def form(*parts):
    """A form of (name, value) or (name, value, filename), and its header."""
    body = b""
    for name, value, *file in parts:
        extra = f'; filename="{file[0]}"\r\ncontent-type: image/png' if file else ""
        body += f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode()
        body += (value if isinstance(value, bytes) else str(value).encode()) + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode(), {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def until(holds, seconds=20.0):
    """Waits for what other threads do."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def number_of(served, name):
    """A number of /metrics."""
    lines = served.ask("GET", "/metrics")[2].decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)


def test_json_and_form_give_the_same_and_what_the_model_says():
    with stubbed() as served:
        status, one = served.json("POST", "/v1/segment", asking(["red part", "7"]))
        body, headers = form(("image", picture(), "x.png"), ("expression", "red part"), ("expression", "7"))
        other = json.loads(served.ask("POST", "/v1/segment", body, headers)[2])
    assert status == 200 and one["size"] == [40, 60] and one["threshold"] == 0.5 and one["warnings"] == []
    assert [answer["expression"] for answer in one["answers"]] == ["red part", "7"]
    mask = decode_rle(one["answers"][0]["segmentation"])
    assert mask[:, :30].all() and not mask[:, 30:].any()
    assert one["answers"][1]["bbox"] == [0, 0, 7, 40] and one["answers"][1]["area"] == 280
    assert all(one[key] == other[key] for key in ("answers", "model", "size", "warnings"))


def test_a_packaged_model_answers_as_its_predictor_does():
    with serving() as served:
        found = served.json("POST", "/v1/segment", asking(["red square", "a dog"]))[1]
    pixels = np.full((40, 60, 3), 255, np.uint8)
    pixels[:, :30] = (255, 0, 0)
    wanted = Predictor.from_pretrained("lgformer-shapes")(pixels, ["red square", "a dog"])
    assert [answer["area"] for answer in found["answers"]] == [prediction.area for prediction in wanted]
    assert found["warnings"] == ["never read: dog; lgformer-shapes knows drawn shapes only"]


def test_another_threshold_asks_no_model():
    stub = Stub()
    with stubbed(stub) as served:
        first = served.json("POST", "/v1/segment", asking(["left"]))[1]
        for wrong in ("nan", "1", "x", "1e999", "9" * 4000):
            assert served.json("GET", f"/v1/answers/{first['id']}?threshold={wrong}")[0] == 400
        status, second = served.json("GET", f"/v1/answers/{first['id']}?threshold=0.9")
        again = served.json("POST", "/v1/segment", asking(["left"], threshold=0.9))[1]
    assert status == 200 and second["answers"] == again["answers"] != first["answers"]
    assert second["threshold"] == 0.9 and second["id"] == first["id"] and len(stub.passes) == 2


def test_a_model_without_log_odds_keeps_nothing_and_has_one_threshold():
    with stubbed(Stub(log_odds=False, together=False)) as served:
        found = served.json("POST", "/v1/segment", asking())[1]
        status, refused = served.json("POST", "/v1/segment", asking(threshold=0.7))
    assert found["id"] is None and found["answers"][0]["score"] is None
    assert status == 400 and "0.5 is accepted" in refused["error"]


def test_models_health_description_and_page_are_there():
    with stubbed(models=("lgformer-shapes", "lavt-shapes")) as served:
        models = served.json("GET", "/v1/models")[1]["models"]
        assert served.json("GET", "/healthz")[1]["status"] == "ok"
        described = served.json("GET", "/openapi.json")[1]
        status, headers, page = served.ask("GET", "/")
        examples = served.json("GET", "/v1/examples")[1]["examples"]
        drawn = [served.ask("GET", example["image"]) for example in examples]
    assert [model["name"] for model in models] == ["lgformer-shapes", "lavt-shapes"] and models[0]["default"]
    assert {"/v1/segment", "/v1/answers/{name}", "/v1/models", "/healthz", "/metrics"} <= set(described["paths"])
    assert set(described["paths"]["/v1/segment"]["post"]["requestBody"]["content"]) == {
        "application/json", "multipart/form-data",
    }  # fmt: skip
    answered = {path: set(way["responses"]) for path, found in described["paths"].items() for way in found.values()}
    assert answered["/v1/answers/{name}"] == {"200", "400", "401", "403", "404"}
    assert {"408", "413", "415", "429", "503", "504"} < answered["/v1/segment"] and "422" not in str(answered)
    assert set(described["paths"]["/v1/explain"]["post"]["responses"]["200"]["content"]) == {
        "image/png",
        "image/svg+xml",
    }
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert status == 200 and b"<title>refseg" in page and "default-src 'none'" in headers["content-security-policy"]
    assert len(drawn) == 6 and all(status == 200 and content[1:4] == b"PNG" for status, _, content in drawn)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (asking(expressions=[]), 400, "expressions: missing"),
        ({"expressions": ["a"]}, 400, "image: missing"),
        (asking(image=b""), 400, "image: missing"),
        (asking(image=b"no picture"), 400, "image: no image of a known format"),
        (asking(image=picture()[:100]), 400, "image: "),
        (asking(image=picture(4, 60)), 400, "sides of at least 8 pixels"),
        (asking(image=picture(300, 400)), 413, "400x300 pixels: at most 100000"),
        (asking(["x" * 501]), 413, "501 characters"),
        (asking(["x"] * 33), 413, "33 expressions"),
        (asking(["  "]), 400, "empty"),
        (asking([7]), 400, "of type int"),
        (asking(["a \ud800"]), 400, "not valid Unicode"),
        (asking("abc") | {"expressions": "abc"}, 400, "expressions: missing"),
        (asking(model="../../etc"), 400, "not served; lgformer-shapes"),
        (asking(model=["x"]), 400, "not served"),
        (asking(threshold=1), 400, "threshold 1"),
        (asking(threshold=True), 400, "threshold True"),
        (asking(threshold="0.5"), 400, "threshold '0.5'"),
        (asking(other=1), 400, "field 'other'"),
        (asking() | {"expression": "a"}, 400, "one of the two"),
        ({**asking(), "image": "%%%"}, 400, "not base64"),
        ([], 400, "an object"),
    ],
)
def test_what_is_wrong_is_named(body, status, said):
    with stubbed(limits=Limits(pixels=100_000)) as served:
        found, answer = served.json("POST", "/v1/segment", body)
        assert served.json("POST", "/v1/segment", asking())[0] == 200
    assert found == status and said in answer["error"] and list(answer) == ["error"]


def test_other_bodies_paths_and_methods_are_refused():
    with stubbed(limits=Limits(bytes=10_000)) as served:
        tried = {
            415: ("POST", "/v1/segment", b"x", {"content-type": "text/plain"}),
            400: ("POST", "/v1/segment", b'{"a":', {"content-type": "application/json"}),
            413: ("POST", "/v1/segment", b"x" * 10_001, {"content-type": "application/json"}),
            404: ("GET", "/etc/passwd", None, {}),
            405: ("GET", "/v1/segment", None, {}),
        }
        found = {status: served.ask(*request) for status, request in tried.items()}
        for path in (
            "/page/../app.py",
            "/page/%2e%2e/app.py",
            "/page/..%2fapp.py",
            "/page//etc/passwd",
            "/v1/answers/x",
        ):
            assert served.ask("GET", path)[0] == 404
    for status, (got, _, content) in found.items():
        assert got == status and list(json.loads(content)) == ["error"]


def test_a_body_without_a_length_is_counted():
    with stubbed(limits=Limits(bytes=10_000)) as served, socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(b"POST /v1/segment HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                     b"transfer-encoding: chunked\r\n\r\n" + 3 * (b"1000\r\n" + b"x" * 4096 + b"\r\n"))  # fmt: skip
        assert wire.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_arrive_is_given_up():
    with stubbed(limits=Limits(seconds=0.3)) as served, socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.sendall(b"POST /v1/segment HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                     b"content-length: 100\r\n\r\n{")  # fmt: skip
        wire.settimeout(20)
        assert wire.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_token_is_wanted_where_one_was_set():
    with stubbed(token="s3cret") as served:
        for headers in ({}, {"authorization": "Bearer s3cre"}, {"authorization": "s3cret"}):
            assert served.json("POST", "/v1/segment", asking(), headers)[0] == 401
            assert served.ask("GET", "/metrics", headers=headers)[0] == 401
        assert served.json("POST", "/v1/segment", asking(), {"authorization": "Bearer s3cret"})[0] == 200
        assert served.ask("GET", "/")[0] == served.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}],
)
def test_a_page_of_another_server_cannot_make_a_browser_ask(headers):
    stub = Stub()
    with stubbed(stub) as served:
        body, form_headers = form(("image", picture(), "x.png"), ("expression", "red"))
        assert served.ask("POST", "/v1/segment", body, form_headers | headers)[0] == 403
        own = {"origin": served.url, "sec-fetch-site": "same-origin"}
        assert served.ask("POST", "/v1/segment", body, form_headers | own)[0] == 200
    assert len(stub.passes) == 1


def test_a_body_of_brackets_alone_is_refused_before_it_is_parsed():
    with stubbed() as served:
        for body in (b'{"x":[' + b'{"a":1},' * 100_000 + b"1]}", b"[]," * 300_000):
            status, answer = served.json("POST", "/v1/segment", body)
            assert status == 400 and "brackets and commas" in answer["error"]


def test_an_image_that_is_too_large_by_its_header_is_told_the_limit():
    def header(width, height):
        chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
        start = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        return start + b"\x00\x00\x00\x00IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")

    with stubbed() as served:
        for size in ((7000, 7000), (9000, 10_000), (30_000, 30_000)):
            status, answer = served.json("POST", "/v1/segment", asking(image=header(*size)))
            assert status == 413 and "at most 40000000 are accepted" in answer["error"]


def test_probes_may_ask_for_heads_alone():
    with stubbed() as served:
        for path in ("/", "/healthz"):
            status, _, content = served.ask("HEAD", path)
            assert status == 200 and content == b""


def test_silent_connections_are_closed():
    with stubbed(limits=Limits(silent=0.3, listeners=5)) as served:
        wires = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(6)]
        for wire in wires:
            wire.settimeout(20)
            assert wire.recv(10) == b""
            wire.close()
        assert served.ask("GET", "/healthz")[0] == 200


def test_a_page_of_another_name_cannot_make_a_browser_ask():
    with stubbed() as served:
        for name in ("evil.example", "evil.example:80", "localhost.evil.example", ""):
            assert served.ask("GET", "/v1/models", headers={"host": name})[0] == 400
        assert served.ask("GET", "/v1/models", headers={"host": "[::1]:80"})[0] == 200
        assert served.ask("GET", "/v1/models", headers={"host": f"localhost:{served.port}"})[0] == 200


def test_a_figure_of_why_is_drawn_for_one_expression():
    with serving(["lavt-shapes"]) as served:
        body = json.dumps(asking(["red square"])).encode()
        kind = {"content-type": "application/json"}
        status, headers, png = served.ask("POST", "/v1/explain", body, kind)
        svg = served.ask("POST", "/v1/explain", body, kind | {"accept": "image/svg+xml"})[2]
        unread = json.dumps(asking(["red étoile"])).encode()
        warned = served.ask("POST", "/v1/explain", unread, kind)[1]
        refused = served.json("POST", "/v1/explain", asking(["a", "b"]))
        other = served.json("POST", "/v1/explain", asking(["red square"], threshold=0.7))
    assert status == 200 and headers["content-type"] == "image/png" and png[1:4] == b"PNG"
    assert "x-refseg-notes" not in headers
    assert json.loads(warned["x-refseg-notes"]) == ["never read: étoile; lavt-shapes knows drawn shapes only"]
    assert svg.lstrip().startswith((b"<svg", b"<?xml")) and b"lavt-shapes" in svg
    assert refused == (400, {"error": "2 expressions: a figure is of one"})
    assert other == (400, {"error": "threshold 0.7: a figure is of the mask at 0.5"})


def test_a_figure_nobody_waits_for_is_not_finished():
    stub = Stub(together=False)
    stub.free.clear()
    body = json.dumps(asking(["a sentence of so many words that they are asked in several calls"])).encode()
    with stubbed(stub) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as wire:
            wire.sendall(b"POST /v1/explain HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                         + f"content-length: {len(body)}\r\n\r\n".encode() + body)  # fmt: skip
            assert stub.began.wait(30)
        until(lambda: number_of(served, 'refseg_requests_total{route="/v1/explain",status="499"}') == 1)
        stub.free.set()
        assert served.json("POST", "/v1/segment", asking(["3"]))[0] == 200
    assert len(stub.passes) == 2  # the whole sentence, and the next request


def test_large_images_are_explained_at_a_size_a_page_can_show():
    seen = []

    class Looking(Stub):
        def predict(self, images, expressions, details=False):
            seen.append(images[0].shape)
            return super().predict(images, expressions, details)

    limits = Limits(figure_pixels=1000)
    with stubbed(Looking(together=False), limits=limits) as served:
        body = json.dumps(asking(["red"])).encode()
        assert served.ask("POST", "/v1/explain", body, {"content-type": "application/json"})[0] == 200
    assert seen[0] == (25, 38, 3)


def test_no_folder_of_the_machine_is_told(tmp_path):
    folder = tmp_path / "mine"
    save_model(tiny_model(), folder)

    class Broken(Stub):
        def predict(self, images, expressions, details=False):
            raise ValueError(f"{folder}: cannot answer")

    with stubbed(Broken(), models=(str(folder),)) as served:
        models = served.json("GET", "/v1/models")[1]
        status, said = served.json("POST", "/v1/segment", asking())
        shutil.rmtree(folder)
    assert models["models"][0]["name"] == "mine" and str(tmp_path) not in json.dumps(models)
    assert status == 400 and said["error"] == "mine: cannot answer"

    def gone(_):
        raise ValueError(f"{folder}: no such folder")

    save_model(tiny_model(), folder)
    with serving((str(folder),), load=gone) as served:
        status, said = served.json("POST", "/v1/segment", asking())
    assert status == 503 and str(tmp_path) not in said["error"]


def in_background(served, count, begin=1, **more):
    """Starts requests for masks of `begin` columns and more, and returns their threads and answers."""
    found = [None] * count

    def ask(place):
        found[place] = served.json("POST", "/v1/segment", asking([str(place + begin)], **more))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


def test_requests_that_wait_go_through_together_and_get_their_own_answers():
    stub = Stub()
    stub.free.clear()
    with stubbed(stub) as served:
        first, found = in_background(served, 1)
        assert stub.began.wait(30)  # else the first pass could take some of the others along
        threads, others = in_background(served, 5, begin=2)
        until(lambda: number_of(served, "refseg_waiting") == 5)
        stub.free.set()
        for thread in (*first, *threads):
            thread.join(30)
        found += others
    assert [len(images) for images in stub.passes] == [1, 5]
    assert [answer["answers"][0]["area"] for _, answer in found] == [40 * n for n in range(1, 7)]


def test_one_bad_request_does_not_harm_those_beside_it():
    stub = Stub()
    stub.free.clear()
    with stubbed(stub) as served:
        first, _ = in_background(served, 1)
        stub.began.wait(30)
        bad = []
        others = [
            threading.Thread(target=lambda: bad.append(served.json("POST", "/v1/segment", asking(["fails"])))),
            threading.Thread(target=lambda: bad.append(served.json("POST", "/v1/segment", asking(image=b"none")))),
        ]
        for thread in others:
            thread.start()
        threads, found = in_background(served, 2)
        until(lambda: number_of(served, "refseg_waiting") == 4)
        stub.free.set()
        for thread in (*first, *others, *threads):
            thread.join(30)
    assert sorted(status for status, _ in bad) == [400, 500] and all(status == 200 for status, _ in found)
    assert not any("secret" in answer["error"] for _, answer in bad)


def test_an_image_that_takes_all_memory_harms_none_that_waits_beside_it(monkeypatch):
    from refseg.web import worker

    honest = worker.read_image

    def hungry(content):
        if content == picture(48, 60):
            raise MemoryError
        return honest(content)

    monkeypatch.setattr(worker, "read_image", hungry)
    stub, bad = Stub(), []
    stub.free.clear()
    with stubbed(stub) as served:
        first, _ = in_background(served, 1)
        assert stub.began.wait(30)
        threads, found = in_background(served, 1, begin=5)
        until(lambda: number_of(served, "refseg_waiting") == 1)
        body = asking(["2"], image=picture(48, 60))
        threads.append(threading.Thread(target=lambda: bad.append(served.json("POST", "/v1/segment", body))))
        threads[-1].start()
        until(lambda: number_of(served, "refseg_waiting") == 2)
        stub.free.set()
        for thread in (*first, *threads):
            thread.join(30)
    assert bad[0][0] == 503 and "memory" in bad[0][1]["error"]
    assert found[0][0] == 200 and found[0][1]["answers"][0]["area"] == 200


def test_a_full_queue_says_so_and_empties_again():
    stub = Stub(together=False)
    stub.free.clear()
    with stubbed(stub, limits=Limits(waiting=2)) as served:
        first, _ = in_background(served, 1)
        stub.began.wait(30)
        threads, found = in_background(served, 2)
        until(lambda: number_of(served, "refseg_waiting") == 2)
        status, headers, content = served.ask(
            "POST", "/v1/segment", json.dumps(asking()).encode(), {"content-type": "application/json"}
        )
        stub.free.set()
        for thread in (*first, *threads):
            thread.join(30)
        assert served.json("POST", "/v1/segment", asking())[0] == 200
    assert status == 429 and headers["retry-after"] == "1" and b"2 requests are waiting" in content
    assert all(status == 200 for status, _ in found)


def test_a_request_that_takes_too_long_is_answered_and_the_next_is_served():
    stub = Stub()
    stub.free.clear()
    with stubbed(stub, limits=Limits(seconds=0.4)) as served:
        status, answer = served.json("POST", "/v1/segment", asking())
        stub.free.set()
        assert served.json("POST", "/v1/segment", asking())[0] == 200
    assert status == 504 and "0.4 seconds" in answer["error"]


def test_whoever_hangs_up_is_taken_out_of_the_queue():
    stub = Stub(together=False)
    stub.free.clear()
    body = json.dumps(asking(["never asked"])).encode()
    with stubbed(stub) as served:
        first, _ = in_background(served, 1)
        stub.began.wait(30)
        with socket.create_connection(("127.0.0.1", served.port)) as wire:
            wire.sendall(b"POST /v1/segment HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                         + f"content-length: {len(body)}\r\n\r\n".encode() + body)  # fmt: skip
            until(lambda: number_of(served, "refseg_waiting") == 1)
        until(lambda: number_of(served, 'refseg_requests_total{route="/v1/segment",status="499"}') == 1)
        stub.free.set()
        for thread in first:
            thread.join(30)
        assert served.json("POST", "/v1/segment", asking(["2"]))[0] == 200
    assert ["never asked"] not in [texts for images in stub.passes for texts in images]


def test_lines_tell_every_step():
    texts = [str(number) for number in range(1, 12)]
    with stubbed(Stub(together=False)) as served:
        headers = {"content-type": "application/json", "accept": "application/x-ndjson"}
        content = served.ask("POST", "/v1/segment", json.dumps(asking(texts)).encode(), headers)[2]
        failed = served.ask("POST", "/v1/segment", json.dumps(asking(["fails"])).encode(), headers)[2]
    lines = [json.loads(line) for line in content.decode().splitlines()]
    assert [line["state"] for line in lines] == ["waiting", "loading", "working", "working", "done"]
    assert [line["done"] for line in lines[2:4]] == [0, 8] and len(lines[-1]["result"]["answers"]) == 11
    assert json.loads(failed.decode().splitlines()[-1]) == {
        "state": "failed", "status": 500, "error": "the model failed; the server's log says why",
    }  # fmt: skip


def test_what_is_kept_is_bounded_and_expires():
    one = 40 * 60 * 5  # a mask and its log-odds
    with stubbed(limits=Limits(kept_bytes=2 * one, kept_seconds=600)) as served:
        names = [served.json("POST", "/v1/segment", asking())[1]["id"] for _ in range(3)]
        there = [served.json("GET", f"/v1/answers/{name}")[0] for name in names]
        assert number_of(served, "refseg_kept_bytes") == 2 * one
        large = served.json("POST", "/v1/segment", asking(["1", "2", "3"]))[1]
    assert there == [404, 200, 200] and large["id"] is None and len(large["answers"]) == 3
    with stubbed(limits=Limits(kept_seconds=0.05)) as served:
        name = served.json("POST", "/v1/segment", asking())[1]["id"]
        time.sleep(0.1)
        status, said = served.json("GET", f"/v1/answers/{name}")
    assert status == 404 and "not kept any more" in said["error"]


def test_the_end_answers_what_was_begun():
    stub = Stub(together=False)
    stub.free.clear()
    with stubbed(stub) as served:
        threads, found = in_background(served, 1)
        stub.began.wait(30)
        threading.Timer(0.3, stub.free.set).start()
    for thread in threads:
        thread.join(30)
    assert found[0][0] == 200


DAMAGE = (b"\x00", b'"', b"{" * 500, b"\r\n--xyzzy", b"\xff\xfe", b"NaN", b"1e999", b"\\ud800")
KINDS = ("multipart/form-data", "application/json; charset=utf-99", "", "x" * 300)


def damaged(stream):
    """A request that may be anything but in order."""
    body, headers = form(("image", picture(), "x.png"), ("expression", "red"), ("threshold", "0.4"))
    if stream.random() < 0.5:
        body, headers = json.dumps(asking(["red"], threshold=0.4)).encode(), {"content-type": "application/json"}
    body = bytearray(body)
    for _ in range(stream.randint(1, 12)):
        at = stream.randrange(len(body))
        kind = stream.randrange(4)
        if kind == 0:
            body[at] = stream.randrange(256)
        elif kind == 1:
            del body[at : at + stream.randint(1, 200)]
        elif kind == 2:
            body[at:at] = bytes(stream.randrange(256) for _ in range(stream.randint(1, 30)))
        else:
            body[at:at] = stream.choice(
                [b"\x00", b'"', b"{" * 500, b"\r\n--xyzzy", b"\xff\xfe", b"NaN", b"1e999", b"\\ud800"]
            )
        body = body or bytearray(b"x")
    if stream.random() < 0.2:
        headers = {
            "content-type": stream.choice(["multipart/form-data", "application/json; charset=utf-99", "", "x" * 300])
        }
    return bytes(body), headers


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Starlette leaves a form's file open
def test_five_hundred_malformed_requests_are_the_askers_fault():
    stream = random.Random(0)
    statuses = {}
    with stubbed() as served:
        for _ in range(500):
            body, headers = damaged(stream)
            status = served.ask("POST", "/v1/segment", body, headers)[0]
            statuses[status] = statuses.get(status, 0) + 1
        assert served.json("POST", "/v1/segment", asking())[0] == 200
    assert all(status < 500 for status in statuses) and statuses[400] > 100, statuses


def test_the_client_of_the_examples_works():
    import runpy
    import sys
    from pathlib import Path

    folder = Path(__file__).parents[2] / "examples"
    with serving() as served:
        arguments = ["client.py", served.url, str(folder / "scene.png"), "the striped square"]
        before, sys.argv = sys.argv, arguments
        try:
            found = runpy.run_path(str(folder / "client.py"))
        finally:
            sys.argv = before
    lines = (folder / "client.py").read_text().splitlines()[1:]
    assert len([line for line in lines if line and not line.startswith(("import", "from"))]) <= 10
    assert decode_rle(found["answers"][0]["segmentation"]).sum() == found["answers"][0]["area"] > 1000
