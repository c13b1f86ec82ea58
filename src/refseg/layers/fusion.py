"""Fusion of words and pixels inside the image encoder.

T expressions, P pixels of one stage, L words, C visual channels, D word channels. Every fusion module is called as
`module(pixels, words, mask, details) -> Fused`. The papers write the projections as 1x1 convolutions; they are Linear
layers here, which is the same thing on (T, P, C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.precision import at_least_float32

MASKED = -1e4


@dataclass(frozen=True)
class Fused:
    """What one fusion module returns.

    Attributes:
        pixels: (T, P, C) V', what the next stage reads.
        words: (T, L, D) L', what the next fusion module reads; zero on padding.
        pixel_residual: (T, P, C) V_m before its gate; VLF's F_v.
        word_residual: (T, L, D) L_m before its gate; the words themselves where the module leaves them alone.
        attention: (T, P, L) how much of what each pixel read is each word, on request; the mean over the heads.
    """

    pixels: Tensor
    words: Tensor
    pixel_residual: Tensor
    word_residual: Tensor
    attention: Tensor | None = None


def instance_norm(x: Tensor) -> Tensor:
    """Normalises each channel of (T, P, C) over the pixels; no parameters, no running statistics, eps 1e-5."""
    exact = at_least_float32(x)
    variance, mean = torch.var_mean(exact, dim=1, correction=0, keepdim=True)
    return ((exact - mean) * torch.rsqrt(variance + 1e-5)).to(x.dtype)


def centred(x: Tensor) -> Tensor:
    """(T, P, C) without each channel's mean over the pixels."""
    exact = at_least_float32(x)
    return (exact - exact.mean(1, keepdim=True)).to(x.dtype)


class NormedProjection:
    """`instance_norm(x W)`, the projection of every pixel normalised over the pixels, kept as its factors.

    The norm only divides each of the D channels by one number, and what is wanted is its product with a few words. So
    the words are divided and brought to the width of x, and D channels of every pixel are never made. A bias of the
    projection would fall out.

    Args:
        pixels: (T, P, C), `centred`.
        weight: (D, C) or (T, D, C).
        words: Whether C is the number of words, which is small and another in every batch.
    """

    def __init__(self, pixels: Tensor, weight: Tensor, words: bool = False) -> None:
        self.pixels, self.weight = pixels, weight
        with torch.autocast(pixels.device.type, enabled=False):  # half precision is too coarse for sums of squares
            x, w = at_least_float32(pixels), at_least_float32(weight)
            if words or x.shape[1] > x.shape[2]:  # the covariance of C channels is smaller than P pixels of D channels
                variance = (w @ (x.transpose(1, 2) @ x / x.shape[1]) * w).sum(-1).clamp(min=0)
            else:
                variance = (x @ w.transpose(-1, -2)).square().mean(1)
            self.scale = torch.rsqrt(variance + 1e-5).to(pixels.dtype)[:, None]  # (T, 1, D)

    def of_pixels(self) -> Tensor:
        """(T, P, D), the normalised projection itself."""
        return self.pixels @ (self.weight * self.scale.transpose(1, 2)).transpose(1, 2)

    def times(self, rows: Tensor) -> Tensor:
        """Products with rows (R, D) or (T, R, D) of every pixel: (T, P, R)."""
        return self.pixels @ ((rows * self.scale) @ self.weight).transpose(1, 2)

    def gathered(self, attention: Tensor) -> Tensor:
        """Sums over the pixels, weighted by the rows of `attention` (T, R, P): (T, R, D)."""
        return (attention @ self.pixels) @ self.weight.transpose(-1, -2) * self.scale


def _channels_of_heads(x: Tensor, heads: int) -> Tensor:
    """(N, C) of 1 where a head has a channel of (..., C), and 0 elsewhere."""
    return torch.eye(heads, dtype=x.dtype, device=x.device).repeat_interleave(x.shape[-1] // heads, 1)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(T, L, C) to (T, N * L, C): the words once for every head, with its channels alone and zero in the others."""
    if heads == 1:
        return x
    return (x[:, None] * _channels_of_heads(x, heads)[:, None]).flatten(1, 2)


def _own_channels(x: Tensor, heads: int) -> Tensor:
    """(T, N * L, C) to (T, L, C): of every channel what its own head has."""
    if heads == 1:
        return x
    return (x.unflatten(1, (heads, -1)) * _channels_of_heads(x, heads)[:, None]).sum(1)


def _over_padding(real: Tensor) -> Tensor:
    """(T, L, 1) of 1 and 0 to (T, 1, 1, L): what is added to the scores so that padding gets no attention."""
    return (1 - real.transpose(1, 2)[:, None]) * MASKED


def _over_words(scores: Tensor, real: Tensor, heads: int) -> Tensor:
    """(T, P, N * L) scores of the pixels to their attention, each head's over the real words."""
    return (scores.unflatten(2, (heads, -1)) + _over_padding(real)).softmax(-1).flatten(2)


def _mean_over_heads(over_words: Tensor, heads: int, details: bool) -> Tensor | None:
    """(T, P, N * L) attention of all heads to (T, P, L), if anybody asks."""
    return over_words.unflatten(2, (heads, -1)).mean(2) if details else None


def _projected(values: Tensor, out: nn.Linear) -> Tensor:
    """(T, X, C) values that attention will add up, already through the projection behind it: (T, D, X)."""
    return out.weight @ values.transpose(1, 2)


class Gate(nn.Sequential):
    """Linear, ReLU, Linear, Tanh without biases (LAVT): how much of a residual enters the stream."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, dim, bias=False), nn.ReLU(), nn.Linear(dim, dim, bias=False), nn.Tanh())
        # Not zero: if both matrices start at zero, each gradient has the other as a factor and none ever learns.
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)


class _Mlp(nn.Sequential):
    """The two-layer fuse of AlignFormer eq. 4-5 (LGFormer eq. 8-9)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs), nn.GELU())

    def of_pair(self, x: Tensor, other: NormedProjection) -> Tensor:
        """What it makes of the concatenation of the two, which is not made: its halves have weights of their own."""
        first = cast(nn.Linear, self[0])
        of_x, of_other = first.weight.chunk(2, 1)
        joined = F.linear(x, of_x, first.bias) + other.times(of_other)
        return cast(Tensor, self[3](self[2](self[1](joined))))


def _before_norm(inputs: int, outputs: int) -> nn.Linear:
    """A projection before an instance norm: its bias, which published checkpoints have, falls out and never learns."""
    projection = nn.Linear(inputs, outputs)
    projection.bias.requires_grad_(False)
    return projection


class VLBA(nn.Module):
    """Vision-language bidirectional attention (AlignFormer eq. 1-7, LGFormer eq. 5-11; A and L below).

    One attention map serves both directions: over the words it gathers language for every pixel, over the pixels it
    gathers vision for every word. With `update_words=False` only the first remains (AlignFormer's ablation "VLUA").
    """

    def __init__(self, dim: int, word_dim: int, heads: int = 1, update_words: bool = True) -> None:
        super().__init__()
        if dim % heads or word_dim % heads:
            raise ValueError(f"VLBA of widths {dim} and {word_dim} with {heads} heads: both must be multiples of it")
        self.heads, self.update_words = heads, update_words
        self.query = _before_norm(dim, dim)
        self.key = nn.Linear(word_dim, dim)
        self.word_value = nn.Linear(word_dim, dim)
        self.pixel_out = _before_norm(dim, dim)
        self.pixel_branch = nn.Linear(dim, dim)
        self.pixel_fuse = _Mlp(2 * dim, dim)
        self.pixel_gate = Gate(dim)
        if update_words:
            self.pixel_value = _before_norm(dim, word_dim)
            self.word_out = nn.Linear(word_dim, word_dim)
            self.word_branch = nn.Linear(word_dim, word_dim)
            self.word_fuse = _Mlp(2 * word_dim, word_dim)
            self.word_gate = Gate(word_dim)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor, details: bool = False) -> Fused:
        """Fuses (T, P, C) pixels with (T, L, D) words; `mask` (T, L) is True on real words."""
        real = mask.unsqueeze(-1).to(words.dtype)  # (T, L, 1)
        around = centred(pixels)
        query = NormedProjection(around, self.query.weight)
        key, value = (_by_head(f(words) * real, self.heads) for f in (self.key, self.word_value))  # (T, N * L, C)
        scores = query.times(key) * pixels.shape[-1] ** -0.5  # A1, L5: (T, P, N * L)
        over_words = _over_words(scores, real, self.heads)
        gathered = NormedProjection(centred(over_words), _projected(value, self.pixel_out), words=True)  # A2, L6: V_r
        fused = self.pixel_fuse.of_pair(F.gelu(self.pixel_branch(pixels)), gathered)  # A4, L8: V_m
        updated = pixels + self.pixel_gate(fused) * fused  # A6, L10: V'
        shown = _mean_over_heads(over_words, self.heads, details)
        if not self.update_words:
            return Fused(updated, words, fused, words, shown)
        over_pixels = scores.transpose(1, 2).softmax(-1)  # (T, N * L, P)
        seen = NormedProjection(around, self.pixel_value.weight).gathered(over_pixels)
        returned = self.word_out(_own_channels(seen, self.heads)) * real  # A3, L7: L_r
        branch = F.gelu(self.word_branch(words)) * real
        word_fused = self.word_fuse(torch.cat([branch, returned], -1)) * real  # A5, L9: L_m
        new_words = (words + self.word_gate(word_fused) * word_fused) * real  # A7, L11: L'
        return Fused(updated, new_words, fused, word_fused, shown)


class PWAM(nn.Module):
    """Pixel-word attention module with its gate (LAVT, Yang et al. 2022); the words stay as they are."""

    def __init__(self, dim: int, word_dim: int, heads: int = 1) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"PWAM of width {dim} with {heads} heads: the width must be a multiple of it")
        self.heads = heads
        self.query = _before_norm(dim, dim)
        self.key = nn.Linear(word_dim, dim)
        self.value = nn.Linear(word_dim, dim)
        self.out = _before_norm(dim, dim)
        self.pixel_branch = nn.Linear(dim, dim)
        self.fuse = nn.Linear(dim, dim)
        self.gate = Gate(dim)

    def attend(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """The residual of (T, P, C) pixels that have read the words."""
        return self._read(pixels, words, mask, details=False)[0]

    def _read(self, pixels: Tensor, words: Tensor, mask: Tensor, details: bool) -> tuple[Tensor, Tensor | None]:
        """The same, and how much of what each pixel read is each word, (T, P, L), if anybody asks."""
        real = mask.unsqueeze(-1).to(words.dtype)
        query = NormedProjection(centred(pixels), self.query.weight)
        key, value = (_by_head(f(words) * real, self.heads) for f in (self.key, self.value))
        over_words = _over_words(query.times(key) * pixels.shape[-1] ** -0.5, real, self.heads)
        read = NormedProjection(centred(over_words), _projected(value, self.out), words=True).of_pixels()
        residual = F.gelu(self.fuse(F.gelu(self.pixel_branch(pixels)) * read))
        return residual, _mean_over_heads(over_words, self.heads, details)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor, details: bool = False) -> Fused:
        """Fuses (T, P, C) pixels with (T, L, D) words; `mask` (T, L) is True on real words."""
        fused, shown = self._read(pixels, words, mask, details)
        return Fused(pixels + self.gate(fused) * fused, words, fused, words, shown)


class VLF(nn.Module):
    """Vision-language fusion module (CRFormer eq. 1-2): plain attention of the pixels to the words, single-headed.

    No gate, and no product with the pixels: what is emitted, `Fused.pixel_residual`, holds the words that each pixel
    read, and its ReLU is added to the stream. The paper prints products with matrices, so there are no biases.
    """

    def __init__(self, dim: int, word_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(word_dim, dim, bias=False)
        self.value = nn.Linear(word_dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor, details: bool = False) -> Fused:
        """Fuses (T, P, C) pixels with (T, L, D) words; `mask` (T, L) is True on real words."""
        scores = self.query(pixels) @ self.key(words).transpose(1, 2) * pixels.shape[-1] ** -0.5  # (T, P, L)
        over_words = (scores + _over_padding(mask.unsqueeze(-1).to(scores.dtype))[:, 0]).softmax(-1)
        read = self.out(over_words @ self.value(words))  # eq. 2, F_v
        return Fused(pixels + F.relu(read), words, read, words, over_words if details else None)
