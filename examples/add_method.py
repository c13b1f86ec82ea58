"""A method of one's own, trained for a few steps on RefShapes, scored, and asked.

python add_method.py --steps 20 --images-per-batch 4 --out runs/gated; docs/add-method.md walks through it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refseg import Predictor
from refseg.checked import Checked
from refseg.data.sets import open_data
from refseg.encoders.bert import Bert, BertConfig
from refseg.encoders.swin import Swin, SwinConfig
from refseg.layers.fused_swin import FusedSwin
from refseg.losses import mask_losses
from refseg.methods import METHODS
from refseg.methods.base import SwinBertSegmenter
from refseg.presets.base import Preset, compact_bert, compact_preset, compact_swin
from refseg.scoring.evaluation import evaluate
from refseg.training.config import Run
from refseg.training.loop import train
from refseg.types import ImageFeatures, Output, TextFeatures

SCENE = Path(__file__).parent / "scene.png"


@dataclass(frozen=True)
class GatedConfig(Checked):
    """A sentence that gates the deepest map.

    Attributes:
        swin: The vision encoder.
        bert: The text encoder.
        width: Channels of the joined map.
    """

    swin: SwinConfig
    bert: BertConfig
    width: int


class Gated(SwinBertSegmenter):
    """The mean word opens and closes channels of the joined map; a convolution says which pixels are meant."""

    def __init__(self, config: GatedConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = Bert(config.bert)
        self.encoder = FusedSwin(Swin(config.swin), [None] * 4, chain_words=False, output="updated")
        self.project = nn.ModuleList(nn.Conv2d(channels, config.width, 1) for channels in config.swin.channels)
        self.gate = nn.Linear(config.bert.width, config.width)
        self.classify = nn.Sequential(
            nn.Conv2d(config.width, config.width, 3, padding=1), nn.GELU(), nn.Conv2d(config.width, 1, 1)
        )

    def forward(self, image: ImageFeatures, text: TextFeatures, image_index: Tensor, details: bool = False) -> Output:
        """(T, 1, h, w) log-odds at stride 4."""
        maps, _ = self.encoder(image, text, image_index)  # (T, C_i, h_i, w_i) of every stage, finest first
        size = (maps[0].shape[2], maps[0].shape[3])
        same = [F.interpolate(layer(x), size, mode="bilinear") for layer, x in zip(self.project, maps, strict=True)]
        real = text.mask[..., None]  # (T, L, 1): padding is no word
        sentence = (text.words * real).sum(1) / real.sum(1)  # (T, D)
        gate = torch.sigmoid(self.gate(sentence))[:, :, None, None]  # (T, width, 1, 1)
        return Output(self.classify(torch.stack(same).sum(0) * gate))

    def loss(self, output: Output, targets: Tensor) -> dict[str, Tensor]:
        """Binary cross-entropy, and Dice, against the mask shrunk to the log-odds."""
        return mask_losses(output.logits, targets, "stride4", pos_weight=1.0, dice_weight=1.0)


def preset() -> Preset:
    """Its numbers; input, recipe and packaged encoders are those of all compact methods."""
    METHODS["gated"] = (Gated, GatedConfig)
    model = GatedConfig(swin=compact_swin(), bert=compact_bert(), width=64)
    return compact_preset("gated", model, "An example.")


def main() -> None:
    """Trains, scores, asks."""
    parser = argparse.ArgumentParser(description="Adds a small method, trains it on RefShapes, and scores it.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the run.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images-per-batch", type=int, default=16)
    given = parser.parse_args()
    started = preset()
    started = replace(started, recipe=replace(started.recipe, images_per_batch=given.images_per_batch, warmup=0))
    run = Run(started, ("refshapes",), given.out, steps=given.steps, eval_limit=20, workers=0)
    train(run, report=lambda step, steps, losses: print(f"step {step} of {steps}: loss {losses['loss']:.3f}"))
    predictor = Predictor.from_pretrained(given.out / "best")
    scores, _ = evaluate(predictor, open_data("refshapes", "val"), limit=20)
    print({name: round(100 * value, 1) for name, value in scores.summary().items()})
    print(predictor(str(SCENE), "the striped square"))


if __name__ == "__main__":
    main()
