"""Open models of the Hugging Face hub that turn a sentence into a mask, behind the interface of the six methods.

None was trained by us. Each family is a file over transformers' own classes; `CATALOGUE` names the models that have a
short name, and `hf:USER/NAME` finds the family of any other by its config.
"""

from __future__ import annotations

from refseg.hub_models.catalogue import CATALOGUE, PHOTO_MODEL, HubModel
from refseg.hub_models.find import Found, find_hub_model

__all__ = ["CATALOGUE", "PHOTO_MODEL", "Found", "HubModel", "find_hub_model"]
