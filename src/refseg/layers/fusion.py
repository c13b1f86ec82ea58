"""Fusion of words and pixels inside the image encoder.

T expressions, P pixels of one stage, L words, C visual channels, D word channels. Every fusion module is called as
`module(pixels, words, mask) -> Fused`. The papers write the projections as 1x1 convolutions; they are Linear layers
here, which is the same thing on (T, P, C).
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    pixels: Tensor
    words: Tensor
    pixel_residual: Tensor
    word_residual: Tensor


def instance_norm(x: Tensor) -> Tensor:
    """Normalises each channel of (T, P, C) over the pixels; no parameters, no running statistics, eps 1e-5."""
    exact = at_least_float32(x)
    variance, mean = torch.var_mean(exact, dim=1, correction=0, keepdim=True)
    return ((exact - mean) * torch.rsqrt(variance + 1e-5)).to(x.dtype)


def _split(x: Tensor, heads: int) -> Tensor:
    """(T, X, C) to (T, N, X, C / N)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    """(T, N, X, C / N) to (T, X, C)."""
    return x.transpose(1, 2).flatten(2)


def _over_padding(real: Tensor) -> Tensor:
    """(T, L, 1) of 1 and 0 to (T, 1, 1, L): what is added to the scores so that padding gets no attention."""
    return (1 - real.transpose(1, 2)[:, None]) * MASKED


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
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(word_dim, dim)
        self.word_value = nn.Linear(word_dim, dim)
        self.pixel_out = nn.Linear(dim, dim)
        self.pixel_branch = nn.Linear(dim, dim)
        self.pixel_fuse = _Mlp(2 * dim, dim)
        self.pixel_gate = Gate(dim)
        if update_words:
            self.pixel_value = nn.Linear(dim, word_dim)
            self.word_out = nn.Linear(word_dim, word_dim)
            self.word_branch = nn.Linear(word_dim, word_dim)
            self.word_fuse = _Mlp(2 * word_dim, word_dim)
            self.word_gate = Gate(word_dim)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Fused:
        """Fuses (T, P, C) pixels with (T, L, D) words; `mask` (T, L) is True on real words."""
        real = mask.unsqueeze(-1).to(words.dtype)  # (T, L, 1)
        query = _split(instance_norm(self.query(pixels)), self.heads)
        key, value = (_split(f(words) * real, self.heads) for f in (self.key, self.word_value))
        scores = query @ key.transpose(-1, -2) * pixels.shape[-1] ** -0.5  # A1, L5: (T, N, P, L)
        over_words = (scores + _over_padding(real)).softmax(-1)
        gathered = instance_norm(self.pixel_out(_merge(over_words @ value)))  # A2, L6: V_r
        fused = self.pixel_fuse(torch.cat([F.gelu(self.pixel_branch(pixels)), gathered], -1))  # A4, L8: V_m
        updated = pixels + self.pixel_gate(fused) * fused  # A6, L10: V'
        if not self.update_words:
            return Fused(updated, words, fused, words)
        seen = _split(instance_norm(self.pixel_value(pixels)), self.heads)
        over_pixels = scores.transpose(-1, -2).softmax(-1)  # (T, N, L, P)
        returned = self.word_out(_merge(over_pixels @ seen)) * real  # A3, L7: L_r
        branch = F.gelu(self.word_branch(words)) * real
        word_fused = self.word_fuse(torch.cat([branch, returned], -1)) * real  # A5, L9: L_m
        new_words = (words + self.word_gate(word_fused) * word_fused) * real  # A7, L11: L'
        return Fused(updated, new_words, fused, word_fused)


class PWAM(nn.Module):
    """Pixel-word attention module with its gate (LAVT, Yang et al. 2022); the words stay as they are."""

    def __init__(self, dim: int, word_dim: int, heads: int = 1) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"PWAM of width {dim} with {heads} heads: the width must be a multiple of it")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(word_dim, dim)
        self.value = nn.Linear(word_dim, dim)
        self.out = nn.Linear(dim, dim)
        self.pixel_branch = nn.Linear(dim, dim)
        self.fuse = nn.Linear(dim, dim)
        self.gate = Gate(dim)

    def attend(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """The residual of (T, P, C) pixels that have read the words."""
        real = mask.unsqueeze(-1).to(words.dtype)
        query = _split(instance_norm(self.query(pixels)), self.heads)
        key, value = (_split(f(words) * real, self.heads) for f in (self.key, self.value))
        scores = query @ key.transpose(-1, -2) * pixels.shape[-1] ** -0.5 + _over_padding(real)
        read = instance_norm(self.out(_merge(scores.softmax(-1) @ value)))
        return F.gelu(self.fuse(F.gelu(self.pixel_branch(pixels)) * read))

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Fused:
        """Fuses (T, P, C) pixels with (T, L, D) words; `mask` (T, L) is True on real words."""
        fused = self.attend(pixels, words, mask)
        return Fused(pixels + self.gate(fused) * fused, words, fused, words)


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

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Fused:
        """Fuses (T, P, C) pixels with (T, L, D) words; `mask` (T, L) is True on real words."""
        scores = self.query(pixels) @ self.key(words).transpose(1, 2) * pixels.shape[-1] ** -0.5  # (T, P, L)
        over_words = (scores + _over_padding(mask.unsqueeze(-1).to(scores.dtype))[:, 0]).softmax(-1)
        read = self.out(over_words @ self.value(words))  # eq. 2, F_v
        return Fused(pixels + F.relu(read), words, read, words)
