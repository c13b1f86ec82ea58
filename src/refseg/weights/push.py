"""A model's folder to the Hugging Face hub: what is sent, what is there already, and the one commit that sends it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refseg import __version__
from refseg.fields import as_record, parse_json, read_text
from refseg.presets import preset_table
from refseg.weights.card import PACKAGE_LICENCE, Measured, is_ours, licence_of, make_card, of_training, public_training
from refseg.weights.folders import MODEL_FILES, PACKAGED, find_model, packaged_models, why_not

MAIN = "main"
CARD = "README.md"
_ALWAYS_THERE = {".gitattributes"}
_SECRET = re.compile(r"hf_\w{4,}|(?i:bearer)\s+\S+")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]{0,199}")


@dataclass(frozen=True)
class Parcel:
    """What is to be sent.

    Attributes:
        repository: As `user/name`.
        revision: The branch.
        private: Whether a new repository is one that only its owner sees.
        files: By name, the file or its content.
        notes: What whoever sends it should know.
    """

    repository: str
    revision: str
    private: bool
    files: Mapping[str, Path | bytes]
    notes: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: len(x) if isinstance(x, bytes) else x.stat().st_size for name, x in self.files.items()}


@dataclass(frozen=True)
class There:
    """What a repository holds.

    Attributes:
        private: Whether only its owner sees it.
        head: The commit that a new one follows.
        has_branch: Whether the branch is there.
        files: Names of the files.
    """

    private: bool
    head: str
    has_branch: bool
    files: tuple[str, ...]


def find_own_model(name: str) -> Path:
    """The folder of a model on this machine.

    Raises:
        ValueError: There is none.
    """
    if name not in packaged_models() and not Path(name).is_dir():
        known = ", ".join(packaged_models())
        raise ValueError(f"model {name!r}: not on this machine; a packaged name ({known}) or the folder of a model or "
                         "run is accepted")  # fmt: skip
    return find_model(name)


def check_place(repository: str, revision: str) -> str:
    """The repository `user/name` that is meant.

    Raises:
        ValueError: It has not the form of one, or the branch not that of a branch.
    """
    plain = repository.removeprefix("hf:")
    if "@" in plain:
        raise ValueError(f"{repository}: --revision says the branch; user/name is accepted")
    if not _REPOSITORY.fullmatch(plain):
        raise ValueError(f"{repository!r}: no name on the Hugging Face hub; user/name is accepted")
    if not _BRANCH.fullmatch(revision):
        raise ValueError(f"--revision {revision!r}: no name of a branch; letters, digits and - . _ / are accepted")
    return plain


def make_parcel(
    folder: Path,
    repository: str,
    revision: str = MAIN,
    private: bool = False,
    measured: Sequence[Measured] = (),
    licence: str | None = None,
) -> Parcel:
    """Gathers what is sent of a model: its three files, and a card made of them.

    Args:
        folder: The model's, which was loaded once and is whole.
        repository: As `user/name`.
        revision: The branch.
        private: Of a new repository.
        measured: Scores beside those of the training.
        licence: Of the weights; where it is None, that of this package if they learned from its drawings alone.

    Raises:
        ValueError: A file is missing.
    """
    if missing := [name for name in MODEL_FILES if not (folder / name).is_file()]:
        raise ValueError(f"model {str(folder)!r}: {missing[0]} is missing; a model is a folder with "
                         f"{', '.join(MODEL_FILES)}")  # fmt: skip
    files: dict[str, Path | bytes] = {name: folder / name for name in MODEL_FILES}
    config = dict(as_record(parse_json(read_text(folder / "config.json"), "config.json"), "config.json"))
    training, notes = config.get("training", {}), []
    shown = public_training(training)
    if shown != training:
        config["training"] = shown
        files["config.json"] = (json.dumps(config, indent=1) + "\n").encode()
        notes.append("folders of this machine are left out of what config.json says of the training")
    licence = licence or (PACKAGE_LICENCE if folder.parent == PACKAGED else licence_of(training))
    if licence is None:
        notes.append("the card states no licence: --licence says it, in the hub's spelling, as cc-by-4.0")
    known = {(one.data, one.split, one.protocol) for one in measured}
    own = [one for one in of_training(shown) if (one.data, one.split, one.protocol) not in known]
    card = make_card(config, repository, revision, [*measured, *own], licence)
    return Parcel(repository, revision, private, {CARD: card.encode(), **files}, tuple(notes))


def send(parcel: Parcel, overwrite: bool = False) -> tuple[str, list[str]]:
    """Sends a parcel as one commit, and makes repository and branch where they are not there yet.

    Args:
        parcel: What is sent.
        overwrite: Also into a repository that holds something else than a model of refseg, and over a card that
            somebody changed; other files stay.

    Returns:
        The address of the commit, and what whoever sends it should know.

    Raises:
        ValueError: Something else is there, or the hub refuses or does not answer; says why in one line, without a
            token.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="refseg", library_version=__version__)
    made = False
    try:
        there = _look(api, parcel)
        files, notes = dict(parcel.files), []
        if there is None:
            api.create_repo(parcel.repository, repo_type="model", private=parcel.private)
            made = True
        else:
            if parcel.private and not there.private:
                raise _Refused("is there and public; --private is for a new repository")
            if not overwrite:
                _refuse_others(api, parcel, there)
                if CARD in there.files and not _is_own_card(api, parcel, there):
                    del files[CARD]
                    notes.append("the README.md there was changed by hand and stays; --overwrite replaces it")
        if parcel.revision != MAIN and (there is None or not there.has_branch):
            api.create_branch(parcel.repository, branch=parcel.revision, exist_ok=True)
        done = api.create_commit(
            parcel.repository,
            [CommitOperationAdd(name, str(file) if isinstance(file, Path) else file) for name, file in files.items()],
            commit_message="Model of refseg",
            revision=parcel.revision,
            parent_commit=there.head if there is not None else None,  # of two at once the second is refused
        )
    except Exception as error:  # the hub's errors share no base class with those of its connection
        why = str(error) if isinstance(error, _Refused) else _SECRET.sub("...", why_not(error))
        why += "; the repository was made and is empty, and the same command fills it" if made else ""
        raise ValueError(f"{parcel.repository}: {why}") from (None if isinstance(error, _Refused) else error)
    return str(done.commit_url), notes


class _Refused(Exception):
    """What is there must not be replaced."""


def _look(api: Any, parcel: Parcel) -> There | None:
    """What is on the branch, or would be on a new one; None for no repository."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        main = api.model_info(parcel.repository)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None
    info, has_branch = main, True
    if parcel.revision != MAIN:
        try:
            info = api.model_info(parcel.repository, revision=parcel.revision)
        except RevisionNotFoundError:
            has_branch = False
    names = tuple(file.rfilename for file in info.siblings or ())
    return There(bool(main.private), str(info.sha), has_branch, names)


def _refuse_others(api: Any, parcel: Parcel, there: There) -> None:
    """Makes sure that what would be replaced is a model of refseg, or nothing.

    Raises:
        _Refused: It is something else.
    """
    others = sorted(set(there.files) - _ALWAYS_THERE)
    if not others or others == [CARD] and _is_own_card(api, parcel, there):
        return
    if "config.json" in there.files:
        config = _read(api, parcel, there, "config.json")
        try:
            found = as_record(parse_json(config, "config.json"), "config.json")
            if found.get("method") in {entry["method"] for entry in preset_table().values()} and "sha256" in found:
                return
        except ValueError:
            pass
    listed = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
    raise _Refused(f"holds something that is no model of refseg ({listed}); another name is accepted, or --overwrite")


def _is_own_card(api: Any, parcel: Parcel, there: There) -> bool:
    return is_ours(_read(api, parcel, there, CARD))


def _read(api: Any, parcel: Parcel, there: There, name: str) -> str:
    path = Path(api.hf_hub_download(parcel.repository, name, revision=there.head))
    try:
        return read_text(path)
    except ValueError:
        return ""
