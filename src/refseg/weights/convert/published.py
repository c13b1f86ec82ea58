"""What converters share: reading a published checkpoint, renaming its tensors, reading shapes off them.

The published code of LAVT and of what derives from it saves `model` (and, in some, `bert_model`) beside the optimiser
and the launch arguments, an `argparse.Namespace`. Only tensors and such arguments are read; nothing in a file is
executed.
"""

from __future__ import annotations

import argparse
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refseg.encoders.bert import BertConfig
from refseg.encoders.swin import SwinConfig
from refseg.files import first_line

Rules = Sequence[tuple[str, str]]  # their names, as regular expressions, and ours; `{}` stands for what was captured

BLOCK = "encoder.swin.encoder.layers.{}.blocks.{}."
_BLOCKS = [
    (r"norm1\.(.+)", "layernorm_before.{}"),
    (r"norm2\.(.+)", "layernorm_after.{}"),
    (r"mlp\.fc1\.(.+)", "intermediate.dense.{}"),
    (r"mlp\.fc2\.(.+)", "output.dense.{}"),
    (r"attn\.proj\.(.+)", "attention.output.dense.{}"),
    (r"attn\.(relative_position_bias_table)", "attention.self.{}"),
]
SWIN: Rules = [
    (r"backbone\.patch_embed\.proj\.(.+)", "encoder.swin.embeddings.patch_embeddings.projection.{}"),
    (r"backbone\.patch_embed\.norm\.(.+)", "encoder.swin.embeddings.norm.{}"),
    (r"backbone\.norm(\d)\.(.+)", "encoder.norms.{}.{}"),
    (r"backbone\.layers\.(\d)\.downsample\.(.+)", "encoder.swin.encoder.layers.{}.downsample.{}"),
    *((rf"backbone\.layers\.(\d)\.blocks\.(\d+)\.{theirs}", BLOCK + ours) for theirs, ours in _BLOCKS),
]
BERT: Rules = [(r"text_encoder\.(.+)", "text_encoder.model.{}")]
# Computed from the shapes, or of BERT's pooler, which nobody reads.
IGNORED = re.compile(r".*relative_position_index$|.*attn_mask$|text_encoder\.pooler\..*|.*position_ids$")


def read_checkpoint(checkpoint: Path, method: str) -> tuple[dict[str, Tensor], Any]:
    """All tensors of the model under one roof, and the launch arguments if they are there.

    Args:
        checkpoint: The `.pth` file. `module.` prefixes are taken off.
        method: Whose checkpoint it should be, for messages.

    Raises:
        ValueError: There is no such file, or it holds more than tensors, or no model.
    """
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such file; a .pth checkpoint of {method} is accepted")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none or wants more than tensors
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it wants {wanted.group(1)}, which is not executed" if wanted else "PyTorch cannot read it as tensors"
        raise ValueError(f"{checkpoint}: not a checkpoint of tensors alone: {reason}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(f"{checkpoint}: holds no 'model'; a .pth checkpoint of {method} is accepted")
    bert = content.get("bert_model") or {}
    if not isinstance(bert, dict):
        raise ValueError(f"{checkpoint}: its 'bert_model' holds no tensors; a .pth checkpoint of {method} is accepted")
    found: dict[Any, Any] = {str(k).removeprefix("module."): v for k, v in content["model"].items()}
    found |= {"text_encoder." + str(k).removeprefix("module."): v for k, v in bert.items()}
    if others := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{checkpoint}: {others[0]} is no tensor; a .pth checkpoint of {method} is accepted")
    return found, content.get("args")


@contextmanager
def reading(checkpoint: Path, method: str) -> Iterator[None]:
    """What its tensors, whose shapes may be any, make go wrong says that this is no such checkpoint.

    Raises:
        ValueError: Names the file.
    """
    try:
        yield
    except Exception as error:  # torch refuses impossible shapes in many ways
        if isinstance(error, ValueError) and str(error).startswith(str(checkpoint)):
            raise
        raise ValueError(f"{checkpoint}: not a checkpoint of {method} ({first_line(error)})") from error


def renamed(model: Mapping[str, Tensor], rules: Rules, source: str, method: str) -> dict[str, Tensor]:
    """Every tensor under our name. Queries, keys and values of Swin, which lie on top of each other, are divided.

    Args:
        model: Their tensors.
        rules: The names; the first that fits the whole name counts.
        source: Where they are from, for messages.
        method: Whose they should be, for messages.

    Raises:
        ValueError: Names no rule fits.
    """
    found: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in model.items():
        if IGNORED.match(name):
            continue
        if qkv := re.fullmatch(r"backbone\.layers\.(\d)\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            stage, block, kind = qkv.groups()
            if not tensor.dim() or len(tensor) % 3:
                raise ValueError(f"{source}: {name} has the shape {tuple(tensor.shape)}; three parts are accepted")
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[BLOCK.format(stage, block) + f"attention.self.{part}.{kind}"] = chunk
            continue
        for theirs, ours in rules:
            if match := re.fullmatch(theirs, name):
                linear = tensor.squeeze(-1) if tensor.dim() == 3 else tensor  # a 1x1 convolution is a Linear layer
                found[ours.format(*match.groups())] = linear
                break
        else:
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(f"{source}: holds tensors that {method} does not have: {', '.join(unknown[:3])}{more}")
    return found


def swin_of(tensors: Mapping[str, Tensor], preset: SwinConfig) -> SwinConfig:
    """The shape of a Swin, read off its tensors under our names; the stochastic depth is the preset's.

    Raises:
        KeyError: A tensor is missing.
        IndexError: There is no stage.
    """
    blocks = BLOCK + "attention.self.relative_position_bias_table"
    depths: list[int] = []
    while blocks.format(len(depths), 0) in tensors:
        depths.append(count(tensors, BLOCK.format(len(depths), "{}") + "attention.self.relative_position_bias_table"))
    tables = [tensors[blocks.format(stage, 0)] for stage in range(len(depths))]
    window = (math.isqrt(tables[0].shape[0]) + 1) // 2
    patches = tensors["encoder.swin.embeddings.patch_embeddings.projection.weight"]
    hidden = tensors[BLOCK.format(0, 0) + "intermediate.dense.weight"].shape[0]
    return SwinConfig(
        patches.shape[0], tuple(depths), tuple(t.shape[1] for t in tables), window, patches.shape[2],
        hidden / patches.shape[0], preset.drop_path,
    )  # fmt: skip


def bert_of(tensors: Mapping[str, Tensor], preset: BertConfig) -> BertConfig:
    """The shape of a BERT, read off its tensors under our names; heads are 64 channels wide, as in every published one.

    Raises:
        KeyError: A tensor is missing.
    """
    root = "text_encoder.model."
    vocab, width = tensors[root + "embeddings.word_embeddings.weight"].shape
    return replace(
        preset, vocab=vocab, width=width, layers=count(tensors, root + "encoder.layer.{}.output.dense.bias"),
        heads=max(1, width // 64), ffn=tensors[root + "encoder.layer.0.intermediate.dense.bias"].shape[0],
        positions=tensors[root + "embeddings.position_embeddings.weight"].shape[0],
    )  # fmt: skip


def count(tensors: Mapping[str, Tensor], name: str) -> int:
    """How many layers there are: the numbers from 0 that make `name` one of the tensors."""
    number = 0
    while name.format(number) in tensors:
        number += 1
    return number


def fusion_heads(arguments: Any, stages: int) -> tuple[int, ...]:
    """Heads of the fusion in every stage, as `--mha 1-1-1-1` gave them; they are in no tensor.

    Raises:
        ValueError: The arguments give something else.
    """
    given = str(getattr(arguments, "mha", "") or "")
    if not given:
        return (1,) * stages
    heads = given.split("-")
    if len(heads) != stages or not all(part.isdigit() and int(part) for part in heads):
        raise ValueError(f"args.mha {given!r}: {stages} numbers of heads, as in {'-'.join('1' * stages)}, are accepted")
    return tuple(int(part) for part in heads)
