"""From the files of a model to what answers with it."""

from __future__ import annotations

import torch

from refseg.answers import Answerer
from refseg.files import first_line
from refseg.hub_models.find import Found
from refseg.weights.store import Model


def load_hub_model(found: Found, device: torch.device) -> Model | Answerer:
    """Loads a model of the hub.

    Args:
        found: Its files.
        device: Where it computes.

    Returns:
        A model whose network gives log-odds at its own size, for a `Predictor`, or what answers itself.

    Raises:
        ValueError: The files are damaged, or not of the family that their config says.
    """
    try:
        return _load(found, device)
    except ValueError as error:
        if any(str(part.folder) in str(error) for part in found.parts):
            raise
        raise ValueError(f"{found.name}: {error}") from error
    except Exception as error:  # of whatever kind
        raise ValueError(f"{found.name}: its files do not fit each other ({first_line(error)})") from error


def _load(found: Found, device: torch.device) -> Model | Answerer:
    if found.family == "clipseg":
        from refseg.hub_models.clipseg import load_clipseg

        return load_clipseg(found)
    if found.family == "florence-2":
        from refseg.hub_models.florence2 import Florence2

        return Florence2(found, device)
    if found.family == "sam3":
        from refseg.hub_models.sam3 import Sam3

        return Sam3(found, device)
    from refseg.hub_models.two_stage import TwoStage

    return TwoStage(found, device)
