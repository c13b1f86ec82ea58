"""Names of CLIP's tensors in published checkpoints: OpenAI's layout, which OpenCLIP kept, and that of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

Tower = Literal["text", "image"]

OPENAI: dict[Tower, tuple[str, ...]] = {
    "text": ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection"),
    "image": ("visual.",),
}
TRANSFORMERS: dict[Tower, tuple[str, ...]] = {
    "text": ("text_model.", "text_projection."),
    "image": ("vision_model.", "visual_projection."),
}
# What belongs to no tower: the temperature of CLIP's loss, and numbers that OpenAI stored with the weights.
ASIDE = ("logit_scale", "input_resolution", "context_length", "vocab_size")
# Numbers of the positions, which older versions of transformers stored.
ASIDE_TRANSFORMERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")

_NAMES: dict[Tower, dict[str, str]] = {
    "text": {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
        "text_projection": "text_projection.weight",
    },
    "image": {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "ln_pre.weight": "vision_model.pre_layrnorm.weight",  # transformers' spelling
        "ln_pre.bias": "vision_model.pre_layrnorm.bias",
        "ln_post.weight": "vision_model.post_layernorm.weight",
        "ln_post.bias": "vision_model.post_layernorm.bias",
        "proj": "visual_projection.weight",
    },
}
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def tower_tensors(tensors: Mapping[str, Tensor], tower: Tower, source: str) -> tuple[dict[str, Tensor], bool]:
    """Takes one tower out of a CLIP.

    Args:
        tensors: All of a checkpoint, by name.
        tower: Which one.
        source: Where it is from, for the message.

    Returns:
        Everything but the other tower and what belongs to none, without `visual.`; tensors that nobody knows are among
        it. And whether the layout is OpenAI's.

    Raises:
        ValueError: The tower is not there.
    """
    openai = not any(k.startswith(("text_model.", "vision_model.")) for k in tensors)
    layout = OPENAI if openai else TRANSFORMERS
    if not any(k.startswith(layout[tower]) for k in tensors):
        first = ", ".join(list(tensors)[:3])
        raise ValueError(
            f"{source}: holds no {tower} tower of CLIP (its first tensors are {first}); accepted are the names of "
            f"OpenAI ({OPENAI[tower][0]}*) and of transformers ({TRANSFORMERS[tower][0]}*)"
        )
    aside = ASIDE if openai else ASIDE + ASIDE_TRANSFORMERS
    other = layout["image" if tower == "text" else "text"]
    kept = {k: v for k, v in tensors.items() if not k.startswith(other) and k not in aside}
    return {k.removeprefix("visual."): v for k, v in kept.items()}, openai


def transformers_names(tensors: Mapping[str, Tensor], tower: Tower) -> dict[str, Tensor]:
    """Brings a tower from OpenAI's layout into transformers'; what has no name there keeps its own."""
    names, root = _NAMES[tower], "text_model" if tower == "text" else "vision_model"
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", key)
        layer = f"{root}.encoder.layers.{block[1]}" if block else ""
        if block and block[2] == "attn.in_proj" and value.dim():
            # Queries, keys and values lie on top of each other. A misshapen tensor gives misshapen or missing parts.
            parts = zip("qkv", value.chunk(3), strict=False)
            renamed |= {f"{layer}.self_attn.{part}_proj.{block[3]}": x for part, x in parts}
        elif block and block[2] in _BLOCK_NAMES:
            renamed[f"{layer}.{_BLOCK_NAMES[block[2]]}.{block[3]}"] = value
        elif key in ("text_projection", "proj"):  # a matrix to multiply with from the right, not a layer's weight
            renamed[names.get(key, key)] = value.transpose(0, -1)
        else:
            renamed[names.get(key, key)] = value
    return renamed
