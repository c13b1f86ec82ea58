"""The names of CRFormer's released code, as rules for `refseg.weights.convert.published.renamed`.

No weights of CRFormer are published, so there is no converter; the recorded numbers of the released system have them.
"""

from __future__ import annotations

import re

from refseg.weights.convert.lavt import RULES as LAVT
from refseg.weights.convert.published import BERT, SWIN

_NECK = {
    "f1_v_proj": "first5", "f2_v_proj": "first4", "f3_v_proj": "first3", "state_proj": "gate",
    r"norm_layer\.0": "gated.0", "f2_cat": "join4", "f3_cat": "join3", "f4_proj5": "last5", "f4_proj4": "last4",
    "f4_proj3": "last3", "aggr": "join", r"coordconv\.0\.conv1": "place.0", r"coordconv\.1": "place.1",
}  # fmt: skip
_LAYER = {
    "self_attn": "attend_self", "multihead_attn": "attend_keys", "norm1": "self_norm", "norm2": "cross_norm",
    "norm3": "ffn_norm", "self_attn_norm": "after_self", "cross_attn_norm": "after_cross", "ffn": "ffn",
}  # fmt: skip
_RECON = {"state_proj": "sentence_in", r"Wp\.0": "project", r"Wr\.0": "rebuild.0", r"Wr\.2": "rebuild.2"}
UNREAD = re.compile(
    r"backbone\.norm0\..*|classifier\.(balance|conv1_1)\..*|classifier\.query_gen\d\.(fvq|global)_proj1\..*|"
    r"classifier\.reconlanguegae\.multihead_attn\..*|"
    r"classifier\.query_gen\d\.query_attention\.(query_proj|key_proj|value_proj|W)\.0\.bias"
)


def _generation(theirs: str, ours: str) -> list[tuple[str, str]]:
    reads = {r"query_proj\.0": "query", r"key_proj\.0": "key", r"value_proj\.0": "value", r"W\.0": "out"}
    found = [(rf"classifier\.{theirs}\.query_attention\.{a}\.(.+)", f"{ours}.{b}.{{}}") for a, b in reads.items()]
    return [*found, (rf"classifier\.{theirs}\.text_proj1\.0\.(.+)", f"{ours}.word_in.{{}}")]


RULES = [
    *((rf"backbone\.norm{i}\.(.+)", f"encoder.norms.{i - 1}.{{}}") for i in (1, 2, 3)),
    *((theirs, ours) for theirs, ours in SWIN if "norm(" not in theirs or "blocks" in theirs),
    *((theirs, ours) for theirs, ours in LAVT if "fusion" in theirs or "res_gate" in theirs),
    (r"text_encoder\.pooler\.dense\.(.+)", "pooler.dense.{}"),
    *BERT,
    *((rf"classifier\.query_neck\.{a}\.(.+)", f"neck.{b}.{{}}") for a, b in _NECK.items()),
    (r"classifier\.query_neck\.fvq_proj\.(.+)", "generate.draw.{}"),
    *_generation("query_gen1", "generate"),
    *(rule for n in (2, 3, 4) for rule in _generation(f"query_gen{n}", f"calibrate.{n - 2}")),
    *((rf"classifier\.fvq_proj{n}\.(.+)", f"calibrate.{n - 2}.draw.{{}}") for n in (2, 3, 4)),
    *((rf"classifier\.decoder{n}\.layers\.(\d)\.{a}\.(.+)", f"blocks.{n - 1}.{{}}.{b}.{{}}")
      for n in (1, 2, 3) for a, b in _LAYER.items()),
    *((rf"classifier\.decoder{n}\.norm\.(.+)", f"block_norms.{n - 1}.{{}}") for n in (1, 2, 3)),
    (r"classifier\.mask_proj\.vis\.(.+)", "upsampler.{}"),
    (r"classifier\.mask_proj\.txt\.(.+)", "kernel.{}"),
    *((rf"classifier\.reconlanguegae\.{a}\.(.+)", f"recon.{b}.{{}}") for a, b in _RECON.items()),
]  # fmt: skip
