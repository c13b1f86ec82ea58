"""torch's multi-head attention when it only answers.

T expressions, X queries, K keys, E width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from refseg.fast.choice import Precision
from refseg.fast.linear import ready_linear


class ReadyAttention(nn.Module):
    """`nn.MultiheadAttention` with its four projections in another form; whoever asks for the weights gets its own."""

    def __init__(self, attention: nn.MultiheadAttention, precision: Precision) -> None:
        super().__init__()
        self.plain, self.heads = attention, attention.num_heads
        if attention.in_proj_weight is None:
            weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        else:
            weights = list(attention.in_proj_weight.detach().chunk(3))
        biases = attention.in_proj_bias.detach().chunk(3)
        self.query, self.key, self.value = (
            ready_linear(_linear(weight.detach(), bias), precision)
            for weight, bias in zip(weights, biases, strict=True)
        )
        out = attention.out_proj
        self.out = ready_linear(_linear(out.weight.detach(), out.bias.detach()), precision)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """(T, X, E) queries read (T, K, .) keys and values; `key_padding_mask` (T, K) is True on keys to leave out."""
        if need_weights:
            return self.plain(query, key, value, key_padding_mask=key_padding_mask)
        made = zip((self.query, self.key, self.value), (query, key, value), strict=True)
        q, k, v = (project(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for project, x in made)
        seen = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)  # (T, N, X, E / N)
        return self.out(read.transpose(1, 2).flatten(2)), None


def can_be_ready(attention: nn.MultiheadAttention) -> bool:
    """Whether it is of the kind that is used here: batches first, biases, no rows added to keys."""
    plain = attention.bias_k is None and not attention.add_zero_attn and attention.in_proj_bias is not None
    return plain and attention.batch_first


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight, made.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return made
