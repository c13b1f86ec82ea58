"""What runs an export: its numbers, its refusals, and that it needs no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_export import CONFIG, draw_export, drawn_manifest, expected
from PIL import Image

from refseg.data.transforms import image_to_pixels
from refseg.export.run import OnnxPredictor
from refseg.predictor import Predictor
from refseg.protocols import CRIS, LAVT, ORIGINAL

SOURCE = Path(__file__).parents[2] / "src"
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
# Words of the vocabulary, so that a sentence has a token per word and two around them.
TEXTS = ["circle", "red circle", "the large red circle", "the red circle on the left"]
WITHOUT_TORCH = """
import sys
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(f"{{name}} is not to be imported")
sys.meta_path.insert(0, Refuses())
"""


def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (20 + 7 * n, 30 - 5 * n, 3), dtype=np.uint8) for n in range(3)]


def run_without(refused, code, folder):
    """What a new process prints that cannot import some packages, and what it says."""
    script = WITHOUT_TORCH.format(refused=refused) + code
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env={"PYTHONPATH": str(SOURCE), "PATH": ""}, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_images_and_expressions_find_each_other(drawn, at_once):
    predictor, images = OnnxPredictor(drawn), pictures()
    asked = [TEXTS[:1], TEXTS[:4], TEXTS[2:4]]
    found = predictor.network_logits(images, asked, at_once)
    assert [len(each) for each in found] == [1, 4, 2]
    for image, texts, logits in zip(images, asked, found, strict=True):
        for text, each in zip(texts, logits, strict=True):
            wanted = expected(image_to_pixels(image, CONFIG).numpy(), len(text.split()) + 2)
            np.testing.assert_allclose(each[0], wanted, rtol=1e-4, atol=1e-4)


def test_predictions_are_at_the_images_own_size(drawn):
    predictor = Predictor.from_pretrained(str(drawn))
    assert isinstance(predictor, OnnxPredictor) and "OnnxPredictor('drawn', method='lavt', input=16x24" in repr(
        predictor
    )
    image = pictures()[1]
    one, two = predictor(image, TEXTS[:2])
    assert one.mask.shape == image.shape[:2] and one.logits.shape == image.shape[:2]
    assert np.array_equal(one.mask, one.logits > 0) and two.expression == TEXTS[1]
    np.testing.assert_allclose(two.logits, one.logits + 1, atol=1e-4)  # a word more
    assert predictor(image, TEXTS[0], details=True).details == {}
    batch = predictor.batch(pictures(), [TEXTS[0], TEXTS[1:3], []])
    assert [len(each) for each in batch] == [1, 2, 0]
    with pytest.warns(UserWarning, match="longer than the 8 tokens"):
        predictor(image, "circle " * 20)


@pytest.mark.parametrize("protocol", [ORIGINAL, LAVT, CRIS], ids=lambda protocol: protocol.name)
def test_masks_of_a_protocol_are_those_of_its_log_odds(drawn, protocol):
    import torch

    from refseg.data.transforms import logits_to_masks

    predictor, images = OnnxPredictor(drawn), pictures()
    predictor.check_protocol(protocol)
    for image, answer in zip(images, predictor.answers(images, [TEXTS] * 3, protocol), strict=True):
        logits = torch.from_numpy(predictor.network_logits([image], [TEXTS])[0])
        masks, _ = logits_to_masks(logits, image.shape[:2], CONFIG, protocol)
        assert np.array_equal(answer.masks, masks.numpy()) and len(answer.scores) == 4


def test_what_is_said_of_it(drawn, tmp_path):
    about = OnnxPredictor(drawn).about
    assert about.name == "drawn" and about.input == CONFIG and about.log_odds and "circle" in about.words
    photos = OnnxPredictor(draw_export(tmp_path / "photos", training={"data": "refcoco"})).about
    assert photos.words is None


def test_answers_come_without_torch(drawn):
    Image.fromarray(pictures()[0]).save(drawn.parent / "scene.png")
    code = """
from refseg import Predictor
predictor = Predictor.from_pretrained("drawn")
found = predictor("scene.png", "the red circle")
print(found.mask.shape, [name for name in sys.modules if name.split(".")[0] == "torch"])
"""
    done = run_without({"torch"}, code, drawn.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(20, 30) []\n", "")


def test_the_command_comes_without_torch(drawn):
    Image.fromarray(pictures()[0]).save(drawn.parent / "scene.png")
    code = """
from refseg.cli.main import main
sys.argv = ["refseg", "segment", "scene.png", "circle", "the red circle", "--model", "drawn", "--out", "out", "--json"]
main()
"""
    done = run_without({"torch"}, code, drawn.parent)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [each["expression"] for each in told] == ["circle", "the red circle"]
    assert (drawn.parent / "out" / "scene.1.mask.png").is_file()


def test_the_example_of_the_docs_runs_without_refseg(drawn):
    example = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    image = pictures()[1]
    Image.fromarray(image).save(drawn.parent / "scene.png")
    code = example.replace("OUT/", "drawn/") + "\nprint(json.dumps([logits.tolist(), mask.tolist()]))"
    done = run_without({"torch", "refseg"}, code, drawn.parent)
    assert done.returncode == 0, done.stderr
    logits, mask = json.loads(done.stdout)
    wanted = expected(image_to_pixels(image, CONFIG).numpy(), 5)
    np.testing.assert_allclose(np.array(logits)[0, 0], wanted, rtol=1e-4, atol=1e-4)
    assert np.array_equal(mask, np.array(logits)[0, 0] > 0)


def test_what_cannot_run_is_refused_in_one_line(drawn, monkeypatch, refseg):
    for device in ("tpu", "cuda:7"):
        with pytest.raises(ValueError, match=f"device '{device}': .*cpu"):
            OnnxPredictor(drawn, device)
    with pytest.raises(ValueError, match="0 expressions at once"):
        OnnxPredictor(drawn).network_logits(pictures()[:1], [TEXTS], 0)
    Image.fromarray(pictures()[0]).save(drawn / "scene.png")
    (drawn / "image.onnx").write_bytes(b"damaged")
    code, _, told = refseg("segment", drawn / "scene.png", "circle", "--model", drawn, "--out", drawn.parent / "out")
    assert code == 2 and "image.onnx: its SHA-256" in told and told.count("\n") == 1
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, told = refseg("segment", drawn / "scene.png", "circle", "--model", drawn, "--out", drawn.parent / "out")
    assert code == 2 and "pip install 'refseg[onnx]'" in told and told.count("\n") == 1


def test_graphs_that_do_not_fit_each_other_are_named(tmp_path):
    folder = draw_export(tmp_path / "other", input=replace(CONFIG, size=(16, 32)))
    with pytest.raises(ValueError, match="other: its graphs do not fit each other"):
        OnnxPredictor(folder)(pictures()[0], "circle")
    (folder / "answer.onnx").write_bytes(b"no graph")
    drawn_manifest(folder).write(folder)
    with pytest.raises(ValueError, match="answer.onnx: not a graph that onnxruntime .* can run"):
        OnnxPredictor(folder)
