"""Checkpoints of published code to models of this package. Only tensors are read; nothing in a file is executed."""

from __future__ import annotations

import argparse
import math
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refseg.encoders.swin import SwinConfig
from refseg.methods.lavt import LAVT
from refseg.presets.lavt import PAPER as PRESET
from refseg.weights.pretrained import find_tokenizer, load_tokenizer
from refseg.weights.store import Model, count_parameters, load_strictly, save_model

# Names of the released LAVT on the left, ours on the right; `{}` stands for what the left side captured.
_SWIN = [
    (r"backbone\.patch_embed\.proj\.(.+)", "encoder.swin.embeddings.patch_embeddings.projection.{}"),
    (r"backbone\.patch_embed\.norm\.(.+)", "encoder.swin.embeddings.norm.{}"),
    (r"backbone\.norm(\d)\.(.+)", "encoder.norms.{}.{}"),
    (r"backbone\.layers\.(\d)\.downsample\.(.+)", "encoder.swin.encoder.layers.{}.downsample.{}"),
    (r"backbone\.layers\.(\d)\.res_gate\.(.+)", "encoder.fusions.{}.gate.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.image_lang_att\.f_(query|key|value)\.0\.(.+)", "encoder.fusions.{}.{}.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.image_lang_att\.W\.0\.(.+)", "encoder.fusions.{}.out.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.vis_project\.0\.(.+)", "encoder.fusions.{}.pixel_branch.{}"),
    (r"backbone\.layers\.(\d)\.fusion\.project_mm\.0\.(.+)", "encoder.fusions.{}.fuse.{}"),
]
_BLOCK = "encoder.swin.encoder.layers.{}.blocks.{}."
_BLOCKS = [
    (r"norm1\.(.+)", "layernorm_before.{}"),
    (r"norm2\.(.+)", "layernorm_after.{}"),
    (r"mlp\.fc1\.(.+)", "intermediate.dense.{}"),
    (r"mlp\.fc2\.(.+)", "output.dense.{}"),
    (r"attn\.proj\.(.+)", "attention.output.dense.{}"),
    (r"attn\.(relative_position_bias_table)", "attention.self.{}"),
]
_RULES = _SWIN + [(rf"backbone\.layers\.(\d)\.blocks\.(\d+)\.{theirs}", _BLOCK + ours) for theirs, ours in _BLOCKS]
_IGNORED = re.compile(r".*relative_position_index$|.*attn_mask$|text_encoder\.pooler\..*|.*position_ids$")


def convert_lavt(checkpoint: Path, out: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """Turns a published LAVT checkpoint into a model folder.

    Both published layouts are read: `model` beside `bert_model`, and one model with the text encoder inside. `args`,
    the optimiser, `module.` prefixes and BERT's old `position_ids` may be there.

    Args:
        checkpoint: The `.pth` file.
        out: Folder of the new model.
        tokenizer: Folder that holds BERT's tokenizer as `bert-base-uncased`; without it, the Hugging Face hub is asked.

    Returns:
        What was found: `parameters`, `stages`, `heads` of the fusion.

    Raises:
        ValueError: The file is no such checkpoint; the message names what does not fit.
    """
    model, arguments = _read(checkpoint)
    tensors = _rename(model, str(checkpoint))
    try:
        config = _config(tensors, arguments)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{checkpoint}: not a LAVT checkpoint ({error})") from error
    if PRESET.encoders is None:
        raise AssertionError("the LAVT preset names its encoders")
    words = load_tokenizer(find_tokenizer(PRESET.encoders.bert, tokenizer))
    network = LAVT(config)
    load_strictly(network, tensors, str(checkpoint))
    training = {"source": f"converted from {checkpoint.name}", "loss": ["cross_entropy"]}
    save_model(Model(out.name, "lavt", network, PRESET.input, words, training), out)
    return {"parameters": count_parameters(network), "depths": config.swin.depths, "fusion_heads": config.fusion_heads}


def _read(checkpoint: Path) -> tuple[dict[str, Tensor], Any]:
    """All tensors of the model under one roof, and the launch arguments if they are there."""
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such file; a .pth checkpoint of LAVT is accepted")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none or wants more than tensors
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it wants {wanted.group(1)}, which is not executed" if wanted else "PyTorch cannot read it as tensors"
        raise ValueError(f"{checkpoint}: not a checkpoint of tensors alone: {reason}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(f"{checkpoint}: holds no 'model'; a .pth checkpoint of LAVT is accepted")
    bert = content.get("bert_model") or {}
    model = {k.removeprefix("module."): v for k, v in content["model"].items()}
    model |= {"text_encoder." + k.removeprefix("module."): v for k, v in bert.items()}
    return model, content.get("args")


def _rename(model: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Every tensor under our name; unknown names stop the conversion."""
    found: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in model.items():
        if _IGNORED.match(name):
            continue
        if qkv := re.fullmatch(r"backbone\.layers\.(\d)\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            stage, block, kind = qkv.groups()
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[_BLOCK.format(stage, block) + f"attention.self.{part}.{kind}"] = chunk
        elif level := re.fullmatch(r"classifier\.(conv|bn)(1|2)_(4|3|2)\.(.+)", name):
            part, number, depth, kind = level.groups()
            at = 3 * (int(number) - 1) + (part == "bn")
            found[f"decoder.levels.{4 - int(depth)}.{at}.{kind}"] = tensor
        elif name.startswith("classifier.conv1_1."):
            found["decoder.classify." + name.removeprefix("classifier.conv1_1.")] = tensor
        elif name.startswith("text_encoder."):
            found["text_encoder.model." + name.removeprefix("text_encoder.")] = tensor
        else:
            for theirs, ours in _RULES:
                if match := re.fullmatch(theirs, name):
                    linear = tensor.squeeze(-1) if tensor.dim() == 3 else tensor  # a 1x1 convolution is a Linear layer
                    found[ours.format(*match.groups())] = linear
                    break
            else:
                unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(f"{source}: holds tensors that LAVT does not have: {', '.join(unknown[:3])}{more}")
    for name in [name for name in found if name.endswith("running_mean")]:  # left out by some exports
        found.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return found


def _config(tensors: dict[str, Tensor], arguments: Any) -> Any:
    """The shape of the network, read off its tensors; the heads of the fusion are only in the launch arguments."""
    blocks = "encoder.swin.encoder.layers.{}.blocks.{}.attention.self.relative_position_bias_table"
    depths: list[int] = []
    while blocks.format(len(depths), 0) in tensors:
        depth = 0
        while blocks.format(len(depths), depth) in tensors:
            depth += 1
        depths.append(depth)
    tables = [tensors[blocks.format(stage, 0)] for stage in range(len(depths))]
    window = (math.isqrt(tables[0].shape[0]) + 1) // 2
    patches = tensors["encoder.swin.embeddings.patch_embeddings.projection.weight"]
    hidden = tensors[_BLOCK.format(0, 0) + "intermediate.dense.weight"].shape[0]
    swin = SwinConfig(
        patches.shape[0], tuple(depths), tuple(t.shape[1] for t in tables), window, patches.shape[2],
        hidden / patches.shape[0], PRESET.model.swin.drop_path,
    )  # fmt: skip
    bert = "text_encoder.model."
    vocab, width = tensors[bert + "embeddings.word_embeddings.weight"].shape
    layers = len([k for k in tensors if re.fullmatch(re.escape(bert) + r"encoder\.layer\.\d+\.output\.dense\.bias", k)])
    text = replace(
        PRESET.model.bert, vocab=vocab, width=width, layers=layers, heads=max(1, width // 64),
        ffn=tensors[bert + "encoder.layer.0.intermediate.dense.bias"].shape[0],
        positions=tensors[bert + "embeddings.position_embeddings.weight"].shape[0],
    )  # fmt: skip
    given = str(getattr(arguments, "mha", "") or "")
    heads = tuple(int(part) for part in given.split("-")) if given else (1,) * len(depths)
    return replace(PRESET.model, swin=swin, bert=text, fusion_heads=heads)
