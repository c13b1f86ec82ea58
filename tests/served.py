"""A server of its own for the tests, on a free port of this machine."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import threading

import numpy as np
import torch
from PIL import Image

from refseg.answers import About, Answerer, make_prediction
from refseg.prediction import Prediction
from refseg.predictor import Predictor
from refseg.web.app import create_app
from refseg.web.limits import Limits
from refseg.web.server import Server, config_of, hosts_of, listen
from refseg.web.shelf import Shelf


def picture(height=40, width=60, kind="PNG"):
    """The bytes of an image file: red on the left, white on the right."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[:, : width // 2] = (255, 0, 0)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format=kind)
    return content.getvalue()


def asking(expressions=("left",), image=None, **more):
    """The JSON of a request."""
    content = base64.b64encode(picture() if image is None else image).decode()
    return {"image": content, "expressions": list(expressions), **more}


class Stub(Answerer):
    """Answers with the first N columns where the expression is a number, and with the red pixels else; can be held."""

    def __init__(self, log_odds=True, together=True, words=None):
        self.log_odds, self._together, self.words = log_odds, together, words
        self.passes = []  # expressions of every pass, per image
        self.free = threading.Event()
        self.free.set()
        self.began = threading.Event()

    @property
    def about(self):
        return About("stub", "", "", {}, None, self.words, self.log_odds)

    @property
    def together(self):
        return self._together

    def predict(self, images, expressions, details=False):
        self.passes.append([list(texts) for texts in expressions])
        self.began.set()
        assert self.free.wait(30)
        return [[self._one(image, text) for text in texts] for image, texts in zip(images, expressions, strict=True)]

    def _one(self, image, text):
        if text == "fails":
            raise RuntimeError("a secret of the machine")
        inside = image[..., 1] < 100
        if text.isdigit():
            inside = np.broadcast_to(np.arange(image.shape[1]) < int(text), inside.shape)
        if not self.log_odds:
            return Prediction(text, inside, None, None)
        surer = np.linspace(0.5, 4, image.shape[0], dtype=np.float32)[:, None]  # downwards
        return make_prediction(text, torch.from_numpy(np.where(inside, surer, -4).astype(np.float32)), {}, image)

    def check_protocol(self, protocol):
        pass

    def answers(self, images, expressions, protocol, at_once=64):
        raise NotImplementedError


class Served:
    """A running server, and requests to it."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and content of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def json(self, method, path, body=None, headers=None):
        """The same with JSON on both sides."""
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        status, _, content = self.ask(method, path, sent, {"content-type": "application/json"} | (headers or {}))
        return status, json.loads(content)


@contextlib.contextmanager
def serving(
    models=("lgformer-shapes",), limits=None, token="", load=Predictor.from_pretrained, hosts=("127.0.0.1", "localhost")
):
    """A server for the time of a block."""
    limits = limits or Limits()
    app = create_app(Shelf(models, load, limits.loaded), limits, token, hosts_of("127.0.0.1"))
    listening = listen("127.0.0.1", 0)
    server = Server(config_of(app, limits))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    try:
        yield Served(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


@contextlib.contextmanager
def stubbed(stub=None, **more):
    """A server whose model is a stub; the name is that of a packaged model, since names are looked up."""
    with serving(load=lambda _: stub or Stub(), **more) as served:
        yield served
