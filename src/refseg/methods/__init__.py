"""One paper, one file. `METHODS` names them all."""

from __future__ import annotations

from typing import Any

from refseg.files import first_line
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


def build_network(method: str, config: Any, name: str) -> Segmenter:
    """The network of a config, with random weights.

    Args:
        method: Key of `METHODS`.
        config: The method's config.
        name: Whose config it is, for messages.

    Raises:
        ValueError: Its numbers do not go together.
    """
    kind: Any = METHODS[method][0]
    try:
        network: Segmenter = kind(config)
    except Exception as error:  # torch refuses impossible widths in many ways
        raise ValueError(f"{name}: no network can be built of these numbers ({first_line(error)})") from error
    return network


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
    "build_network",
]
