"""torch's multi-head attention when it only answers.

T expressions, X queries, K keys, N heads, E width, D = E / N channels of a head, C channels of the keys.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from refseg.fast.choice import Precision
from refseg.fast.linear import linear_of, pays, ready_linear


class ReadyAttention(nn.Module):
    """`nn.MultiheadAttention` in the order of products that needs the fewest; all orders give the same.

    Keys and values of many pixels are never projected for a few queries: a query goes through the keys' projection
    backwards, and what it gathered goes through the values'. Nor are many pixels projected to ask a few words. Whoever
    wants the weights gets the module's own answer.
    """

    def __init__(self, attention: nn.MultiheadAttention, precision: Precision) -> None:
        super().__init__()
        self.plain, self.heads = attention, attention.num_heads
        self.width = attention.embed_dim
        if attention.in_proj_weight is None:
            weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        else:
            weights = list(attention.in_proj_weight.detach().chunk(3))
        biases = attention.in_proj_bias.detach().chunk(3)
        self.query, self.key, self.value = (
            ready_linear(linear_of(weight, bias), precision) for weight, bias in zip(weights, biases, strict=True)
        )
        out = attention.out_proj
        self.out = ready_linear(linear_of(out.weight, out.bias), precision)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """(T, X, E) queries read (T, K, C) keys and values; `key_padding_mask` (T, K) is True on keys to leave out."""
        if need_weights:
            return self.plain(query, key, value, key_padding_mask=key_padding_mask)
        few = self.width // (2 * self.heads)
        if query.shape[1] <= few:
            return self._few_queries(query, key, value, key_padding_mask), None
        if key.shape[1] <= few:
            return self._few_keys(query, key, value, key_padding_mask), None
        q, k, v = self._by_head(self.query(query)), self._by_head(self.key(key)), self._by_head(self.value(value))
        seen = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)  # (T, N, X, D)
        return self.out(read.transpose(1, 2).flatten(2)), None

    def _few_queries(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """A bias of the keys would add the same to all scores of a query, and falls out."""
        q = self._by_head(self.query(query)) * self._scale  # (T, N, X, D)
        asked = (q @ self.key.weight.unflatten(0, (self.heads, -1))).flatten(1, 2)  # (T, N * X, C)
        attention = _softmax(asked @ key.transpose(1, 2), padding)  # (T, N * X, K)
        gathered = (attention @ value).unflatten(1, (self.heads, -1))  # (T, N, X, C)
        read = gathered @ self.value.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)  # (T, N, X, D)
        return self.out(read.transpose(1, 2).flatten(2) + self.value.bias)

    def _few_keys(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """The bias of the values goes through the last projection alone, as attention adds up to 1."""
        k = self._by_head(F.linear(key, self.key.weight)) * self._scale  # (T, N, K, D)
        asked = k @ self.query.weight.unflatten(0, (self.heads, -1))  # (T, N, K, E)
        scores = (query @ asked.flatten(1, 2).transpose(1, 2)).unflatten(2, (self.heads, -1))
        if self.query.bias is not None:
            scores = scores + (k * self.query.bias.view(self.heads, 1, -1)).sum(-1)[:, None]  # (T, 1, N, K)
        attention = _softmax(scores, None if padding is None else padding[:, None]).flatten(2)  # (T, X, N * K)
        v = self._by_head(F.linear(value, self.value.weight))  # (T, N, K, D)
        told = v @ self.out.weight.unflatten(1, (self.heads, -1)).permute(1, 2, 0)  # (T, N, K, E)
        return attention @ told.flatten(1, 2) + self.out(self.value.bias)

    @property
    def _scale(self) -> float:
        return (self.width // self.heads) ** -0.5

    def _by_head(self, x: Tensor) -> Tensor:
        """(T, X, E) to (T, N, X, D)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _softmax(scores: Tensor, padding: Tensor | None) -> Tensor:
    """Over the last axis, K, of (T, ..., K) scores; `padding` (T, 1, K) or (T, K) is True on keys to leave out."""
    if padding is None:
        return scores.softmax(-1)
    return scores.masked_fill(padding.unsqueeze(1), float("-inf")).softmax(-1)


def ready_attention(attention: nn.MultiheadAttention, precision: Precision) -> nn.Module:
    """The fast form of one of the kind that is used here: large, batches first, biases, no rows added to keys."""
    plain = attention.bias_k is None and not attention.add_zero_attn and attention.in_proj_bias is not None
    ready = plain and attention.batch_first and pays(attention.out_proj)
    return ReadyAttention(attention, precision) if ready else attention
