"""One paper, one file. `METHODS` names them all."""

from __future__ import annotations

from refseg.methods.alignformer import AlignFormer, AlignFormerConfig
from refseg.methods.base import Segmenter
from refseg.methods.crformer import CRFormer, CRFormerConfig
from refseg.methods.eavl import EAVL, EAVLConfig
from refseg.methods.jmceln import JMCELN, JMCELNConfig
from refseg.methods.lavt import LAVT, LAVTConfig
from refseg.methods.lgformer import LGFormer, LGFormerConfig

METHODS: dict[str, tuple[type[Segmenter], type]] = {
    "alignformer": (AlignFormer, AlignFormerConfig),
    "crformer": (CRFormer, CRFormerConfig),
    "eavl": (EAVL, EAVLConfig),
    "jmceln": (JMCELN, JMCELNConfig),
    "lavt": (LAVT, LAVTConfig),
    "lgformer": (LGFormer, LGFormerConfig),
}
"""Name of a method to its class and the class of its config."""

__all__ = [
    "EAVL",
    "JMCELN",
    "LAVT",
    "METHODS",
    "AlignFormer",
    "AlignFormerConfig",
    "CRFormer",
    "CRFormerConfig",
    "EAVLConfig",
    "JMCELNConfig",
    "LAVTConfig",
    "LGFormer",
    "LGFormerConfig",
    "Segmenter",
]
