"""The open models that have a short name: where they are, under which licence, and what was published of them.

Commits, sizes, licences and scores are as repositories, model cards and papers state them; none was measured by us.
"""

from __future__ import annotations

from dataclasses import dataclass

PHOTO_MODEL = "florence-2-base-ft"  # what is named to who asks a model of drawn shapes about a photo


@dataclass(frozen=True)
class HubModel:
    """An open model.

    Attributes:
        name: Its short name.
        places: Its repositories on the Hugging Face hub, each at a commit; a detector before its segmenter.
        licence: Of the weights.
        megabytes: What is downloaded.
        trained_on: Data that decide what it may be compared on.
        published: A number for referring expressions with data, split, metric and source; empty where there is none.
        gated: Page where access is asked for; empty where none has to be.
        note: What a user should know.
    """

    name: str
    places: tuple[str, ...]
    licence: str
    megabytes: int
    trained_on: str
    published: str = ""
    gated: str = ""
    note: str = ""


_FLORENCE = "florence-community/Florence-2-"
# Short names of parts: DETECTOR+SEGMENTER takes each of them, or USER/NAME, or a folder.
PARTS = {
    "grounding-dino": "IDEA-Research/grounding-dino-tiny@a2bb814dd30d776dcf7e30523b00659f4f141c71",
    "grounding-dino-base": "IDEA-Research/grounding-dino-base@12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
    "mm-grounding-dino": "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
    "owlv2": "google/owlv2-base-patch16-ensemble@cfd3195ba4ea9592eec887ded089f4c08eff231d",
    "sam": "facebook/sam-vit-base@70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
    "sam2": "facebook/sam2.1-hiera-tiny@de431c4043854a71d8101e17995dfe596bf101a5",
}
_DETECTORS = {
    "grounding-dino": (
        689, "Objects365, GoldG, Cap4M",
        "boxes alone: RefCOCO val 50.8, RefCOCO+ val 51.6, RefCOCOg val 60.4 % top-1 accuracy (MMDetection)", "",
    ),
    "grounding-dino-base": (
        933, "COCO, Objects365, GoldG, Cap4M, OpenImages, ODinW-35, RefCOCO", "",
        "Has seen RefCOCO in training: its scores there are not zero-shot.",
    ),
    "mm-grounding-dino": (
        692, "Objects365, GoldG, V3Det",
        "boxes alone: RefCOCO val 52.1, RefCOCO+ val 52.5, RefCOCOg val 61.7 % top-1 accuracy (MMDetection)",
        "No commit is pinned. Others report broken boxes of this conversion: compare before you rely on it.",
    ),
    "owlv2": (620, "WebLI, self-trained", "", "Knows things, not relations: a whole sentence is one query to it."),
}  # fmt: skip
_SEGMENTERS = {"sam": 375, "sam2": 156}


def _florence(size: str, commit: str, megabytes: int, published: str, tuned: bool) -> HubModel:
    data = "FLD-5B" + (" and tasks with RefCOCO, RefCOCO+ and RefCOCOg among them" if tuned else "")
    note = "Gives polygons without a probability: no score, no other threshold."
    return HubModel(
        f"florence-2-{size}", (f"{_FLORENCE}{size}@{commit}",), "MIT", megabytes, data, published, note=note
    )


_MIOU = "RefCOCO val {} mIoU (model card)"
_SINGLE = (
    HubModel(
        "clipseg", ("CIDAS/clipseg-rd64-refined@999e0328d9e10b484360c477313983f9afdd7050",), "Apache 2.0", 603,
        "PhraseCut",
        "RefCOCO 30.1, RefCOCO+ 30.3, RefCOCOg-umd 33.8 IoU of another of its checkpoints (LD-ZNet, Table 3)",
        note="Finds what is named everywhere in the picture; one of several alike is not told apart.",
    ),
    _florence("base", "00921df66db728a9ceb750f5eca43e5c203a2051", 463, _MIOU.format(34.6), False),
    _florence("base-ft", "0b03b6f15a4a211370fb204aee4e7dd48887ea37", 463, _MIOU.format("78.0"), True),
    _florence("large", "4271c66b88cdbc05735372ec13b2360108de5317", 1554, _MIOU.format(35.8), False),
    _florence("large-ft", "26b734a54fdfbf9c398351eedfabb7f27fc470b7", 1554, _MIOU.format(80.5), True),
    HubModel(
        "sam3", ("facebook/sam3@3c879f39826c281e95690f02c7821c4de09afae7",), "SAM License", 3440, "SA-Co",
        gated="https://huggingface.co/facebook/sam3",
        note="Finds what a short noun phrase names; what a sentence says of places or relations it was not made for.",
    ),
)  # fmt: skip
_TWO_STAGE = tuple(
    HubModel(
        f"{detector}+{segmenter}", (PARTS[detector], PARTS[segmenter]), "Apache 2.0",
        megabytes + _SEGMENTERS[segmenter], f"{data}; SA-1B", published, note=note,
    )
    for detector, (megabytes, data, published, note) in _DETECTORS.items()
    for segmenter in _SEGMENTERS
)  # fmt: skip
CATALOGUE = {model.name: model for model in (*_SINGLE, *_TWO_STAGE)}
