"""The models that a server has: found when it starts, loaded when they are first asked, a few at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refseg.answers import Answerer
from refseg.fields import as_record, parse_json, read_text
from refseg.hub_models.find import Found, find_hub_model
from refseg.weights.folders import find_model


class Shelf:
    """Models by the names under which they are asked; a folder is called by its last part, so that no path is told.

    Only the worker's thread loads and asks them.

    Args:
        names: Packaged names, folders and models of the hub, as `refseg segment --model` takes them.
        load: Makes what answers of a packaged name, a folder, or files of the hub.
        most: How many are in memory at a time.

    Raises:
        ValueError: There is no such model, or two would have the same name.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str | Path | Found], Answerer], most: int) -> None:
        if not names:
            raise ValueError("no model: one or more are accepted")
        self._load, self._most = load, most
        self._places: dict[str, str | Path | Found] = {}
        self._told: dict[str, Mapping[str, Any]] = {}
        self._loaded: OrderedDict[str, Answerer] = OrderedDict()
        for name in names:
            found = find_hub_model(name)
            place: str | Path | Found = find_model(name) if found is None else found
            called = Path(name).resolve().name if Path(name).is_dir() else name.removeprefix("hf:")
            if called in self._places:
                raise ValueError(f"model {name!r}: there are two called {called!r}; folders of different names are "
                                 "accepted")  # fmt: skip
            self._places[called] = place
            self._told[called] = _told_of(place)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all models; the first is the default."""
        return tuple(self._places)

    def listed(self) -> list[dict[str, Any]]:
        """Every model with what is known of it."""
        loaded = set(self._loaded)
        return [
            {"name": name, "default": place == 0, "loaded": name in loaded, **self._told[name]}
            for place, name in enumerate(self._places)
        ]

    def loaded(self, name: str) -> bool:
        """Whether a model is in memory."""
        return name in self._loaded

    def without_paths(self, text: str) -> str:
        """A message of a model, with its name where the folder stood."""
        for name, place in self._places.items():
            parts = place.parts if isinstance(place, Found) else ()
            for path in (*(str(part.folder) for part in parts), *(part.name for part in parts), str(place)):
                if "/" in path or "\\" in path:
                    text = text.replace(path, name)
        return text

    def get(self, name: str) -> Answerer:
        """A model, loaded if it is not; the one asked longest ago makes room.

        Raises:
            ValueError: It is damaged, or gone since the server started.
        """
        if name not in self._loaded:
            while len(self._loaded) >= self._most:
                self._loaded.popitem(last=False)
            self._loaded[name] = self._load(self._places[name])
        self._loaded.move_to_end(name)
        return self._loaded[name]


def _told_of(place: str | Path | Found) -> dict[str, Any]:
    """Method, training data and licence, as far as they are known without loading."""
    if isinstance(place, Found):
        about = place.about
        return {
            "method": place.family,
            "trained_on": about.trained_on if about else "unknown",
            "licence": about.licence if about else "unknown",
        }
    config = as_record(parse_json(read_text(Path(place) / "config.json"), "config.json"), "config.json")
    training = config.get("training")
    data = training.get("data") if isinstance(training, dict) else None
    return {"method": str(config.get("method", "unknown")), "trained_on": str(data or "unknown"), "licence": "unknown"}
