"""LGFormer's published checkpoints: `model` with backbone, classifier and text encoder, and the launch arguments.

They are of the released system (`lgformer-released`), which is not quite the one that the paper prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from refseg.data.transforms import InputConfig
from refseg.methods.lgformer import LGFormer, LGFormerConfig
from refseg.presets.lgformer import presets
from refseg.weights.convert.published import (
    BERT,
    SWIN,
    Rules,
    bert_of,
    count,
    fusion_heads,
    read_checkpoint,
    reading,
    renamed,
    swin_of,
)
from refseg.weights.pretrained import find_tokenizer, load_tokenizer
from refseg.weights.store import Model, count_parameters, load_strictly, save_model

PRESET = next(preset for preset in presets() if preset.name == "lgformer-released")
_FUSION = r"backbone\.layers\.(\d)\.fusion\."
_READS = {"query.0": "query", "key": "key", "value": "word_value", "W.0": "pixel_out", "sym_value.0": "pixel_value",
          "sym_W": "word_out"}  # fmt: skip
_ENCODER = r"classifier\.pix_dec\.transformer\.encoder\."
_LAYER = {"self_attn": "deformable", "norm1": "deformable_norm", "linear1": "early_ffn.expand",
          "linear2": "early_ffn.contract", "norm2": "early_ffn.norm"}  # fmt: skip
_GENERATOR = r"classifier\.dynamic_conv_gen_body\."


def _crossed(theirs: str, ours: str, attention: str) -> list[tuple[str, str]]:
    """Attention, its norm, and the feed-forward network behind it, as both decoders have them."""
    names = {"cross_attn": attention, "norm_ca": f"{attention}_norm", r"ffn\.0": "ffn.expand",
             r"ffn\.3": "ffn.contract", "norm_ffn": "ffn.norm"}  # fmt: skip
    return [(rf"{theirs}(\d+)\.{old}\.(.+)", f"{ours}.{{}}.{new}.{{}}") for old, new in names.items()]


RULES: Rules = [
    *SWIN,
    *BERT,
    (_FUSION + r"vis_project\.0\.(.+)", "encoder.fusions.{}.pixel_branch.{}"),
    (_FUSION + r"lang_project\.0\.(.+)", "encoder.fusions.{}.word_branch.{}"),
    *((_FUSION + "image_lang_att\\." + old.replace(".", "\\.") + r"\.(.+)", f"encoder.fusions.{{}}.{new}.{{}}")
      for old, new in _READS.items()),
    *((_FUSION + rf"{old}\.{theirs}\.(.+)", f"encoder.fusions.{{}}.{new}.{ours}.{{}}")
      for old, new in (("project_mm", "pixel_fuse"), ("sym_project_mm", "word_fuse"))
      for theirs, ours in ((0, 0), (3, 2))),
    (r"backbone\.layers\.(\d)\.res_gate\.(.+)", "encoder.fusions.{}.pixel_gate.{}"),
    (r"backbone\.layers\.(\d)\.sym_res_gate\.(.+)", "encoder.fusions.{}.word_gate.{}"),
    (r"classifier\.pix_dec\.input_proj\.(.+)", "pixel_decoder.project.{}"),
    (r"classifier\.pix_dec\.transformer\.level_embed", "pixel_decoder.level_embedding"),
    (_ENCODER + r"key_embed\.weight", "pixel_decoder.word_position"),
    *((_ENCODER + rf"layers\.(\d+)\.{old}\.(.+)", f"pixel_decoder.layers.{{}}.{new}.{{}}")
      for old, new in _LAYER.items()),
    *_crossed(_ENCODER + r"cross_attn_layers\.", "pixel_decoder.layers", "l2va"),
    (r"classifier\.pix_dec\.mask_features\.(.+)", "pixel_decoder.mask_conv.{}"),
    (r"classifier\.pix_dec\.adapter_1\.(.+)", "pixel_decoder.lateral.{}"),
    (r"classifier\.pix_dec\.layer_1\.(.+)", "pixel_decoder.smooth.{}"),
    (r"classifier\.txt_proj\.(.+)", "pooled_to_query.{}"),
    (_GENERATOR + r"query_embed\.weight", "generator.query_position"),
    (_GENERATOR + r"level_embed\.weight", "generator.level_embedding"),
    *_crossed(_GENERATOR + r"layers\.", "generator.layers", "cross"),
    (r"classifier\.dynamic_conv_gen_head\.(.+)", "head.{}"),
]  # fmt: skip


def convert_lgformer(checkpoint: Path, out: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """Turns a published LGFormer checkpoint into a model folder; arguments, result and errors as `convert_lavt`.

    The size of the input is that of the launch arguments (`args.img_size`), else 480.

    Raises:
        ValueError: The file is no such checkpoint; the message names what does not fit.
    """
    model, arguments = read_checkpoint(checkpoint, "LGFormer")
    with reading(checkpoint, "LGFormer"):
        tensors = renamed(model, RULES, str(checkpoint), "LGFormer")
        config, size = _config(tensors, arguments), _input(arguments)
        network = LGFormer(config)
        load_strictly(network, tensors, str(checkpoint))
    assert PRESET.encoders is not None
    words = load_tokenizer(find_tokenizer(PRESET.encoders.bert, tokenizer))
    training = {"source": f"converted from {checkpoint.name}", "loss": ["pixel_text"]}
    save_model(Model(out.name, "lgformer", network, size, words, training), out)
    return {"parameters": count_parameters(network), "depths": config.swin.depths, "fusion_heads": config.fusion_heads}


def _config(tensors: Mapping[str, Tensor], arguments: Any) -> LGFormerConfig:
    """The shape of the network, read off its tensors; heads and points of the decoders are the preset's."""
    preset = PRESET.model
    swin, bert = swin_of(tensors, preset.swin), bert_of(tensors, preset.bert)
    layer = "pixel_decoder.layers.0."
    decoder = replace(
        preset.pixel_decoder, width=tensors["pixel_decoder.mask_conv.weight"].shape[0],
        layers=count(tensors, "pixel_decoder.layers.{}.deformable_norm.weight"),
        ffn=tensors[layer + "early_ffn.expand.weight"].shape[0],
        l2va_ffn_width=tensors[layer + "ffn.expand.weight"].shape[0],
        max_tokens=tensors["pixel_decoder.word_position"].shape[0],
    )  # fmt: skip
    generator = replace(
        preset.generator, layers=count(tensors, "generator.layers.{}.cross_norm.weight"),
        ffn=tensors["generator.layers.0.ffn.expand.weight"].shape[0],
    )  # fmt: skip
    return replace(
        preset, swin=swin, bert=bert, pixel_decoder=decoder, generator=generator,
        num_queries=tensors["generator.query_position"].shape[0],
        fusion_heads=fusion_heads(arguments, len(swin.depths)),
    )  # fmt: skip


def _input(arguments: Any) -> InputConfig:
    side = getattr(arguments, "img_size", PRESET.input.size[0])
    if type(side) is not int or side < 32:
        raise ValueError(f"args.img_size {side!r}: a number of pixels from 32 is accepted")
    return replace(PRESET.input, size=(side, side))
