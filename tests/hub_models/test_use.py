"""Every family from a folder, offline, as a user asks: segment, eval, compare, and Python."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from PIL import Image

from ball import OUTLINE, own_data
from hub import MAKERS, tiny_hub
from refseg.answers import About, Answer, Answerer
from refseg.hub_models import CATALOGUE, PHOTO_MODEL, find_hub_model
from refseg.prediction import Prediction
from refseg.predictor import Predictor
from refseg.protocols import CRIS, GRES, LAVT, LISA, ORIGINAL, PROTOCOLS, Protocol
from refseg.scoring.evaluation import evaluate

WHOLE = ["clipseg", "florence-2", "sam3", "grounding-dino+sam", "mm-grounding-dino+sam2", "owlv2+sam2"]


def named(model: str) -> str:
    return "+".join(str(tiny_hub(part)) for part in model.split("+"))


@pytest.fixture
def run(refseg):
    """Runs `refseg ARGUMENTS` and returns its exit code, and what it said, on stderr before stdout."""

    def runs(*arguments):
        code, said, complaint = refseg(*arguments)
        return code, complaint + said

    return runs


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 44, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("model", WHOLE)
def test_a_photo_is_segmented(run, photo, tmp_path, model):
    code, output = run("segment", photo, "red circle", "the square", "--model", named(model), "--out", tmp_path / "out")
    assert code == 0, output
    for number in (1, 2):
        mask = np.asarray(Image.open(tmp_path / "out" / f"photo.{number}.mask.png"))
        assert mask.shape == (30, 44) and set(np.unique(mask)) <= {0, 255}
    again = run("segment", photo, "red circle", "--model", named(model), "--out", tmp_path / "out", "--json")
    assert again[0] == 0 and json.loads(again[1].splitlines()[-1])[0]["mask"].endswith("photo.1.mask.png")


@pytest.mark.parametrize("model", WHOLE)
def test_a_model_is_scored_and_compared(run, tmp_path, model):
    data = own_data(tmp_path / "data", [OUTLINE])
    first, second = tmp_path / "first", tmp_path / "second"
    code, output = run("eval", named(model), "--data", data, "--split", "all", "--out", first, "--json")
    assert code == 0, output
    report = json.loads(output.splitlines()[-1])
    assert report["model"] == named(model) and report["expressions"] > 0 and 0 <= report["mIoU"] <= 1
    code, output = run("eval", "lgformer-shapes", "--data", data, "--split", "all", "--out", second, "--json")
    assert code == 0, output
    code, output = run("compare", first, second)
    assert code == 0, output
    code, again = run("eval", "--predictions", first / "predictions.jsonl", "--data", data, "--split", "all", "--json")
    assert code == 0 and json.loads(again.splitlines()[-1])["mIoU"] == report["mIoU"]


@pytest.mark.parametrize("model", WHOLE)
def test_answers_to_a_protocol_are_those_to_a_person(photo, model):
    predictor = Predictor.from_pretrained(named(model), "cpu")
    image = np.asarray(Image.open(photo))
    people = predictor(image, ["red circle", "the square"])
    (answer,) = predictor.answers([image], [["red circle", "the square"]], ORIGINAL)
    assert np.array_equal(answer.masks, [prediction.mask for prediction in people])
    assert answer.scores == pytest.approx([prediction.score for prediction in people], abs=1e-5)
    assert predictor.batch([photo], [["red circle"]])[0][0].area == people[0].area
    assert repr(predictor).startswith(type(predictor).__name__)


def test_a_protocol_at_network_size_needs_a_network_that_has_one(run, tmp_path):
    for model in WHOLE[1:]:
        predictor = Predictor.from_pretrained(named(model), "cpu")
        for protocol in (LAVT, CRIS):
            with pytest.raises(
                ValueError, match=f"protocol '{protocol.name}': needs log-odds at a network's size, and "
            ):
                predictor.check_protocol(protocol)
        for protocol in (ORIGINAL, LISA, GRES):
            predictor.check_protocol(protocol)
    clipseg = Predictor.from_pretrained(named("clipseg"), "cpu")
    for protocol in PROTOCOLS.values():
        clipseg.check_protocol(protocol)
    florence = Predictor.from_pretrained(named("florence-2"), "cpu")
    with pytest.raises(ValueError, match=r"threshold 0.35, and .* gives masks without log-odds; 0.5 is accepted"):
        florence.check_protocol(Protocol("mine", threshold=0.35))
    data = own_data(tmp_path / "data", [OUTLINE])
    code, output = run("eval", named("florence-2"), "--data", data, "--split", "all", "--protocol", "lavt")
    assert code == 2 and "needs log-odds at a network's size" in output and "original, lisa, gres" in output
    code, output = run(
        "eval", named("florence-2"), "--data", data, "--split", "all", "--out", tmp_path / "o", "--save-scores"
    )
    assert code == 2 and "--save-scores" in output


def test_what_gives_no_log_odds_says_so(run, photo):
    prediction = Predictor.from_pretrained(named("florence-2"), "cpu")(photo, "red circle")
    assert prediction.score is None and prediction.logits is None
    with pytest.raises(ValueError, match="mask without log-odds"):
        prediction.at(0.3)
    code, output = run("segment", photo, "x", "--model", named("florence-2"), "--threshold", "0.3")
    assert code == 2 and "without log-odds" in output


def test_an_identity_follows_every_file_that_decides(tmp_path):
    first, again = (Predictor.from_pretrained(named("owlv2+sam"), "cpu").about for _ in range(2))
    other = Predictor.from_pretrained(named("owlv2+sam2"), "cpu").about
    assert first == again and len({first.identity, other.identity}) == 2 and first.input is None
    copy = tmp_path / "sam"
    copy.mkdir()
    for file in tiny_hub("sam").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    settings = copy / "preprocessor_config.json"
    settings.write_text(settings.read_text() + "\n")
    changed = Predictor.from_pretrained(f"{tiny_hub('owlv2')}+{copy}", "cpu").about
    assert changed.sha256 == first.sha256 and changed.identity != first.identity


def test_what_cannot_be_used_is_named(run, tmp_path):
    with pytest.raises(ValueError, match=r"a sam is half of one, a segmenter; with a detector it is accepted, as "):
        find_hub_model(tiny_hub("sam"))
    with pytest.raises(ValueError, match=r"is a sam; a detector \(grounding-dino, .*, owlv2\) is accepted"):
        find_hub_model(named("sam+grounding-dino"))
    with pytest.raises(ValueError, match="model 'zebra': not found"):
        find_hub_model("zebra+sam")
    (tmp_path / "config.json").write_text('{"model_type": "zebra"}')
    assert (
        find_hub_model(tmp_path) is None and find_hub_model("lgformer-shapes") is None and find_hub_model("x") is None
    )
    with pytest.raises(ValueError, match="of no known family"):
        find_hub_model(f"{tmp_path}+{tiny_hub('sam')}")
    for content in ("[1]", '{"model_type": 3}', '{"model_type": ["sam"]}'):
        (tmp_path / "config.json").write_text(content)
        assert find_hub_model(tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "clipseg"}')
    code, output = run("segment", tmp_path / "no.png", "x", "--model", tmp_path)
    assert code == 2 and "Traceback" not in output


@pytest.mark.parametrize("model", sorted(MAKERS))
@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "tokenizer_config.json", "preprocessor_config.json"]
)
def test_damaged_and_missing_files_are_named(run, tmp_path, photo, model, file):
    folder = tmp_path / "model"
    folder.mkdir()
    for each in tiny_hub(model).iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    if not (folder / file).exists() or (model == "clipseg" and file == "tokenizer_config.json"):
        return  # our own tokenizer reads the two files of CLIP's
    other = {"sam": "grounding-dino", "sam2": "grounding-dino"}.get(model, "sam")
    whole = model in WHOLE
    name = str(folder) if whole else "+".join(
        str(x) for x in ((tiny_hub(other), folder) if other != "sam" else (folder, tiny_hub("sam")))
    )  # fmt: skip
    for damage in (b"", b"\x00\xff", b"{}"):
        (folder / file).write_bytes(damage)
        code, output = run("segment", photo, "red circle", "--model", name, "--out", tmp_path / "out")
        # A file of settings may be empty: the library then takes its own.
        assert code == 2 or (damage == b"{}" and file.endswith("_config.json")), output
        assert "Traceback" not in output and (code == 0 or str(folder) in output), output


class Nobody(Answerer):
    """The smallest model of one's own: nothing is found."""

    about = About("nobody", "", "", {}, None, None)

    def predict(self, images, expressions, details=False):
        return [
            [Prediction(text, np.zeros(image.shape[:2], bool), None, None, {}, image) for text in texts]
            for image, texts in zip(images, expressions, strict=True)
        ]

    def check_protocol(self, protocol):
        pass

    def answers(self, images, expressions, protocol, at_once=1):
        for image, texts in zip(images, expressions, strict=True):
            yield Answer(np.zeros((len(texts), *image.shape[:2]), bool), [None] * len(texts), None)


def test_a_model_of_ones_own_is_four_methods(photo, tmp_path):
    from refseg.data.sets import open_data

    assert Nobody()(photo, "x").area == 0 and len(Nobody()(photo, ["x", "y"])) == 2
    scores, _ = evaluate(Nobody(), open_data(str(own_data(tmp_path / "data", [OUTLINE])), "all"))
    assert scores.summary()["mIoU"] == 0


def test_the_catalogue_says_where_everything_is():
    assert PHOTO_MODEL in CATALOGUE
    for name, model in CATALOGUE.items():
        assert name == model.name and model.licence and model.megabytes > 0 and model.trained_on
        assert len(model.places) == 1 + name.count("+")
        for place in model.places:
            repository, _, commit = place.partition("@")
            assert repository.count("/") == 1
            assert len(commit) == 40 or "No commit is pinned" in model.note


def hub_error(kind):
    """An error of the hub, which cannot be made without the answer of a server."""
    error = kind.__new__(kind)
    Exception.__init__(error, "second\nline")
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (lambda: hub_error(GatedRepoError), "access has to be asked for on https://huggingface.co/facebook/sam3"),
        (lambda: hub_error(RepositoryNotFoundError), "no such repository, or it is private"),
        (lambda: LocalEntryNotFoundError("gone"), "no connection, and it is not on this machine"),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), "the disk is full; HF_HOME=FOLDER"),
        (lambda: RuntimeError("what\nelse"), r"\(what\)$"),
    ],
)
def test_what_the_hub_says_is_one_line(run, monkeypatch, error, told):
    def fails(*_, **__):
        raise error()

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(ValueError, match=told) as caught:
        find_hub_model("sam3")
    assert "\n" not in str(caught.value) and "facebook/sam3" in str(caught.value)
    code, output = run("segment", "no.png", "x", "--model", "clipseg")
    assert code == 2 and "Traceback" not in output


def test_offline_is_said(monkeypatch):
    def fails(*_, **__):
        raise LocalEntryNotFoundError("gone")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set and it is not on this machine"):
        find_hub_model("florence-2-base")


def test_revisions_and_older_files_are_asked_for(monkeypatch, tmp_path):
    asked = []

    def answer(repository, revision, allow_patterns):
        asked.append((repository, revision, tuple(allow_patterns)))
        (tmp_path / "config.json").write_text('{"model_type": "clipseg"}')
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", answer)
    found = find_hub_model("hf:some/one@abc")
    assert found is not None and found.family == "clipseg" and found.about is None
    assert asked == [
        ("some/one", "abc", ("config.json",)),
        ("some/one", "abc", ("*.json", "*.txt", "*.safetensors")),
        ("some/one", "abc", ("pytorch_model.bin",)),
    ]
    assert find_hub_model("clipseg").about is CATALOGUE["clipseg"]
    assert asked[3][1] == CATALOGUE["clipseg"].places[0].partition("@")[2]
    assert Path(find_hub_model("some/one").parts[0].folder) == tmp_path


def test_the_library_is_asked_for_before_anything_is_downloaded(monkeypatch, run, photo):
    monkeypatch.setattr("refseg.hub_models.find.find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("it was downloaded"))
    for model in ("clipseg", "grounding-dino+sam", named("clipseg")):
        code, output = run("segment", photo, "x", "--model", model)
        assert code == 2 and "needs the library transformers; `pip install 'refseg[hub]'` brings it" in output
    assert run("segment", photo, "red", "--model", "lgformer-shapes", "--out", photo.parent / "out")[0] == 0


def test_a_folder_of_the_users_comes_before_the_name_of_a_half(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"model 'sam': half of one; .*grounding-dino\+sam"):
        find_hub_model("sam")
    (tmp_path / "sam").symlink_to(tiny_hub("clipseg"))
    monkeypatch.chdir(tmp_path)
    assert find_hub_model("sam").family == "clipseg"


def test_a_score_is_that_of_the_protocols_own_mask(photo):
    predictor = Predictor.from_pretrained(named("sam3"), "cpu")
    image = np.asarray(Image.open(photo))
    (answer,) = predictor.answers([image], [["red circle"]], Protocol("mine", threshold=0.4))
    expected = predictor(image, "red circle").at(0.4)
    assert np.array_equal(answer.masks[0], expected.mask) and answer.scores == [expected.score]
