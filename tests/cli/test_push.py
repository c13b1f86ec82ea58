"""`refseg push` to a hub that is a folder: what is sent, what is not replaced, and what an error says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from refseg import Predictor
from refseg.hub_models import find_hub_model
from refseg.weights.folders import find_model
from refseg.weights.store import load_model, save_model
from tiny import tiny_model

TOKEN = "hf_" + "Abcdefgh12345678"
FILES = {"README.md", "config.json", "model.safetensors", "tokenizer.json"}


def refusal(kind, status=404, text="no"):
    """What the hub's library makes of the answer of a server."""
    return kind(text, response=SimpleNamespace(status_code=status, headers={}, request=None))


class ConnectError(Exception):
    """As the libraries beneath the hub's call what they raise without a network."""


class Hub:
    """What of `HfApi` is used, over folders ROOT/user/name/branch; every call is noted."""

    def __init__(self, root):
        self.root, self.calls, self.private, self.fails = root, [], set(), {}

    def __call__(self, **about):
        assert about["library_name"] == "refseg" and "token" not in about
        return self

    def _called(self, name, *given):
        self.calls.append((name, *given))
        if name in self.fails:
            raise self.fails[name]

    def model_info(self, repository, revision=None):
        self._called("model_info", repository, revision)
        if not (self.root / repository).is_dir():
            raise refusal(RepositoryNotFoundError)
        folder = self.root / repository / (revision or "main")
        if not folder.is_dir():
            raise refusal(RevisionNotFoundError)
        files = [
            SimpleNamespace(rfilename=str(p.relative_to(folder))) for p in sorted(folder.rglob("*")) if p.is_file()
        ]
        return SimpleNamespace(private=repository in self.private, sha=f"head-of-{revision or 'main'}", siblings=files)

    def create_repo(self, repository, repo_type, private):
        self._called("create_repo", repository, private)
        (self.root / repository / "main").mkdir(parents=True)
        (self.root / repository / "main" / ".gitattributes").write_text("")
        if private:
            self.private.add(repository)

    def create_branch(self, repository, branch, exist_ok):
        self._called("create_branch", repository, branch)
        shutil.copytree(self.root / repository / "main", self.root / repository / branch)

    def hf_hub_download(self, repository, name, revision):
        self._called("hf_hub_download", repository, name)
        return str(self.root / repository / revision.removeprefix("head-of-") / name)

    def create_commit(self, repository, operations, commit_message, revision, parent_commit):
        self._called("create_commit", repository, revision, parent_commit)
        folder = self.root / repository / revision
        assert folder.is_dir()
        for one in operations:
            content = one.path_or_fileobj
            (folder / one.path_in_repo).write_bytes(
                content if isinstance(content, bytes) else Path(content).read_bytes()
            )
        return SimpleNamespace(commit_url=f"https://hub/{repository}/commit/1")

    def files(self, repository, branch="main"):
        return {path.name: path.read_bytes() for path in (self.root / repository / branch).iterdir()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    found = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", found)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda repository, revision, allow_patterns: str(found.root / repository / (revision or "main")),
    )
    return found


def test_nothing_is_sent_without_yes(refseg, hub, model):
    code, said, err = refseg("push", model, "me/tiny")
    assert code == 2 and err == "refseg: nothing was sent; --yes sends it, --dry-run prints the card too\n"
    assert all(f"file:   {name}" in said for name in FILES) and "me/tiny, branch main, public" in said
    code, said, err = refseg("push", model, "hf:me/tiny", "--dry-run", "--private", "--revision", "next")
    assert code == 0 and err == "refseg: nothing was sent\n" and "me/tiny, branch next, private" in said
    assert "library_name: refseg" in said and 'from_pretrained("me/tiny@next")' in said
    assert not hub.calls and not hub.root.exists()


def test_what_is_sent_comes_back(refseg, hub, model):
    code, said, _ = refseg("push", model, "me/tiny", "--yes")
    assert code == 0 and "sent:   https://hub/me/tiny/commit/1" in said
    sent = hub.files("me/tiny")
    assert set(sent) == FILES | {".gitattributes"}
    assert all(sent[path.name] == path.read_bytes() for path in Path(model).iterdir())
    image = np.zeros((40, 50, 3), np.uint8)
    [one], [two] = (Predictor.from_pretrained(name, "cpu").batch([image], ["red"]) for name in ("me/tiny", model))
    assert np.array_equal(one[0].logits, two[0].logits)
    assert [call[0] for call in hub.calls] == ["model_info", "create_repo", "create_commit"]
    assert refseg("push", model, "me/secret", "--yes", "--private")[0] == 0 and hub.private == {"me/secret"}


def test_a_branch_is_sent_and_loaded(refseg, hub, model, tmp_path):
    assert refseg("push", model, "me/tiny", "--yes")[0] == 0
    other = tmp_path / "other"
    save_model(tiny_model("lavt-shapes"), other)
    assert refseg("push", other, "me/tiny", "--yes", "--revision", "exp/1")[0] == 0
    assert [load_model(f"me/tiny{at}").method for at in ("", "@main", "@exp/1")] == ["lgformer", "lgformer", "lavt"]
    assert load_model("hf:me/tiny@exp/1").method == "lavt"
    assert Predictor.from_pretrained("me/tiny@exp/1", "cpu").model.method == "lavt"
    assert find_hub_model("me/tiny@exp/1") is None  # it is one of our own
    assert hub.calls[-1] == ("create_commit", "me/tiny", "exp/1", "head-of-main")
    with pytest.raises(ValueError, match="model 'me/tiny@': no revision behind the @; a branch, tag or commit"):
        find_model("me/tiny@")
    code, _, err = refseg("eval", "me/tiny@")
    assert code == 2 and "no revision behind the @" in err


def test_a_revision_that_is_not_there_is_said(refseg, hub, monkeypatch):
    def fails(*_, **__):
        raise refusal(RevisionNotFoundError)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    code, _, err = refseg("eval", "me/tiny@gone")
    assert code == 2 and "it has no such branch, tag or commit" in err and err.count("\n") == 1


def put(hub, repository, **files):
    folder = hub.root / repository / "main"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "files",
    [
        {"config__json": '{"model_type": "bert"}', "model__safetensors": "weights"},
        {"README__md": "My notes"},
        {"config__json": "{", "thesis__pdf": "x"},
        {"config__json": '{"encoders": "swin-shapes", "sha256": "0"}'},
    ],
)
def test_what_is_no_model_of_ours_is_not_replaced(refseg, hub, model, files):
    before = put(hub, "me/other", **files)
    code, _, err = refseg("push", model, "me/other", "--yes")
    assert code == 2 and "holds something that is no model of refseg (" in err and "or --overwrite" in err
    assert hub.files("me/other") == before and "create_commit" not in [call[0] for call in hub.calls]
    assert refseg("push", model, "me/other", "--yes", "--overwrite")[0] == 0
    assert set(hub.files("me/other")) == set(before) | FILES and load_model("me/other").method == "lgformer"


def test_a_model_of_ours_is_replaced_but_not_a_card_that_was_changed(refseg, hub, model, tmp_path):
    assert refseg("push", model, "me/tiny", "--yes")[0] == 0
    other = tmp_path / "other"
    save_model(tiny_model("lavt-shapes"), other)
    assert refseg("push", other, "me/tiny", "--yes")[0] == 0
    assert b"LAVT" in hub.files("me/tiny")["README.md"]
    card = hub.root / "me" / "tiny" / "main" / "README.md"
    card.write_text(card.read_text().replace("LAVT", "My LAVT"))
    code, said, _ = refseg("push", model, "me/tiny", "--yes")
    assert code == 0 and "the README.md there was changed by hand and stays" in said
    assert b"My LAVT" in hub.files("me/tiny")["README.md"] and load_model("me/tiny").method == "lgformer"
    assert refseg("push", model, "me/tiny", "--yes", "--overwrite")[0] == 0
    assert b"LGFormer" in hub.files("me/tiny")["README.md"]


def test_a_public_repository_is_not_taken_for_a_private_one(refseg, hub, model):
    assert refseg("push", model, "me/tiny", "--yes")[0] == 0
    code, _, err = refseg("push", model, "me/tiny", "--yes", "--private")
    assert code == 2 and "me/tiny: is there and public; --private is for a new repository" in err


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        ("model_info", ConnectError("[Errno -3] Temporary failure"), "no connection to the Hugging Face hub"),
        ("model_info", ConnectionError("unreachable"), "no connection to the Hugging Face hub"),
        ("model_info", OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        ("model_info", refusal(GatedRepoError, 403), "access has to be asked for on its page"),
        ("create_repo", LocalTokenNotFoundError("no token"), "`hf auth login`, or HF_TOKEN, says it"),
        ("create_repo", refusal(HfHubHTTPError, 401, "Invalid"), "the hub wants to know who you are"),
        ("create_repo", refusal(HfHubHTTPError, 403, "Forbidden"), "this account may not write there"),
        ("create_repo", refusal(HfHubHTTPError, 409, "You already created it"), "You already created it"),
        ("create_commit", refusal(HfHubHTTPError, 412, "head moved"), "somebody else has changed it in this moment"),
        ("create_commit", RuntimeError(f"bad header Bearer {TOKEN}\nlines\nmore"), "bad header ..."),
        ("create_commit", RuntimeError(f"token={TOKEN}"), "token=..."),
    ],
)
def test_what_goes_wrong_is_one_line_without_a_token(refseg, hub, model, call, error, told):
    hub.fails[call] = error
    code, said, err = refseg("push", model, "me/tiny", "--yes")
    assert ("the repository was made and is empty, and the same command fills it" in err) == (call == "create_commit")
    assert code == 2 and told in err and err.count("\n") == 1 and err.startswith("refseg: me/tiny: ")
    assert TOKEN not in said + err and "Abcdefgh" not in said + err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere", "me/x"), "model 'nowhere': not on this machine; a packaged name ("),
        (("some/name", "me/x"), "not on this machine"),
        (("MODEL", "me"), "'me': no name on the Hugging Face hub; user/name is accepted"),
        (("MODEL", "a/b/c"), "user/name is accepted"),
        (("MODEL", "me/x@v1"), "me/x@v1: --revision says the branch"),
        (("MODEL", "me/x", "--revision", ""), "--revision '': no name of a branch"),
        (("MODEL", "me/x", "--dry-run"), "--yes and --dry-run: one of the two"),
        (("MODEL", "me/x", "--report", "nowhere"), "nowhere: no report.json"),
        (("DAMAGED", "me/x"), "its SHA-256 is not the one in config.json"),
        (("EMPTY", "me/x"), "config.json is missing"),
    ],
)
def test_bad_input_sends_nothing(refseg, hub, model, tmp_path, arguments, told):
    shutil.copytree(model, tmp_path / "DAMAGED")
    (tmp_path / "DAMAGED" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "EMPTY").mkdir()
    places = {"MODEL": model, "DAMAGED": tmp_path / "DAMAGED", "EMPTY": tmp_path / "EMPTY"}
    code, _, err = refseg("push", *(places.get(word, word) for word in arguments), "--yes")
    assert code == 2 and told in err and err.count("\n") == 1
    assert not hub.calls


def card_of(said):
    return ModelCard(said[said.index("---") :])


def test_the_card_has_the_scores_in_the_hubs_form(refseg, hub, tmp_path):
    out = tmp_path / "evaluation"
    assert refseg("eval", "lgformer-shapes", "--split", "testA", "--limit", 12, "--out", out)[0] == 0
    report = json.loads((out / "report.json").read_text())
    code, said, _ = refseg("push", "lgformer-shapes", "me/lg", "--dry-run", "--report", out)
    assert code == 0
    card = card_of(said)  # read by the hub's own library
    assert card.data.license == "apache-2.0" and card.data.library_name == "refseg"
    assert card.data.pipeline_tag == "image-segmentation" and "lgformer" in card.data.tags
    found = {(one.dataset_name, one.dataset_split, one.metric_type): one for one in card.data.eval_results}
    measured = found["refshapes", "testA", "mean_iou"]
    assert measured.metric_value == round(100 * report["mIoU"], 2) and "first 12 exp" in measured.metric_name
    trained = json.loads((find_model("lgformer-shapes") / "config.json").read_text())["training"]["val"]
    assert found["refshapes", "val", "oIoU"].metric_value == round(100 * trained["oIoU"], 2)
    low, high = report["intervals"]["P@0.5"]
    assert f"{100 * report['P@0.5']:.2f} ({100 * low:.1f} to {100 * high:.1f})" in card.text
    code, _, err = refseg("push", "lavt-shapes", "me/lg", "--dry-run", "--report", out)
    assert code == 2 and "is the evaluation of another model, 'lgformer-shapes'" in err
    (out / "predictions.jsonl").unlink()
    code, _, err = refseg("push", "lgformer-shapes", "me/lg", "--dry-run", "--report", out)
    assert code == 2 and "has no predictions.jsonl, which says whose the scores are" in err


def test_scores_of_other_words_are_no_scores_of_the_model(refseg, hub, tmp_path):
    out = tmp_path / "evaluation"
    assert refseg("eval", "lgformer-shapes", "--limit", 4, "--words", "swapped", "--out", out)[0] == 0
    code, _, err = refseg("push", "lgformer-shapes", "me/lg", "--dry-run", "--report", out)
    assert code == 2 and "was asked with swapped words; one with the true words is accepted" in err


def test_folders_of_this_machine_stay_here(refseg, hub, tmp_path):
    folder = tmp_path / "private-folder" / "model"
    training = {"data": f"{tmp_path}/own + refshapes", "source": f"weights of {tmp_path}/first", "loss": ["dice"],
                "note": "| <script>`*x*`"}  # fmt: skip
    model = tiny_model()
    save_model(type(model)(model.name, model.method, model.network, model.input, model.tokenizer, training), folder)
    code, said, _ = refseg("push", folder, "me/own", "--yes")
    assert code == 0 and "folders of this machine are left out" in said and "the card states no licence" in said
    sent = hub.files("me/own")
    assert str(tmp_path).encode() not in sent["config.json"] + sent["README.md"]
    assert json.loads(sent["config.json"])["training"]["data"] == "own + refshapes"
    assert load_model("me/own").sha256 == load_model(folder).sha256
    card = ModelCard(sent["README.md"].decode())
    assert card.data.license is None and "weights of first" in card.text and r"\<script\>\`\*x\*\`" in card.text
    code, said, _ = refseg("push", folder, "me/own", "--dry-run", "--licence", "cc-by-4.0")
    assert code == 0 and card_of(said).data.license == "cc-by-4.0" and "no licence" not in said
