"""Compact encoders and what they learn in pretraining, as the papers' have from ImageNet, books and CLIP's pairs.

B images, T texts, L words, C channels, J joint width of two towers, h and w a quarter of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg.checked import Checked
from refseg.data.shapes.plain import ATTRIBUTES
from refseg.encoders.bert import Bert, BertConfig
from refseg.encoders.clip import ClipResNet, ClipResNetConfig, ClipText, ClipTextConfig, ClipViT, ClipViTConfig
from refseg.encoders.swin import Swin, SwinConfig
from refseg.precision import at_least_float32

STRIDE = 4  # of the map on which pixels say what they show
COUNTS = {name: len(values) + 1 for name, values in ATTRIBUTES.items()}  # background first
WEIGHTS = {"shape": 2.0, "colour": 1.0, "size": 1.0, "fill": 1.0}  # shapes are what takes longest to learn
BACKGROUND = 0.3  # weight of the pixels that show no object, most of a picture


@dataclass(frozen=True, eq=False)
class PretrainingBatch:
    """What one step of pretraining reads; a text tower alone has no pictures, an image tower alone no texts.

    Attributes:
        ids: Names of the scenes, for messages.
        pixels: (B, 3, H, W).
        objects: (B, h, w) int64, which of all objects of the batch is seen, counted from 1; 0 is background.
        looks: (N + 1, 4) int64, the attributes of every object counted from 1; row 0 is the background.
        tokens: (T, L) int64; one description per object, or sentences with some words hidden.
        token_mask: (T, L) bool, True on real tokens.
        said: (N, 4) bool, which attributes the description of an object names.
        hidden: (T, L) int64, the words to be found where some are hidden, -100 elsewhere.
    """

    ids: tuple[str, ...]
    pixels: Tensor | None = None
    objects: Tensor | None = None
    looks: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    said: Tensor | None = None
    hidden: Tensor | None = None

    def to(self, device: torch.device | str) -> PretrainingBatch:
        """The same batch on another device."""
        moved = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return PretrainingBatch(self.ids, **moved)


@dataclass(frozen=True)
class TowersConfig(Checked):
    """Which towers are pretrained together; None where there is none.

    Attributes:
        vision: An image tower, which learns what every pixel shows.
        text: A text tower: BERT finds hidden words, and names those of a sentence from its [CLS]; CLIP's learns, with
            the image tower beside it, which description fits which object.
    """

    vision: SwinConfig | ClipResNetConfig | ClipViTConfig | None
    text: BertConfig | ClipTextConfig | None


@dataclass(frozen=True, eq=False)
class Learned:
    """What a step says.

    Attributes:
        terms: The named terms of the loss.
        right: Answers that were right, by name.
        asked: How many there were.
    """

    terms: dict[str, Tensor]
    right: dict[str, Tensor]
    asked: dict[str, Tensor]


class Towers(nn.Module):
    """The towers, under the names they have in a method, and the heads that pretraining alone needs."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module | None = None
        self.text_encoder: Bert | ClipText | None = None
        vision, text = config.vision, config.text
        if vision is not None:
            if isinstance(vision, SwinConfig):
                self.encoder, channels = nn.ModuleDict({"swin": Swin(vision)}), vision.channels
            elif isinstance(vision, ClipResNetConfig):
                self.encoder, channels = ClipResNet(vision), vision.channels
            else:
                self.encoder, channels = ClipViT(vision), (vision.joint,)
            self.pixels = PixelHead(channels)
        if isinstance(text, BertConfig):
            self.text_encoder = Bert(text)
            self.words = nn.Linear(text.width, text.vocab)
            self.sentence = nn.Linear(text.width, text.vocab)
        elif text is not None:
            self.text_encoder = ClipText(text)
            self.scale = nn.Parameter(torch.tensor(10.0).log())

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """One group of everything."""
        return [{"params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]

    def pretrained(self) -> dict[str, Tensor]:
        """The towers' tensors alone, under the names that a method's encoders have."""
        heads = ("pixels.", "words.", "sentence.", "scale")
        return {name: x for name, x in self.state_dict().items() if not name.startswith(heads)}

    def forward(self, batch: PretrainingBatch) -> Learned:
        """All that the towers can learn from a batch."""
        found = Learned({}, {}, {})
        joint = None
        if self.encoder is not None:
            assert batch.pixels is not None
            maps, joint = self._see(batch.pixels)
            self._learn_pixels(self.pixels(maps), batch, found)
        if isinstance(self.text_encoder, Bert):
            self._learn_words(batch, found)
        elif self.text_encoder is not None and joint is not None:
            self._learn_pairs(joint, batch, found)
        return found

    def _see(self, pixels: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """(B, 3, H, W) to the maps (B, C_i, ., .) of all stages, and where sentences live too, (B, J, ., .)."""
        if isinstance(self.encoder, ClipResNet):
            found = self.encoder(pixels)
            return list(found.stages), found.spatial
        if isinstance(self.encoder, ClipViT):
            tokens, _ = self.encoder(pixels)
            return [tokens], tokens
        assert isinstance(self.encoder, nn.ModuleDict)
        return self.encoder["swin"](pixels), None

    def _learn_pixels(self, answers: Mapping[str, Tensor], batch: PretrainingBatch, found: Learned) -> None:
        """What every pixel shows: cross-entropy of each attribute, the background among its values."""
        assert batch.objects is not None and batch.looks is not None
        truth = batch.looks[batch.objects]  # (B, h, w, 4)
        shown = batch.objects > 0
        for place, (name, logits) in enumerate(answers.items()):
            logits = at_least_float32(logits)
            weight = torch.ones(COUNTS[name], device=logits.device, dtype=logits.dtype)
            weight[0] = BACKGROUND
            found.terms[name] = WEIGHTS[name] * F.cross_entropy(logits, truth[..., place], weight)
            with torch.no_grad():  # among the objects' pixels
                found.right[name] = ((logits[:, 1:].argmax(1) + 1 == truth[..., place]) & shown).sum()
                found.asked[name] = shown.sum()

    def _learn_words(self, batch: PretrainingBatch, found: Learned) -> None:
        """Hidden words, as BERT learns them; and from [CLS] alone which words the sentence has.

        BERT's [CLS] learns from pairs of sentences, of which there are none here. Without anything to learn it differs
        little between sentences, and the methods that read it as the sentence learn from the words last.
        """
        assert self.text_encoder is not None and batch.hidden is not None
        assert batch.tokens is not None and batch.token_mask is not None
        known = self.text_encoder(batch.tokens, batch.token_mask).words
        whole = torch.where(batch.hidden >= 0, batch.hidden, batch.tokens)
        has = torch.zeros(len(whole), self.words.out_features, device=whole.device)
        has.scatter_add_(1, whole, batch.token_mask.to(has.dtype)).clamp_(max=1)  # (T, V)
        says = at_least_float32(self.sentence(known[:, 0]))
        found.terms["sentence"] = F.binary_cross_entropy_with_logits(says, has, reduction="sum") / has.sum()
        with torch.no_grad():
            found.right["sentence"] = ((says > 0) & (has > 0)).sum()
            found.asked["sentence"] = ((says > 0) | (has > 0)).sum()
        logits = at_least_float32(self.words(known)).flatten(0, 1)  # (T * L, V)
        truth = batch.hidden.flatten()
        found.terms["words"] = F.cross_entropy(logits, truth, ignore_index=-100)
        with torch.no_grad():
            found.right["words"] = (logits.argmax(1) == truth).sum()
            found.asked["words"] = (truth >= 0).sum()

    def _learn_pairs(self, joint: Tensor, batch: PretrainingBatch, found: Learned) -> None:
        """Which description fits which object, both ways, as CLIP learns images and captions.

        A description may fit several objects ("the star"): all that it fits count as right, alike.
        """
        assert self.text_encoder is not None and batch.objects is not None and batch.looks is not None
        assert batch.said is not None
        large = F.interpolate(at_least_float32(joint), batch.objects.shape[1:], mode="bilinear", align_corners=False)
        pixels = large.permute(0, 2, 3, 1).flatten(0, 2)  # (B * h * w, J)
        owner = batch.objects.flatten()
        total = pixels.new_zeros(len(batch.looks), pixels.shape[1]).index_add(0, owner, pixels)[1:]
        size = torch.bincount(owner, minlength=len(batch.looks))[1:]
        seen = size > 0  # at a quarter of the size an object may be nowhere
        objects = F.normalize(total[seen] / size[seen, None], dim=1)  # (N, J)
        texts = F.normalize(at_least_float32(self.text_encoder(batch.tokens, batch.token_mask).sentence)[seen], dim=1)
        scores = objects @ texts.T * at_least_float32(self.scale).exp().clamp(max=100.0)
        looks, said = batch.looks[1:][seen], batch.said[seen]
        fits = ((looks[:, None] == looks[None]) | ~said[None]).all(-1).to(scores.dtype)  # object i, text j
        found.terms["to_text"] = -(fits / fits.sum(1, keepdim=True) * scores.log_softmax(1)).sum(1).mean() / 2
        found.terms["to_object"] = -(fits / fits.sum(0, keepdim=True) * scores.log_softmax(0)).sum(0).mean() / 2
        with torch.no_grad():
            best = scores.argmax(0)
            found.right["match"] = fits.gather(0, best[None]).sum()
            found.asked["match"] = torch.tensor(len(best), device=scores.device)


class PixelHead(nn.Module):
    """Joins the maps of all stages at stride 4 and says what every pixel shows."""

    def __init__(self, channels: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.classify = nn.ModuleDict({name: nn.Conv2d(width, count, 1) for name, count in COUNTS.items()})

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """(B, C_i, ., .) of strides 4 and up, or of stride 16 alone, to logits (B, values, h, w) by attribute."""
        size = (maps[0].shape[2], maps[0].shape[3])
        if len(maps) == 1:
            size = (size[0] * 4, size[1] * 4)
        joined = torch.zeros((), device=maps[0].device)
        for lateral, x in zip(self.lateral, maps, strict=True):
            joined = joined + F.interpolate(lateral(x), size, mode="bilinear", align_corners=False)
        features = self.smooth(joined)
        return {name: classify(features) for name, classify in self.classify.items()}
