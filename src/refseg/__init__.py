"""refseg: an image and a sentence go in, the mask of the object it refers to comes out.

>>> from refseg import Predictor
>>> predictor = Predictor.from_pretrained("lgformer-shapes")
>>> mask = predictor("scene.png", "the red circle").mask
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refseg.prediction import Prediction
    from refseg.predictor import Predictor

try:
    __version__ = version("refseg")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["Prediction", "Predictor", "__version__", "list_models"]


def list_models() -> list[str]:
    """Names of the models whose weights ship with this package."""
    from refseg.weights.folders import packaged_models

    return packaged_models()


def __dir__() -> list[str]:
    """The public names, also those that are imported when they are asked for."""
    return __all__


def __getattr__(name: str) -> Any:
    """Imports the heavy names when they are asked for, so that `refseg --help` does not wait for torch."""
    if name == "Predictor":
        from refseg.predictor import Predictor

        return Predictor
    if name == "Prediction":
        from refseg.prediction import Prediction

        return Prediction
    raise AttributeError(f"module 'refseg' has no attribute {name!r}")
