"""Where models lie: names, folders and the hub. Nothing here reads a weight, so that a wrong name is said at once."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

from refseg.files import first_line
from refseg.presets import preset_table

PACKAGED = Path(__file__).parents[1] / "packaged"
# What the compact versions' encoders start from, and `refseg pretrain` makes.
ENCODERS = ("swin-shapes", "bert-shapes", "clip-shapes", "clip-vit-shapes")
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")
DEFAULT_MODEL = "lgformer-shapes"
ACCEPTED = (
    "a packaged model ({}), the folder of a model or of a run, an open model of photos that `refseg models` lists, or "
    "user/name or user/name@revision on the Hugging Face hub"
)


def check_encoders(name: str) -> None:
    """Refuses pretrained encoders of an unknown name.

    Raises:
        ValueError: There are none; names those there are.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoders {name!r}: unknown; accepted are {', '.join(ENCODERS)}")


def packaged_models() -> list[str]:
    """Names of the models whose weights ship with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


def find_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: A packaged name, the folder of a model or of a run (whose `best` it then is), or `user/name` (also
            `hf:user/name`) on the Hugging Face hub; a branch, tag or commit may follow behind an @.

    Raises:
        ValueError: There is no such model.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"model {name!r}: {ACCEPTED.format(', '.join(packaged_models()))} is accepted")
    name = str(name)
    if name in packaged_models():
        return PACKAGED / name
    if name and Path(name).is_dir():
        return _in_folder(Path(name))
    accepted = ACCEPTED.format(", ".join(packaged_models()))
    if name in preset_table():
        raise ValueError(f"model {name!r}: a preset without weights; `refseg train {name}` trains it. "
                         f"Accepted is {accepted}")  # fmt: skip
    if is_hub_name(name):
        repository, revision = split_revision(name)
        try:
            return from_hub(repository, list(MODEL_FILES), revision)
        except ValueError as error:
            raise ValueError(f"model {name!r}: no such folder, and {error}") from error
    raise ValueError(f"model {name!r}: not found; accepted is {accepted}")


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of one on the hub: `user/name` or `user/name@revision`, also behind `hf:`."""
    repository = name.removeprefix("hf:").partition("@")[0]
    return repository.count("/") == 1 and not repository.startswith((".", "/")) and not repository.endswith("/")


def split_revision(name: str) -> tuple[str, str | None]:
    """A repository on the hub, and the branch, tag or commit behind its @; None for the main branch.

    Raises:
        ValueError: Nothing stands behind the @.
    """
    repository, sign, revision = name.removeprefix("hf:").partition("@")
    if sign and not revision:
        raise ValueError(f"model {name!r}: no revision behind the @; a branch, tag or commit is accepted")
    return repository, revision or None


def _in_folder(folder: Path) -> Path:
    """The model in a folder: the folder itself, or the best weights of the run that it holds."""
    if (folder / "config.json").is_file():
        return folder
    if (folder / "best" / "config.json").is_file():
        return folder / "best"
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"model {str(folder)!r}: a run that has not been scored yet, so that it has no `best`; its "
                         "first evaluation writes one")  # fmt: skip
    return folder


def from_hub(repository: str, patterns: list[str], revision: str | None = None, gated: str = "") -> Path:
    """Downloads files of a repository on the Hugging Face hub and returns their folder.

    Args:
        repository: As `user/name`.
        patterns: Names of the files, with `*` for anything.
        revision: A commit, tag or branch; the main branch by default.
        gated: Page where access is asked for, where it has to be.

    Raises:
        ValueError: The hub does not answer, has no such repository or wants a token, or the disk is full; says which.
    """
    from huggingface_hub import snapshot_download

    log = logging.getLogger("huggingface_hub")
    before = log.level
    log.setLevel(logging.ERROR)  # every vain attempt would have a line of its own
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's errors share no base class with those of its connection
        raise ValueError(f"{repository}: cannot be read from the Hugging Face hub ({why_not(error, gated)})") from error
    finally:
        log.setLevel(before)


def why_not(error: BaseException, gated: str = "") -> str:
    """Why the hub gave or took nothing, and what helps.

    Args:
        error: What its library raised.
        gated: Page where access is asked for, where it has to be.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in causes):
        return "the disk is full; HF_HOME=FOLDER keeps downloads elsewhere"
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        page = gated or "its page"
        return f"access has to be asked for on {page}; then `hf auth login`, or HF_TOKEN, says who you are"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return "there is no such repository, or it is private: `hf auth login`, or HF_TOKEN, says who you are"
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        return "it has no such branch, tag or commit"
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        asked = f"; access has to be asked for on {gated} first" if gated else ""
        return ("HF_HUB_OFFLINE is set and it is not on this machine" if HF_HUB_OFFLINE
                else "no connection, and it is not on this machine") + asked  # fmt: skip
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return "HF_HUB_OFFLINE is set"
    if any(isinstance(cause, LocalTokenNotFoundError) or _status(cause) == 401 for cause in causes):
        return "the hub wants to know who you are: `hf auth login`, or HF_TOKEN, says it"
    if any(_status(cause) == 403 for cause in causes):
        return "this account may not write there; another name, or a token that may write, is accepted"
    if any(_status(cause) == 412 for cause in causes):
        return "somebody else has changed it in this moment; once more is accepted"
    if any("ConnectError" in type(cause).__name__ or isinstance(cause, ConnectionError) for cause in causes):
        return "no connection to the Hugging Face hub"
    return first_line(error)


def _status(error: BaseException) -> int | None:
    """The number with which a server answered, if it did."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
