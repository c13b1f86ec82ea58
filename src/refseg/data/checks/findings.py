"""What can be found in a data set, and the report of a look over it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from refseg.data.formats.mask_pictures import CHOICE

# Longest sequences that the papers' models read, in tokens with both ends: with BERT those of the LAVT family, with
# CLIP those of the CRIS family on RefCOCO(+), on RefCOCOg, and JMCELN's.
LIMITS: Mapping[str, tuple[int, ...]] = {"BERT": (20,), "CLIP": (17, 22, 30)}
# What can be found: severity, and what it means.
FINDINGS: Mapping[str, tuple[str, str]] = {
    "no data": ("error", "no data set was found"),
    "missing files": ("error", "a data set's folder lacks one of its files"),
    "unreadable files": ("error", "the file cannot be read as what its name says"),
    "unreadable rows": ("error", "the row is malformed and was left out"),
    "unexpected counts": ("error", "not as many references, sentences or images as the published split has"),
    "unconfirmed counts": ("warning", "not nearly as many sentences as papers print for the split"),
    "missing images": ("error", "the annotated image is not there"),
    "unreadable images": ("error", "the image is damaged or no image"),
    "images of another size": ("error", "the image is not of the size that was annotated"),
    "turned photos": (
        "error",
        "the photo has an EXIF orientation, and its annotations fit the stored pixels, or these and the photo as it is "
        "shown alike; --orientation says which were annotated",
    ),
    "images of unusual range": ("warning", "what is white was guessed from the numbers of the image"),
    "unreadable masks": ("error", "the mask cannot be drawn"),
    "masks of another size": ("error", "the mask is not of the image's size"),
    "masks of several values": ("error", f"the picture of the mask is a map of labels: {CHOICE}"),
    "masks against their boxes": ("error", "the mask is not where the annotation's own bbox is"),
    "masks against their areas": ("warning", "the mask has less than half or more than twice the annotated area"),
    "masks outside images": ("error", "an outline leaves the image by more than a pixel"),
    "empty masks": ("error", "a mask is given and has no pixel"),
    "soft masks": ("warning", "the picture of the mask has soft edges, which are cut at half"),
    "lossy masks": ("warning", "the mask is kept in a lossy format, which blurs it; it is cut at half"),
    "parts without area": ("warning", "a part of the mask has no pixel and is passed over"),
    "references without sentences": ("warning", "nothing is asked about them, and they are passed over"),
    "overlapping parts": ("warning", "parts of a mask overlap: code that keeps pixels equal to 1 cuts holes there"),
    "empty expressions": ("error", "an expression without a word"),
    "ambiguous expressions": ("warning", "the same words about different objects of an image"),
    "repeated expressions": ("warning", "the same words about the same object more than once"),
    "long expressions": ("warning", "longer than a model reads; the end is cut off"),
    "images shared by train and test": ("error", "images of the training split are also in a split that is scored"),
    "images shared by scored splits": ("warning", "two splits that are scored share images"),
    "images shared with another set": (
        "warning",
        "training on the one set shows images on which the other is scored; to train on both, `refseg train --data A "
        "--data B` takes every val and test image out, and `refseg data check --train-list FILE` checks what another "
        "model was trained on",
    ),
    "images on the training list": ("error", "images of the list are in a split that is scored"),
}


@dataclass
class Finding:
    """One thing that is wrong in one place.

    Attributes:
        name: A key of `FINDINGS`.
        severity: "error" or "warning".
        where: The data set, with its split where there is one.
        says: What it means.
        count: How often.
        examples: Up to `EXAMPLES` identifiers.
    """

    name: str
    severity: str
    where: str
    says: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What was looked at and what was found.

    Attributes:
        root: The folder.
        sets: Name, file and counts by split of every data set.
        findings: What is wrong, errors first.
        tokens: How lengths were measured.
        skipped: What was not looked at.
    """

    root: str
    sets: list[dict[str, Any]]
    findings: list[Finding]
    tokens: str
    skipped: list[str]

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def summary(self) -> dict[str, Any]:
        """Everything as plain data."""
        return asdict(self) | {"errors": self.count("error"), "warnings": self.count("warning")}


@dataclass(frozen=True)
class Measure:
    """How the length of sentences is measured.

    Attributes:
        name: What measures, for the report.
        lengths: Sentences to their numbers of tokens, both ends included.
        limits: Names of text encoders, keys of `LIMITS`, that read what it produces.
    """

    name: str
    lengths: Callable[[Sequence[str]], Sequence[int]]
    limits: Collection[str]


def words_and_signs(sentences: Sequence[str]) -> list[int]:
    """The least number of tokens: one for every word and every sign (rare words take several), and the two ends."""
    return [len("".join(c if c.isalnum() else f" {c} " for c in sentence).split()) + 2 for sentence in sentences]


WORDS = Measure(
    "words and signs, the least a tokenizer makes of them (give one with --tokenizer)", words_and_signs, LIMITS
)
