"""Whether two spellings mean one data set: a name and a path, relative and absolute, a folder and its file."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refseg.data.sets import find_data
from refseg.data.shapes import SETS
from refseg.files import is_file


@dataclass(frozen=True)
class DataIdentity:
    """Which data set was used.

    Attributes:
        data: As the user spelled it.
        data_name: What the data set is called.
        data_file: The file that holds its references, absolute and without links; None for a built-in set, and where it
            is not known.
    """

    data: str
    data_name: str
    data_file: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self)


def identify(spelled: str, data: Any) -> DataIdentity:
    """The identity of an opened data set; of any other samples the spelling is all that is known."""
    source = getattr(data, "source", None)
    name = getattr(data, "name", spelled)
    return DataIdentity(spelled, str(name), str(source.resolve()) if isinstance(source, Path) else None)


def stated_identity(stated: Mapping[str, Any]) -> DataIdentity | None:
    """The identity in a header or a report; None where it says nothing of data, as other projects' headers may.

    Raises:
        ValueError: What it says is no text.
    """
    if stated.get("data") is None:
        return None
    given = {name: stated.get(name) for name in ("data", "data_name", "data_file")}
    if wrong := [name for name, value in given.items() if value is not None and not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]} {given[wrong[0]]!r}: the name or the path of a data set is accepted")
    data = str(given["data"])
    if given["data_name"] is not None:
        return DataIdentity(data, str(given["data_name"]), None if data in SETS else given["data_file"])
    if data in SETS:
        return DataIdentity(data, data)
    try:
        file, name = find_data(data)
    except (ValueError, OSError):  # not here, or by another project's name for it
        return DataIdentity(data, data)
    return DataIdentity(data, name, str(file.resolve()))


def same_data(one: DataIdentity, other: DataIdentity) -> bool:
    """Whether two identities are of one data set.

    Files that are both there decide, by being the same or by holding the same. Else the names do: a file may have been
    on another machine.
    """
    files = [None if some.data_file is None else Path(some.data_file) for some in (one, other)]
    if files[0] is not None and files[1] is not None:
        if files[0] == files[1]:
            return True
        if is_file(files[0]) and is_file(files[1]):
            return filecmp.cmp(files[0], files[1], shallow=False)
    elif any(some.data_file is None and some.data in SETS for some in (one, other)) and files != [None, None]:
        return False  # a folder can be called like a built-in set
    return one.data_name.casefold() == other.data_name.casefold()
