"""One paper, one file. `METHODS` names them all."""

from __future__ import annotations

from refseg.methods.base import Segmenter
from refseg.methods.lgformer import LGFormer, LGFormerConfig

METHODS: dict[str, tuple[type[Segmenter], type]] = {
    "lgformer": (LGFormer, LGFormerConfig),
}
"""Name of a method to its class and the class of its config."""

__all__ = ["METHODS", "LGFormer", "LGFormerConfig", "Segmenter"]
