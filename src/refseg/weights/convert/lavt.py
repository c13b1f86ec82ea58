"""LAVT's published checkpoints: `model` beside `bert_model`, or one model with the text encoder inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refseg.methods.lavt import LAVT, LAVTConfig
from refseg.presets.lavt import PAPER as PRESET
from refseg.weights.convert.published import (
    BERT,
    SWIN,
    Rules,
    bert_of,
    fusion_heads,
    read_checkpoint,
    reading,
    renamed,
    swin_of,
)
from refseg.weights.pretrained import find_tokenizer, load_tokenizer
from refseg.weights.store import Model, count_parameters, load_strictly, save_model

RULES: Rules = [
    *SWIN,
    *BERT,
    (r"backbone\.layers\.(\d)\.res_gate\.(.+)", "encoder.fusions.{}.gate.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.image_lang_att\.f_(query|key|value)\.0\.(.+)", "encoder.fusions.{}.{}.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.image_lang_att\.W\.0\.(.+)", "encoder.fusions.{}.out.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.vis_project\.0\.(.+)", "encoder.fusions.{}.pixel_branch.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.project_mm\.0\.(.+)", "encoder.fusions.{}.fuse.{}"),
    # Two convolutions with batch norms on each of three levels, which count down from 4.
    *(
        (rf"classifier\.{part}{number}_{level}\.(.+)", f"decoder.levels.{4 - level}.{3 * (number - 1) + at}.{{}}")
        for level in (4, 3, 2) for number in (1, 2) for at, part in enumerate(("conv", "bn"))
    ),
    (r"classifier\.conv1_1\.(.+)", "decoder.classify.{}"),
]  # fmt: skip


def convert_lavt(checkpoint: Path, out: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """Turns a published LAVT checkpoint into a model folder.

    Both published layouts are read. `args`, the optimiser, `module.` prefixes and BERT's old `position_ids` may be
    there.

    Args:
        checkpoint: The `.pth` file.
        out: Folder of the new model.
        tokenizer: Folder that holds BERT's tokenizer as `bert-base-uncased`; without it, the Hugging Face hub is asked.

    Returns:
        What was found: `parameters`, `depths` of the Swin, `fusion_heads`.

    Raises:
        ValueError: The file is no such checkpoint; the message names what does not fit.
    """
    model, arguments = read_checkpoint(checkpoint, "LAVT")
    with reading(checkpoint, "LAVT"):
        tensors = renamed(model, RULES, str(checkpoint), "LAVT")
        for name in [name for name in tensors if name.endswith("running_mean")]:  # left out by some exports
            tensors.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
        config = _config(tensors, arguments)
        network = LAVT(config)
        load_strictly(network, tensors, str(checkpoint))
    assert PRESET.encoders is not None
    words = load_tokenizer(find_tokenizer(PRESET.encoders.bert, tokenizer))
    training = {"source": f"converted from {checkpoint.name}", "loss": ["cross_entropy"]}
    save_model(Model(out.name, "lavt", network, PRESET.input, words, training), out)
    return {"parameters": count_parameters(network), "depths": config.swin.depths, "fusion_heads": config.fusion_heads}


def _config(tensors: Mapping[str, Tensor], arguments: Any) -> LAVTConfig:
    """The shape of the network, read off its tensors."""
    swin, bert = swin_of(tensors, PRESET.model.swin), bert_of(tensors, PRESET.model.bert)
    return replace(PRESET.model, swin=swin, bert=bert, fusion_heads=fusion_heads(arguments, len(swin.depths)))
