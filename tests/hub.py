"""Tiny models of every family of `refseg.hub_models` with random weights, saved as their repositories are."""

from __future__ import annotations

import json
import string
from functools import cache
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.processors import RobertaProcessing

WORDS = ("red", "circle", "square", "the", "left", "on", "a", "man", "in", "black")
DETR = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "num_queries": 6,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_feature_levels": 2,
        "encoder_n_points": 2, "decoder_n_points": 2}  # fmt: skip


def write_clip_words(folder: Path) -> int:
    """CLIP's two files over the letters, and what makes its tokenizer of them; how many pieces there are."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer", "model_max_length": 16}')
    return len(pieces)


def write_bert_words(folder: Path) -> int:
    """BERT's vocabulary of a few words and all letters; how many pieces there are."""
    letters = string.ascii_lowercase + ".,"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *WORDS]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return len(dict.fromkeys(pieces))


def write_florence_words(folder: Path) -> dict[str, int]:
    """Byte pairs of single bytes with Florence-2's special tokens, a thousand places among them; all ids."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>", "<poly>", "</poly>", "<sep>", "<and>",
               *(f"<loc_{place}>" for place in range(1000))]  # fmt: skip
    ids = {piece: i for i, piece in enumerate([*special[:5], *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    inner = Inner(models.BPE(vocab=ids, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    words = hf.PreTrainedTokenizerFast(tokenizer_object=inner, **names, extra_special_tokens={"image_token": "<image>"})
    words.add_tokens(special, special_tokens=True)
    words.save_pretrained(folder)
    return words.get_vocab()


def make_clipseg(folder: Path) -> None:
    """CLIPSeg for pictures of 32 x 32."""
    vocab = write_clip_words(folder)
    text = {"vocab_size": vocab, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 16, "eos_token_id": vocab - 1}  # fmt: skip
    vision = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    config = hf.CLIPSegConfig(
        text_config=text, vision_config=vision, projection_dim=16, extract_layers=[0, 1, 2], reduce_dim=8,
        decoder_num_attention_heads=2, decoder_intermediate_size=16, conditional_layer=0,
    )  # fmt: skip
    hf.CLIPSegForImageSegmentation(config).save_pretrained(folder)
    hf.ViTImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)


def make_florence(folder: Path) -> None:
    """Florence-2 for pictures of 32 x 32."""
    ids = write_florence_words(folder)
    text = {"model_type": "bart", "vocab_size": len(ids), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
            "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
            "decoder_start_token_id": 2, "forced_eos_token_id": 2}  # fmt: skip
    vision = {"depths": [1, 1, 1, 1], "embed_dim": [8, 8, 8, 16], "num_heads": [1, 1, 1, 2], "num_groups": [1, 1, 1, 2],
              "window_size": 2, "projection_dim": 16}  # fmt: skip
    config = hf.Florence2Config(text_config=text, vision_config=vision, image_token_id=ids["<image>"])
    network = hf.Florence2ForConditionalGeneration(config)
    network.save_pretrained(folder)
    images = hf.CLIPImageProcessorPil(size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32})
    images.image_seq_length = 2  # the map of a picture of 32 x 32 has one place, and its mean is another
    images.save_pretrained(folder)


def make_grounding_dino(folder: Path, kind: str = "GroundingDino") -> None:
    """Grounding DINO, or MM Grounding DINO, with six candidates."""
    vocab = write_bert_words(folder)
    backbone = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 1, 1], "window_size": 4,
                "image_size": 32, "out_features": ["stage2", "stage3"]}  # fmt: skip
    text = {"model_type": "bert", "vocab_size": vocab, "hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}  # fmt: skip
    config = getattr(hf, f"{kind}Config")(backbone_config=backbone, text_config=text, **DETR)
    getattr(hf, f"{kind}ForObjectDetection")(config).save_pretrained(folder)
    size = {"shortest_edge": 32, "longest_edge": 48}
    hf.GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)


def make_owlv2(folder: Path) -> None:
    """OWLv2 for squares of 32 x 32, with 16 candidates."""
    vocab = write_clip_words(folder)
    text = {"vocab_size": vocab, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 16}  # fmt: skip
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    config = hf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
    hf.Owlv2ForObjectDetection(config).save_pretrained(folder)
    hf.Owlv2ImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def make_sam(folder: Path) -> None:
    """SAM for squares of 64 x 64."""
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
              "patch_size": 16, "output_channels": 16, "mlp_dim": 16, "num_pos_feats": 8, "window_size": 2,
              "global_attn_indexes": [0]}  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "image_embedding_size": 4,
              "mask_input_channels": 4}  # fmt: skip
    decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
               "iou_head_hidden_dim": 16, "iou_head_depth": 2}  # fmt: skip
    config = hf.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    hf.SamModel(config).save_pretrained(folder)
    hf.SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, mask_size={"longest_edge": 16},
        mask_pad_size={"height": 16, "width": 16},
    ).save_pretrained(folder)  # fmt: skip


def make_sam2(folder: Path) -> None:
    """SAM 2 for squares of 64 x 64."""
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
                "image_size": [64, 64],
                "blocks_per_stage": [1, 1, 1, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [2, 2, 2, 2],
                "global_attention_blocks": [], "window_positional_embedding_background_size": [2, 2]}  # fmt: skip
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
              "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "num_feature_levels": 3}  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
               "iou_head_hidden_dim": 16, "iou_head_depth": 2}  # fmt: skip
    config = hf.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    hf.Sam2Model(config).save_pretrained(folder)


def make_sam3(folder: Path) -> None:
    """SAM 3 for squares of 56 x 56."""
    vocab = write_clip_words(folder)
    small = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    backbone = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2,
                "pretrain_image_size": 28, "global_attn_indexes": [0]}  # fmt: skip
    text = {"vocab_size": vocab, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 16, "projection_dim": 32}  # fmt: skip
    vision = {"backbone_config": backbone, "fpn_hidden_size": 32, "scale_factors": [4.0, 2.0, 1.0, 0.5],
              "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}  # fmt: skip
    mask = {"hidden_size": 32, "num_attention_heads": 2}
    config = hf.Sam3Config(
        vision_config=vision, text_config=text, geometry_encoder_config=small, detr_encoder_config=small,
        detr_decoder_config=small | {"num_queries": 6}, mask_decoder_config=mask,
    )  # fmt: skip
    hf.Sam3Model(config).save_pretrained(folder)


MAKERS = {
    "clipseg": make_clipseg,
    "florence-2": make_florence,
    "grounding-dino": make_grounding_dino,
    "mm-grounding-dino": lambda folder: make_grounding_dino(folder, "MMGroundingDino"),
    "owlv2": make_owlv2,
    "sam": make_sam,
    "sam2": make_sam2,
    "sam3": make_sam3,
}


@cache
def _root() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="refseg-hub-"))


@cache
def tiny_hub(name: str) -> Path:
    """The folder of a tiny model, made once."""
    folder = _root() / name
    folder.mkdir()
    torch.manual_seed(0)
    MAKERS[name](folder)
    return folder
