"""One paper, one file. `METHODS` names them all."""

from __future__ import annotations

from refseg.methods.alignformer import AlignFormer, AlignFormerConfig
from refseg.methods.base import Segmenter
from refseg.methods.lavt import LAVT, LAVTConfig
from refseg.methods.lgformer import LGFormer, LGFormerConfig

METHODS: dict[str, tuple[type[Segmenter], type]] = {
    "alignformer": (AlignFormer, AlignFormerConfig),
    "lavt": (LAVT, LAVTConfig),
    "lgformer": (LGFormer, LGFormerConfig),
}
"""Name of a method to its class and the class of its config."""

__all__ = [
    "LAVT",
    "METHODS",
    "AlignFormer",
    "AlignFormerConfig",
    "LAVTConfig",
    "LGFormer",
    "LGFormerConfig",
    "Segmenter",
]
