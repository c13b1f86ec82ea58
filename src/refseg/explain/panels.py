"""What a method shows of its way, from its details to the panels that are drawn.

Every panel exists where the detail it is made of does, so that an ablation row without a module has the other panels.
G words and end tokens, Q queries, h and w sides of a map of the network input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refseg.explain.words import Groups

Kind = Literal["share", "probability", "signed", "cosine"]
NAMES = {"alignformer": "AlignFormer", "crformer": "CRFormer", "eavl": "EAVL", "jmceln": "JMCELN", "lavt": "LAVT",
         "lgformer": "LGFormer", "clipseg": "CLIPSeg"}  # fmt: skip
FUSIONS = {"vlba": "VLBA", "vlua": "VLUA", "pwam": "PWAM", "vlf": "VLF"}
EQUATIONS = {  # of the papers' attention of pixels to words
    ("alignformer", "vlba"): " (eq. 1-2)",
    ("alignformer", "vlua"): " (eq. 1-2)",
    ("lgformer", "vlba"): " (eq. 5-6)",
    ("crformer", "vlf"): " (eq. 2)",
}


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps over the image, in rows and columns.

    Attributes:
        name: What it is, for programs.
        title: What it is, for people.
        rows: R names.
        columns: K names.
        maps: R rows of K arrays (h, w), in the frame of the network input; `Explanation.on_image` lays one over the
            image. Rows may have maps of different sizes.
        kind: "share" from 0 to the largest value, "probability" from 0 to 1, "signed" around 0 to the largest absolute
            value, "cosine" from -1 to 1.
        by_row: Whether every row has a scale of its own.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    maps: tuple[tuple[np.ndarray, ...], ...]
    kind: Kind
    by_row: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """Shares that every column divides among the rows.

    Attributes:
        name: What it is, for programs.
        title: What it is, for people.
        rows: G names, words and end tokens.
        columns: Q names.
        values: (G, Q); columns add up to 1.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray


Panel = Maps | Table


def range_of(values: list[np.ndarray], kind: Kind) -> tuple[float, float]:
    """The numbers that the first and the last colour stand for."""
    if kind == "probability":
        return 0.0, 1.0
    if kind == "cosine":
        return -1.0, 1.0
    largest = max((float(np.abs(each).max()) for each in values if each.size), default=0.0) or 1.0
    return (-largest, largest) if kind == "signed" else (0.0, largest)


def panels_of(method: str, config: Any, details: Mapping[str, np.ndarray], groups: Groups) -> tuple[Panel, ...]:
    """The panels of one answer.

    Args:
        method: Key of `refseg.methods.METHODS`.
        config: The method's config.
        details: What the method showed of one expression, see its `forward`, without the axis of the expressions.
        groups: Which tokens are shown together.
    """
    found: list[Panel | None] = [
        _layers(method, details),
        _stages(config, details),
        _similarity(details),
        _query_masks(method, config, details),
        _query_words(method, details, groups),
        *_queries_by_layer(details, groups),
        _embeddings(details),
        _fusion(method, config, details, groups),
        _decoder_words(details, groups),
    ]
    return tuple(panel for panel in found if panel is not None)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))


def _one_row(name: str, title: str, columns: list[str], maps: np.ndarray, kind: Kind, by_row: bool = False) -> Maps:
    return Maps(name, title, ("",), tuple(columns), (tuple(maps),), kind, by_row)


def _layers(method: str, details: Mapping[str, np.ndarray]) -> Panel | None:
    if "masks_by_layer" not in details:
        return None
    masks = details["masks_by_layer"]  # (1 + layers, h, w)
    printed = {"lgformer": " (eq. 12)", "alignformer": " (eq. 8)"}.get(method, "")
    columns = ["query", *(f"layer {n}" for n in range(1, len(masks)))]
    title = f"Mask of the query and after every layer of the generator{printed}"
    if len(masks) == 1:
        title = f"Mask of the query{printed}; there is no layer behind it"
    return _one_row("masks_by_layer", title, columns, _probabilities(masks), "probability")


def _stages(config: Any, details: Mapping[str, np.ndarray]) -> Panel | None:
    if "masks_by_stage" not in details:
        return None
    masks = details["masks_by_stage"]  # (1 + n, h, w)
    first = "LSRAN" if config.lsran else "neck"
    behind = "eq. 3-4 and PAN" if config.pan else "eq. 3-4"
    title = f"Mask found in the map of every stage ({behind}); the last is the answer"
    if len(masks) == 1:
        title = f"Mask found in the map of the {first}; there are no stages"
    columns = [first, *(f"stage {n}" for n in range(1, len(masks)))]
    return _one_row("masks_by_stage", title, columns, _probabilities(masks), "probability")


def _similarity(details: Mapping[str, np.ndarray]) -> Panel | None:
    if "similarity" not in details:
        return None
    maps = details["similarity"]  # (Q, h, w)
    columns = ["prototype"] if len(maps) == 1 else [f"query {q}" for q in range(1, len(maps) + 1)]
    title = "Cosine of every pixel and the prototype" + ("s" if len(maps) > 1 else "")
    return _one_row("similarity", title, columns, maps, "cosine")


def _query_masks(method: str, config: Any, details: Mapping[str, np.ndarray]) -> Panel | None:
    masks = details.get("query_masks")  # (Q, h, w)
    if masks is None or (method == "lgformer" and len(masks) == 1):  # the answer itself
        return None
    if method == "lgformer":
        columns = [f"query {q}" for q in range(1, len(masks) + 1)]
        return _one_row(
            "query_masks", "Log-odds of every query's mask before they are merged", columns, masks, "signed"
        )
    scores = details["query_scores"]
    columns = [f"{q}: {score:.3f}" for q, score in enumerate(scores, 1)]
    title = "Log-odds of every query's mask (eq. 12) and its weight (eq. 13); their weighted sum is the answer (eq. 14)"
    if config.aligner == "fixed":
        columns, title = ["fixed kernel"], "Log-odds of the mask of the one learned kernel, which is the answer"
    elif config.estimator == "off" or len(masks) == 1:
        columns = [str(q) for q in range(1, len(masks) + 1)]
        title = "Log-odds of every query's mask (eq. 12); their sum is the answer"
    return _one_row("query_masks", title, columns, masks, "signed")


def _query_words(method: str, details: Mapping[str, np.ndarray], groups: Groups) -> Panel | None:
    attention = details.get("word_attention")
    if attention is None or attention.ndim != 2 or "word_attention_by_layer" in details:
        return None
    return _words_table("query_words", "Words that each query is made of (eq. 9)", attention, groups)


def _words_table(name: str, title: str, attention: np.ndarray, groups: Groups) -> Table:
    """(Q, L) attention of queries to tokens as a table of words and queries."""
    columns = tuple(str(q) for q in range(1, len(attention) + 1))
    return Table(name, title, groups.names, columns, groups.summed(attention.T))


def _queries_by_layer(details: Mapping[str, np.ndarray], groups: Groups) -> list[Panel]:
    if "query_maps_by_layer" not in details:
        return []
    maps, attention = details["query_maps_by_layer"], details["word_attention_by_layer"]
    made = ["first", *(f"layer {n}" for n in range(1, len(maps)))]
    columns = tuple(str(q) for q in range(1, maps.shape[1] + 1))
    rows = tuple(tuple(row) for row in maps)
    title = (
        "Maps that ask the words (eq. 7), one for every query: the first ones, and those that calibrate them (eq. 12)"
    )
    if len(maps) == 1:
        title = "Maps that ask the words (eq. 7), one for every query"
    found: list[Panel] = [Maps("query_maps", title, tuple(made), columns, rows, "signed", by_row=True)]
    for n, name in enumerate(made):
        behind = "first queries" if n == 0 else f"calibration behind {name}"
        found.append(_words_table(f"query_words_{n}", f"Words of the {behind} (eq. 8)", attention[n], groups))
    return found


def _embeddings(details: Mapping[str, np.ndarray]) -> Panel | None:
    if "embedding_attention" not in details:
        return None
    maps = details["embedding_attention"]  # (Q, h, w)
    columns = [str(q) for q in range(1, len(maps) + 1)]
    title = "Where every contextual embedding looks in the last stage (eq. 3)"
    return _one_row("embedding_attention", title, columns, maps, "share")


def _fusion(method: str, config: Any, details: Mapping[str, np.ndarray], groups: Groups) -> Panel | None:
    found = sorted(name for name in details if name.startswith("fusion_attention_"))
    if not found:
        return None
    fusion = getattr(config, "fusion", "pwam")
    rows = []
    for name in found:
        rows.append(tuple(groups.summed(details[name])))  # (G, h, w)
    stages = tuple(f"stage {name.rsplit('_', 1)[1]}" for name in found)
    printed = EQUATIONS.get((method, fusion), "")
    title = f"{FUSIONS[fusion]} attention{printed}: how much of what a pixel reads is each word"
    return Maps("fusion_attention", title, stages, groups.names, tuple(rows), "share")


def _decoder_words(details: Mapping[str, np.ndarray], groups: Groups) -> Panel | None:
    attention = details.get("word_attention")
    if attention is None or attention.ndim != 3 or len(attention) < groups.members.shape[1]:  # one sentence, no words
        return None
    title = "L2VA attention in the last layer of the pixel decoder: how much of what a pixel reads is each word"
    return Maps("decoder_words", title, ("decoder",), groups.names, (tuple(groups.summed(attention)),), "share")
