"""Images and sentences in, masks out, by onnxruntime. Imports no torch until a protocol's masks are asked for.

B images, T expressions, L tokens, H and W own size, h and w size of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refseg.answers import AT_ONCE, About, Answer, NetworkAnswerer, answer_of, make_prediction, words_read
from refseg.data.inputs import array_to_image, image_to_array
from refseg.encoders.tokenizer import Tokenizer
from refseg.export.manifest import GRAPHS, Manifest, check_files, read_manifest
from refseg.files import first_line
from refseg.prediction import Prediction
from refseg.protocols import Protocol

if TYPE_CHECKING:
    import torch

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxPredictor(NetworkAnswerer):
    """Answers expressions about images with an exported model; every image goes through `image.onnx` once.

    Args:
        folder: What `refseg export` wrote.
        device: "cpu" or "cuda"; the CPU by default.

    Raises:
        ValueError: onnxruntime or the device is missing, or the export is damaged.
    """

    def __init__(self, folder: Path, device: str | torch.device | None = None) -> None:
        runtime = _runtime(folder)
        self.device = _device(runtime, device)
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        check_files(folder, self.manifest)
        self.tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        self.image, self.answer = (_session(runtime, folder / name, self.device) for name in GRAPHS)
        self._maps = [value.name for value in self.image.get_outputs()]

    def __repr__(self) -> str:
        """One line: which model, and where it computes."""
        height, width = self.manifest.input.size
        about = f"method={self.manifest.method!r}, input={height}x{width}, device={self.device!r}"
        return f"OnnxPredictor({self.manifest.name!r}, {about}, precision={self.manifest.precision!r})"

    @cached_property
    def about(self) -> About:
        """What is said of the model beside its answers; `sha256` is that of the graph that has most of the weights."""
        manifest = self.manifest
        words = words_read(manifest.training, self.tokenizer)
        return About(
            manifest.name, manifest.sha256[GRAPHS[1]], manifest.own_identity, manifest.training, manifest.input, words,
            precision=manifest.precision,
        )  # fmt: skip

    def cut(self, expressions: Sequence[str]) -> tuple[Sequence[int], int]:
        """As `NetworkAnswerer.cut`."""
        limit = self.manifest.input.max_tokens
        return self.tokenizer.arrays(list(expressions), limit)[2], limit

    def predict(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], details: bool = False
    ) -> list[list[Prediction]]:
        """As `Answerer.predict`; the graphs give log-odds alone, so that `details` are empty."""
        self.warn_of_cut(expressions)
        found = []
        for image, texts, maps in zip(images, expressions, self.network_logits(images, expressions), strict=True):
            own = array_to_image(maps, (image.shape[0], image.shape[1]), self.manifest.input)
            found.append([make_prediction(text, each, None, image) for text, each in zip(texts, own, strict=True)])
        return found

    def answers(
        self,
        images: Sequence[np.ndarray],
        expressions: Sequence[Sequence[str]],
        protocol: Protocol,
        at_once: int = AT_ONCE,
    ) -> Iterator[Answer]:
        """As `Answerer.answers`; masks are made by the same code as those of the model, which needs torch."""
        from torch import from_numpy

        maps = self.network_logits(images, expressions, at_once)
        for image, logits in zip(images, maps, strict=True):
            yield answer_of(from_numpy(logits), (image.shape[0], image.shape[1]), self.manifest.input, protocol)

    def network_logits(
        self, images: Sequence[np.ndarray], expressions: Sequence[Sequence[str]], at_once: int = AT_ONCE
    ) -> list[np.ndarray]:
        """The log-odds (T_b, 1, h, w) of every image, as the network gives them.

        `at_once` expressions go through the graph in one pass, of all images together; fewer need less memory.

        Raises:
            ValueError: `at_once` is less than 1.
        """
        if at_once < 1:
            raise ValueError(f"{at_once} expressions at once: 1 or more is accepted")
        config = self.manifest.input
        ids, mask, _ = self.tokenizer.arrays([text for texts in expressions for text in texts], config.max_tokens)
        index = np.array([b for b, texts in enumerate(expressions) for _ in texts], dtype=np.int64)
        pixels = np.stack([image_to_array(image, config) for image in images])
        maps = dict(zip(self._maps, self._run(self.image, {"pixels": pixels}), strict=True))
        parts = []
        for first in range(0, len(ids), at_once):
            part = slice(first, first + at_once)
            given = {"tokens": ids[part], "mask": mask[part], "image_index": index[part]}
            parts += self._run(self.answer, given | maps)
        return np.split(np.concatenate(parts), np.cumsum([len(texts) for texts in expressions])[:-1])

    def _run(self, session: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return list(session.run(None, given))
        except Exception as error:  # onnxruntime's errors share no public base class
            raise ValueError(f"{self.folder}: its graphs do not fit each other ({first_line(error)})") from error


def load_export(folder: Path, device: str | torch.device | None = None) -> OnnxPredictor:
    """What answers with an export; see `OnnxPredictor`."""
    return OnnxPredictor(folder, device)


def _runtime(folder: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{folder}: an export needs the library onnxruntime; `pip install 'refseg[onnx]'` brings "
                         "it") from error  # fmt: skip
    return onnxruntime


def _device(runtime: Any, device: Any) -> str:
    name = "cpu" if device is None else str(device)
    there = [known for known, provider in PROVIDERS.items() if provider in runtime.get_available_providers()]
    if name not in there:
        raise ValueError(f"device {name!r}: this onnxruntime does not have it; {' or '.join(there)} is accepted")
    return name


def _session(runtime: Any, file: Path, device: str) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a thread that waits costs nothing
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # weights become float32 once, not in every run
    try:
        return runtime.InferenceSession(file, options, providers=[PROVIDERS[device]])
    except Exception as error:
        raise ValueError(f"{file}: not a graph that onnxruntime {runtime.__version__} can run "
                         f"({first_line(error)})") from error  # fmt: skip
