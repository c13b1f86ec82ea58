"""Losses: logits and targets in, scalars out. Computed in float32 at least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from refseg.checked import Checked
from refseg.geometry import covered_by
from refseg.precision import at_least_float32


def resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, H, W) bool to (T, h, w) bool by nearest neighbour."""
    if target.shape[-2:] == size:
        return target
    return F.interpolate(target[:, None].to(torch.uint8), size, mode="nearest-exact")[:, 0].bool()


def pixel_text(logits: Tensor, target: Tensor, pos_weight: float = 1.0) -> Tensor:
    """Mean binary cross-entropy between pixels and text (LGFormer eq. 12-13, AlignFormer eq. 8-9).

    Args:
        logits: (T, h, w) log-odds.
        target: (T, h, w) bool.
        pos_weight: Weight of the foreground's term.
    """
    logits = at_least_float32(logits)
    weight = None if pos_weight == 1.0 else torch.tensor(pos_weight, device=logits.device)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), pos_weight=weight)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over expressions of 1 - Dice, with one pixel added above and below (Milletari et al. 2016).

    Args:
        logits: (T, h, w) log-odds.
        target: (T, h, w) bool.
    """
    probability = at_least_float32(logits).sigmoid().flatten(1)
    truth = target.to(probability.dtype).flatten(1)
    overlap = 2 * (probability * truth).sum(1)
    return (1 - (overlap + 1) / (probability.sum(1) + truth.sum(1) + 1)).mean()


def two_class(classes: Tensor, target: Tensor, weights: tuple[float, float]) -> Tensor:
    """Cross-entropy of background and foreground, averaged over the pixels by the weights of their true classes.

    Args:
        classes: (T, 2, H, W) logits, background first.
        target: (T, H, W) bool.
        weights: Weights of background and foreground.
    """
    classes = at_least_float32(classes)
    return F.cross_entropy(classes, target.long(), torch.tensor(weights, device=classes.device, dtype=classes.dtype))


def class_losses(
    classes: Tensor, target: Tensor, weights: tuple[float, float], dice_weight: float
) -> dict[str, Tensor]:
    """Cross-entropy of two classes and, where it has a weight, the Dice term of foreground minus background.

    Args:
        classes: (T, 2, H, W) logits, background first.
        target: (T, H, W) bool.
        weights: Weights of background and foreground in the cross-entropy.
        dice_weight: Weight of the Dice term.
    """
    terms = {"cross_entropy": two_class(classes, target, weights)}
    if dice_weight:
        terms["dice"] = dice_weight * dice(at_least_float32(classes[:, 1]) - at_least_float32(classes[:, 0]), target)
    return terms


Resolution = Literal["stride4", "full", "full_aligned"]


def mask_losses(
    logits: Tensor, target: Tensor, resolution: Resolution, pos_weight: float, dice_weight: float
) -> dict[str, Tensor]:
    """Pixel-text loss and, where it has a weight, the Dice term, summed over N predictions of each mask.

    Args:
        logits: (T, N, h, w) log-odds.
        target: (T, H, W) bool at network size.
        resolution: "stride4" shrinks the target to the logits, "full" enlarges the logits to the target, and
            "full_aligned" does so with the centres of the corner cells on the corner pixels.
        pos_weight: Weight of the foreground in the pixel-text loss.
        dice_weight: Weight of the Dice term.
    """
    logits = at_least_float32(logits)
    height, width = target.shape[-2:]
    if resolution == "full_aligned":
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)
    elif resolution == "full":
        covered = covered_by((logits.shape[-2], logits.shape[-1]), (height, width))
        logits = F.interpolate(logits, covered, mode="bilinear", align_corners=False)[..., :height, :width]
    truth = resize_target(target, (logits.shape[-2], logits.shape[-1]))
    layers = logits.unbind(1)
    terms = {"pixel_text": torch.stack([pixel_text(x, truth, pos_weight) for x in layers]).sum()}
    if dice_weight:
        terms["dice"] = dice_weight * torch.stack([dice(x, truth) for x in layers]).sum()
    return terms


@dataclass(frozen=True)
class CMICConfig(Checked):
    """Cross-modal instance contrastive loss (AlignFormer sec. 3.3).

    Attributes:
        weight: Weight of the term in the total; 0 switches it off.
        anchors: M, the number of well-classified pixels that a misclassified one is compared with.
        similarity: "dot", the product of two pixels as printed in eq. 10-11, or "cosine" of the angle between them.
            Behind a width of 64 and more a product is so large that log sigmoid of it is 0 (docs/methods.md).
        temperature: What the similarity is divided by; 1 as printed.
        reduce: "sum" over the anchors as printed in eq. 10-11, or "mean".
        sample: Whether the anchors are drawn once per "image" (with its expression) or anew for every "pixel".
        detach_weights: Whether no gradient flows through lambda, the weight of an anchor.
        detach_anchors: Whether no gradient flows through the anchors.
    """

    weight: float
    anchors: int
    similarity: Literal["dot", "cosine"]
    temperature: float
    reduce: Literal["sum", "mean"]
    sample: Literal["image", "pixel"]
    detach_weights: bool
    detach_anchors: bool

    def __post_init__(self) -> None:
        """Refuses what nothing can be divided by.

        Raises:
            ValueError: The temperature is not positive.
        """
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature}: a positive number is accepted")


def cmic(prototype: Tensor, pixels: Tensor, target: Tensor, config: CMICConfig) -> Tensor:
    """Pulls misclassified pixels towards well-classified ones of their true class (AlignFormer eq. 10-12).

    A false positive is compared with M true negatives, weighted by 1 - sigmoid(prototype . anchor), a false negative
    with M true positives, weighted by sigmoid(prototype . anchor). Where there is nothing to compare, the term is 0.

    Args:
        prototype: (T, C).
        pixels: (T, C, h, w).
        target: (T, h, w) bool.
        config: How anchors are drawn and summed up.

    Returns:
        The mean over expressions of both terms, without the weight.
    """
    with torch.autocast(pixels.device.type, enabled=False):
        embeddings = at_least_float32(pixels).flatten(2).transpose(1, 2)  # (T, P, C)
        foreground = torch.einsum("tpc,tc->tp", embeddings, prototype.to(embeddings.dtype))  # log-odds
        truth, found = target.flatten(1), foreground > 0
        background = torch.sigmoid(-foreground)  # 1 - sigmoid(prototype . pixel), exact where it is small
        total = embeddings.sum() * 0.0
        for t in range(embeddings.shape[0]):
            true_positive, false_positive = found[t] & truth[t], found[t] & ~truth[t]
            true_negative, false_negative = ~found[t] & ~truth[t], ~found[t] & truth[t]
            weight = torch.sigmoid(foreground[t])
            total = total + _pull(embeddings[t], false_positive, true_negative, background[t], config)  # eq. 10
            total = total + _pull(embeddings[t], false_negative, true_positive, weight, config)  # eq. 11
        return total / embeddings.shape[0]


def _pull(embeddings: Tensor, wrong: Tensor, right: Tensor, weights: Tensor, config: CMICConfig) -> Tensor:
    """One of eq. 10 and 11: `wrong` pixels (P,) against anchors among the `right` ones, of one expression.

    Args:
        embeddings: (P, C).
        wrong: (P,) bool, the misclassified pixels.
        right: (P,) bool, the well-classified ones of their true class.
        weights: (P,) lambda, the weight of each pixel as an anchor.
        config: How anchors are drawn and summed up.
    """
    wrong_at, right_at = wrong.nonzero()[:, 0], right.nonzero()[:, 0]
    if not len(wrong_at) or not len(right_at):
        return embeddings.sum() * 0.0
    rows = 1 if config.sample == "image" else len(wrong_at)
    if len(right_at) >= config.anchors:
        order = torch.rand(rows, len(right_at), device=right_at.device).argsort(1)[:, : config.anchors]
    else:
        order = torch.randint(len(right_at), (rows, config.anchors), device=right_at.device)
    chosen = right_at[order]  # (1 or N, M)
    weight = weights[chosen]
    anchors = embeddings[chosen]  # (1 or N, M, C)
    if config.detach_weights:
        weight = weight.detach()
    if config.detach_anchors:
        anchors = anchors.detach()
    mistaken = embeddings[wrong_at]  # (N, C)
    if config.similarity == "cosine":
        mistaken, anchors = F.normalize(mistaken, dim=-1), F.normalize(anchors, dim=-1)
    similarity = (mistaken[:, None] @ anchors.transpose(1, 2))[:, 0]  # (N, M)
    pulled = -(weight * F.logsigmoid(similarity / config.temperature)).sum(1)
    return pulled.mean() / (config.anchors if config.reduce == "mean" else 1)
