"""Protocols: named ways to score masks. A number without one means nothing.

Published scores differ in the size at which masks are compared, in what is resized and thresholded, in what two empty
masks are worth, and in the comparison behind P@X. Here each of these choices is a field, and the ways of six projects
are protocols beside `original`, this package's own.
"""

from __future__ import annotations

import math
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from refseg.fields import as_float, parse_json, read_text

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
PRECISIONS = tuple(f"P@{threshold}" for threshold in THRESHOLDS)
STANDARD = ("oIoU", "mIoU", *PRECISIONS)
METRICS = (*STANDARD, "cIoU", "gIoU", "T_acc", "N_acc")
MASK_FIELDS = ("resized", "interpolation", "align_corners", "steps", "beyond", "order", "threshold", "comparison")


@dataclass(frozen=True)
class Protocol:
    """How a model's answer becomes a mask, and how masks become numbers. The defaults are those of `original`.

    Attributes:
        name: What reports call it.
        resolution: Where masks are compared: at the "original" size of the image, or at "network" size, to which the
            target is then brought as the image is (squashed or letterboxed, nearest neighbour).
        resized: What is resized: the "logits" (log-odds) or the "probabilities".
        interpolation: How it is resized.
        steps: "direct" from the network's output to that size, or first "through network size".
        order: "resize first" and apply the threshold then, or "threshold first" and resize the mask.
        threshold: Probability that separates foreground from background, between 0 and 1.
        comparison: Whether a pixel on the threshold is background (">") or foreground (">=").
        empty: What a prediction and a target that are both empty score, 0 to 1.
        iou_epsilon: Added to the union of every expression's own IoU, in pixels.
        precision_comparison: Whether an IoU of exactly X counts in P@X (">=") or not (">").
        no_target: "plain" treats an expression without a target as any other; "gres" counts P@X over expressions with
            a target only, takes a prediction below `min_target_pixels` for a rejection, and knows T_acc and N_acc.
        min_target_pixels: Pixels that a prediction needs to count as a target; only "gres" asks.
        metrics: The numbers that the protocol's project publishes, by its own names; gIoU is mIoU and cIoU is oIoU.
        align_corners: Whether the network's output is brought to network size with the centres of the corner cells on
            the corner pixels; everything else aligns the cells' outer edges.
        beyond: What lies beyond the network's input when it is mapped back to the image: its "edge" goes on, or "zero",
            so that probabilities fade at the borders of the image that are borders of the input.
    """

    name: str
    resolution: Literal["original", "network"] = "original"
    resized: Literal["logits", "probabilities"] = "logits"
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    steps: Literal["direct", "through network size"] = "direct"
    order: Literal["resize first", "threshold first"] = "resize first"
    threshold: float = 0.5
    comparison: Literal[">", ">="] = ">"
    empty: float = 1.0
    iou_epsilon: float = 0.0
    precision_comparison: Literal[">", ">="] = ">="
    no_target: Literal["plain", "gres"] = "plain"
    min_target_pixels: int = 1
    metrics: tuple[str, ...] = STANDARD
    align_corners: bool = False
    beyond: Literal["edge", "zero"] = "edge"

    def __post_init__(self) -> None:
        """Refuses what cannot be scored.

        Raises:
            ValueError: A field has a value that it does not take; the message names both.
        """
        hints = typing.get_type_hints(type(self))
        for field in fields(self):
            choices, value = typing.get_args(hints[field.name]), getattr(self, field.name)
            if typing.get_origin(hints[field.name]) is Literal and value not in choices:
                raise ValueError(f"protocol field {field.name} {value!r}: unknown; accepted are {_list(choices)}")
        ranges = {"threshold": 0 < self.threshold < 1, "empty": 0 <= self.empty <= 1}
        ranges |= {"iou_epsilon": 0 <= self.iou_epsilon < math.inf, "min_target_pixels": self.min_target_pixels >= 1}
        for name, inside in ranges.items():
            if not inside:
                accepted = "a threshold between 0 and 1, empty from 0 to 1, an epsilon from 0, 1 pixel or more"
                raise ValueError(
                    f"protocol field {name} {getattr(self, name)!r}: out of range; accepted are {accepted}"
                )
        if self.beyond == "zero" and (self.resized, self.resolution) != ("probabilities", "original"):
            raise ValueError(f"protocol field beyond 'zero' with resized {self.resized!r} and resolution "
                             f"{self.resolution!r}: probabilities at original size are accepted")  # fmt: skip
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics or not self.name:
            raise ValueError(f"protocol {self.name!r} with the metrics {_list(unknown) or 'none'}: a name and some of "
                             f"{', '.join(METRICS)} are accepted")  # fmt: skip

    @property
    def line(self) -> str:
        """All fields in one line, as every report shows them."""
        where = "the image's own size" if self.resolution == "original" else "network size"
        corners = " with aligned corners" if self.align_corners else ""
        fading = ", 0 beyond the input" if self.beyond == "zero" else ""
        resize = f"{self.resized} resized {self.interpolation}{corners}, {self.steps}{fading}"
        cut = f"probability {self.comparison} {self.threshold:g}"
        steps = (resize, cut) if self.order == "resize first" else (cut, f"mask resized {self.interpolation}")
        union = f"(U + {self.iou_epsilon:g})" if self.iou_epsilon else "U"
        rejected = f" (a prediction below {self.min_target_pixels} pixels rejects)" if self.no_target == "gres" else ""
        return (
            f"{self.name}: masks at {where}; {steps[0]}, then {steps[1]}; both empty {self.empty:g}; "
            f"IoU = I / {union}; P@X counts IoU {self.precision_comparison} X; "
            f"no-target rules {self.no_target}{rejected}; publishes {', '.join(self.metrics)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self) | {"metrics": list(self.metrics)}


ORIGINAL = Protocol("original")
# LAVT and its heirs: labels squashed to the network's 480 x 480, the larger of two channels, an empty union scores 0.
LAVT = Protocol("lavt", resolution="network", align_corners=True, empty=0.0)
# Released code of LGFormer and CRFormer, heirs of LAVT: the same targets. Logits are resized with aligned outer
# edges in the one, with aligned corners and a threshold of 0.36 in the other.
LGFORMER = Protocol("lgformer", resolution="network", empty=0.0)
CRFORMER = Protocol("crformer", resolution="network", align_corners=True, threshold=0.36, empty=0.0)
# CRIS: bicubic to network size, then a cubic warp back to the image with 0 around the network's input; an IoU has to
# exceed X. CRIS puts the centre of the image's first pixel on that of the input's, both ways, so that an image which is
# shrunk fades at the right and the bottom. Here the outer edges of pixels lie on each other, both ways, and opposite
# borders share the fading.
CRIS = Protocol(
    "cris", resized="probabilities", interpolation="bicubic", align_corners=True, steps="through network size",
    beyond="zero", threshold=0.35, empty=0.0, iou_epsilon=1e-6, precision_comparison=">", metrics=("mIoU", *PRECISIONS),
)  # fmt: skip
LISA = Protocol("lisa", iou_epsilon=1e-5, metrics=("gIoU", "cIoU"))
# GRES (gRefCOCO): how it brings masks to a size was not determined; here as `original` does.
GRES = Protocol("gres", no_target="gres", metrics=("gIoU", "cIoU", "T_acc", "N_acc", "P@0.7", "P@0.8", "P@0.9"))
PROTOCOLS = {protocol.name: protocol for protocol in (ORIGINAL, LAVT, LGFORMER, CRFORMER, CRIS, LISA, GRES)}


def find_protocol(name: str) -> Protocol:
    """A built-in protocol by name, or one from a JSON file.

    The file holds an object with `name` and any other field of `Protocol`; what it leaves out is as in `original`.

    Raises:
        ValueError: There is no such protocol, or the file is not one.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path = Path(name)
    if not name.endswith(".json") or not path.is_file():
        what = "no such file" if name.endswith(".json") else "unknown"
        raise ValueError(f"protocol {name!r}: {what}; accepted are {_list(PROTOCOLS)}, or a FILE.json")
    given = parse_json(read_text(path), str(path))
    try:
        return protocol_from_dict(given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def protocol_from_dict(given: Any) -> Protocol:
    """A protocol from what JSON made of it; left out fields are those of `original`.

    Raises:
        ValueError: It has no name, a field is unknown or of another type.
    """
    names = [field.name for field in fields(Protocol)]
    unknown = sorted(set(given) - set(names)) if isinstance(given, dict) else ["not an object"]
    if unknown or "name" not in given:
        raise ValueError(f"protocol with {_list(unknown) or 'no name'}: an object with name is accepted, and with any "
                         f"of {', '.join(names[1:])}")  # fmt: skip
    values = dict(given)
    for name, value in given.items():
        default = "" if name == "name" else getattr(ORIGINAL, name)
        if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(x, str) for x in value):
            values[name] = tuple(value)
        elif isinstance(default, float) and (number := as_float(value)) is not None:
            values[name] = number
        elif type(value) is not type(default):
            raise ValueError(f"protocol field {name} {value!r}: a value like {default!r} is accepted")
    if values["name"] in PROTOCOLS and Protocol(**values) != PROTOCOLS[values["name"]]:
        raise ValueError(f"protocol {values['name']!r}: the name of a built-in protocol; one of its own is accepted")
    return Protocol(**values)


def _list(names: typing.Iterable[Any]) -> str:
    return ", ".join(str(name) for name in names)
