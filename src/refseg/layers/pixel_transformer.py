"""Transformer decoder in which pixels read words or queries made of words (CRIS sec. 3.3, EAVL, CRFormer eq. 10-11).

T expressions, P pixels, K keys (words or queries), D width.
"""

from __future__ import annotations

from torch import Tensor, nn


class PixelTransformerLayer(nn.Module):
    """Attention among the pixels, attention to the keys, feed-forward network; all residual and pre-norm.

    Positions are added to what is compared, never to what is read.

    Args:
        dim: Width D of pixels and keys.
        heads: Attention heads.
        ffn: Hidden width of the feed-forward network.
        dropout: Dropout of the attention weights, of the hidden layer and of every residual.
        extra_norms: Whether a LayerNorm also follows each attention and the hidden layer, as in CRIS.
    """

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float, extra_norms: bool) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.ffn_norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attend_self = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.attend_keys = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.after_self: nn.Module = nn.LayerNorm(dim) if extra_norms else nn.Identity()
        self.after_cross: nn.Module = nn.LayerNorm(dim) if extra_norms else nn.Identity()
        inside = [nn.LayerNorm(ffn)] if extra_norms else []
        self.ffn = nn.Sequential(nn.Linear(dim, ffn), nn.ReLU(), nn.Dropout(dropout), *inside, nn.Linear(ffn, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, pixels: Tensor, pixel_position: Tensor, keys: Tensor, key_position: Tensor, padding: Tensor | None
    ) -> Tensor:
        """Lets the pixels read the keys.

        Args:
            pixels: (T, P, D).
            pixel_position: (P, D).
            keys: (T, K, D).
            key_position: (K, D).
            padding: (T, K) bool, True on keys that nobody may read; None if all are real.

        Returns:
            (T, P, D).
        """
        x = self.self_norm(pixels)
        at = x + pixel_position
        pixels = pixels + self.dropout(self.after_self(self.attend_self(at, at, x, need_weights=False)[0]))
        at = self.cross_norm(pixels) + pixel_position
        read = self.attend_keys(at, keys + key_position, keys, key_padding_mask=padding, need_weights=False)[0]
        pixels = pixels + self.dropout(self.after_cross(read))
        return pixels + self.dropout(self.ffn(self.ffn_norm(pixels)))


class PixelTransformer(nn.Module):
    """Several layers that read the same keys, and a LayerNorm behind them; the arguments are the layer's."""

    def __init__(self, layers: int, dim: int, heads: int, ffn: int, dropout: float, extra_norms: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PixelTransformerLayer(dim, heads, ffn, dropout, extra_norms) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, pixels: Tensor, pixel_position: Tensor, keys: Tensor, key_position: Tensor, padding: Tensor | None
    ) -> Tensor:
        """(T, P, D) pixels to the same shape; see `PixelTransformerLayer.forward`."""
        for layer in self.layers:
            pixels = layer(pixels, pixel_position, keys, key_position, padding)
        return self.norm(pixels)
