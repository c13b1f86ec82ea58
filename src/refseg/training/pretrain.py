"""Pretraining of the compact encoders, by the same engine as training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from refseg.data.loader import shares_of
from refseg.data.shapes.plain import PlainScene, plain_scene, sentences
from refseg.data.transforms import InputConfig, images_to_pixels
from refseg.encoders.bert import BertConfig
from refseg.encoders.clip import ClipViTConfig
from refseg.encoders.tokenizer import Tokenizer
from refseg.files import hash_of, write_beside, write_text_beside
from refseg.presets.base import (
    COMPACT_INPUT,
    Preset,
    Recipe,
    compact_bert,
    compact_clip,
    compact_swin,
    shapes_clip_tokenizer,
    shapes_tokenizer,
)
from refseg.training.checkpoint import Checkpoint, RunState
from refseg.training.config import Run, describe
from refseg.training.engine import ENDLESS_EPOCH, Engine, Report, Say
from refseg.training.processes import Processes, find_processes
from refseg.training.step import PRECISIONS, Precision
from refseg.training.towers import STRIDE, PretrainingBatch, Towers, TowersConfig
from refseg.weights.folders import check_encoders
from refseg.weights.start import Start
from refseg.weights.store import halved
from refseg.weights.versions import FORMAT

SCORED = 32  # batches of `val` that an evaluation reads
HIDDEN = 0.15  # share of the words that BERT has to find
RECIPE = Recipe(
    steps=6000, images_per_batch=16, expressions_per_image=1, lr=2e-3, weight_decay=0.01, warmup=100, power=0.9,
    clip=1.0, select="mIoU",
)  # fmt: skip


@cache
def encoder_presets() -> dict[str, Preset]:
    """The pretrainings by name.

    `swin-shapes` and `bert-shapes` are for the methods with Swin and BERT, `clip-shapes` for those with CLIP's ResNet,
    `clip-vit-shapes` for EAVL with a vision transformer.
    """
    towers = compact_clip(COMPACT_INPUT.size[0])
    vit = ClipViTConfig(width=96, layers=4, heads=4, patch=16, joint=96, grid=12)
    words = replace(RECIPE, images_per_batch=32, lr=1e-3)  # scenes whose sentences a step reads
    models: dict[str, tuple[TowersConfig, Recipe]] = {
        "swin-shapes": (TowersConfig(compact_swin(), None), RECIPE),
        "bert-shapes": (TowersConfig(None, compact_bert()), words),
        "clip-shapes": (TowersConfig(towers.vision, towers.text), RECIPE),
        "clip-vit-shapes": (TowersConfig(vit, towers.text), RECIPE),
    }
    return {
        name: Preset(name, "towers", model, COMPACT_INPUT, recipe, None, "ours: RefShapes without questions")
        for name, (model, recipe) in models.items()
    }


def encoder_preset(name: str) -> Preset:
    """A pretraining by its name.

    Raises:
        ValueError: There is none of that name.
    """
    check_encoders(name)
    return encoder_presets()[name]


def pretrain(
    run: Run,
    resume: bool = False,
    report: Report | None = None,
    say: Say | None = None,
    processes: Processes | None = None,
) -> Path:
    """Pretrains, and returns the folder of the encoders as they are after the last step.

    The arguments and errors are those of `refseg.training.loop.train`; the run's preset is one of `encoder_presets`.
    """
    with nullcontext(processes) if processes is not None else find_processes(run.device) as team:
        return _Pretraining(run, resume, team, say if say is not None and team.main else lambda _: None).go(report)


@dataclass(frozen=True)
class PretrainingBatches:
    """What one process reads in a step of pretraining: a pure function of split, seed and step.

    Attributes:
        config: The towers.
        input: Size and statistics of the pictures, and the most tokens of a text.
        tokenizer: Turns texts into ids.
        scenes: Scenes of a step, over all processes.
        seed: Seed of what is hidden.
        steps: Steps of the run.
        split: `train` or `val`.
        rank: Number of this process.
        processes: How many share every step.
        pieces: How many batches each process divides its share into.
    """

    config: TowersConfig
    input: InputConfig
    tokenizer: Tokenizer
    scenes: int
    seed: int
    steps: int
    split: str = "train"
    rank: int = 0
    processes: int = 1
    pieces: int = 1

    def __post_init__(self) -> None:
        """Refuses more parts than there are scenes.

        Raises:
            ValueError: A part of a step would be empty.
        """
        if not 1 <= self.processes * self.pieces <= self.scenes:
            raise ValueError(f"{self.processes} process(es) with --accumulate {self.pieces}: a step has "
                             f"{self.scenes} scenes, at least one for each is needed")  # fmt: skip

    def __len__(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def __getitem__(self, step: int) -> tuple[PretrainingBatch, ...]:
        """The batches of this process in one step."""
        first = step * self.scenes
        shares = shares_of(self.scenes, self.rank, self.processes, self.pieces)
        return tuple(self._batch(range(first + share.start, first + share.stop)) for share in shares)

    def _batch(self, indices: range) -> PretrainingBatch:
        ids = tuple(f"{self.split}-{index:06d}" for index in indices)
        if isinstance(self.config.text, BertConfig):
            return PretrainingBatch(ids, **self._with_hidden_words(indices))
        scenes = [plain_scene(self.split, index, self.input.size) for index in indices]
        return PretrainingBatch(ids, **self._pictures(scenes), **self._descriptions(scenes))

    def _pictures(self, scenes: Sequence[PlainScene]) -> dict[str, Tensor]:
        """The pictures, and which object every fourth pixel shows."""
        counts = [len(scene.descriptions) for scene in scenes]
        before = np.cumsum([0, *counts[:-1]])
        at = slice(STRIDE // 2, None, STRIDE)
        seen = [np.where(s.ids > 0, s.ids + b, 0)[at, at] for s, b in zip(scenes, before, strict=True)]
        looks = np.concatenate([scenes[0].looks[:1], *(scene.looks[1:] for scene in scenes)])
        return {
            "pixels": images_to_pixels([scene.image for scene in scenes], self.input),
            "objects": torch.from_numpy(np.stack(seen)),
            "looks": torch.from_numpy(looks),
        }

    def _descriptions(self, scenes: Sequence[PlainScene]) -> dict[str, Tensor]:
        """A text for every object, where there is a tower that reads it."""
        if self.config.text is None:
            return {}
        texts = [text for scene in scenes for text in scene.descriptions]
        tokens = self.tokenizer(texts, self.input.max_tokens)
        said = torch.from_numpy(np.concatenate([scene.said for scene in scenes]))
        return {"tokens": tokens.ids, "token_mask": tokens.mask, "said": said}

    def _with_hidden_words(self, indices: range) -> dict[str, Tensor]:
        """Sentences with some words hidden: of these eight of ten behind [MASK], one behind another word (BERT)."""
        texts = [text for index in indices for text in sentences(self.split, index)]
        found = self.tokenizer(texts, self.input.max_tokens)
        draw = np.random.default_rng((self.seed, indices.start, len(indices)))
        special = torch.tensor([self.tokenizer.vocabulary[name] for name in ("[CLS]", "[SEP]", "[PAD]")])
        free = found.mask & ~torch.isin(found.ids, special)
        chosen = free & torch.from_numpy(draw.random(free.shape) < HIDDEN)
        chosen[torch.arange(len(chosen)), free.float().argmax(1)] |= ~chosen.any(1)  # one at least
        how = torch.from_numpy(draw.random(free.shape))
        other = torch.from_numpy(draw.integers(len(special), self.tokenizer.size, free.shape))
        tokens = torch.where(chosen & (how < 0.8), self.tokenizer.vocabulary["[MASK]"], found.ids)
        tokens = torch.where(chosen & (how >= 0.9), other, tokens)
        return {"tokens": tokens, "token_mask": found.mask, "hidden": torch.where(chosen, found.ids, -100)}


class _Trainee(nn.Module):
    """Towers from a batch to the named terms of their loss."""

    def __init__(self, towers: Towers, device_type: str, precision: Precision) -> None:
        super().__init__()
        self.towers, self.device_type, self.dtype = towers, device_type, PRECISIONS[precision]

    def forward(self, batch: PretrainingBatch) -> dict[str, Tensor]:
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            return self.towers(batch).terms


class _Pretraining(Engine[Path]):
    """The pretraining of a pair of towers, or of one."""

    network: Towers
    batches: PretrainingBatches

    def _open(self, resume: bool) -> Checkpoint | None:
        run = self.run
        if run.data != ("refshapes",) or run.epochs is not None or run.init or run.encoders:
            raise ValueError("pretraining takes its scenes from RefShapes and starts at random: no data, epochs, "
                             "init or encoders are accepted")  # fmt: skip
        self.epoch, self.steps = ENDLESS_EPOCH, run.steps or run.preset.recipe.steps
        return self._stored(resume)

    def _begin(self, stored: Checkpoint | None) -> Start | None:
        run, team, config = self.run, self.team, self.run.preset.model
        bert = isinstance(config.text, BertConfig) or config.text is None
        self.tokenizer = shapes_tokenizer() if bert else shapes_clip_tokenizer()
        torch.manual_seed(run.seed)
        self.network = Towers(config).to(team.device)
        self.batches = PretrainingBatches(
            config, run.preset.input, self.tokenizer, run.preset.recipe.images_per_batch, run.seed, self.steps,
            rank=team.rank, processes=team.count, pieces=run.accumulate,
        )  # fmt: skip
        return None

    def _describe(self, start: Start | None) -> None:
        run = self.run
        self.state = RunState(
            step=0, seed=run.seed, steps=self.steps, preset=describe(run.preset), data="refshapes without questions",
            items=0, overlap=run.reading.overlap, eval_limit=run.eval_limit, precision=run.precision, ema=run.ema,
            source="pretrained from scratch", tokenizer=self.tokenizer.to_json(),
        )  # fmt: skip

    def _trainee(self) -> nn.Module:
        return _Trainee(self.network, self.team.device.type, self.run.precision)

    @property
    def _select(self) -> str:
        return "mean"

    @torch.no_grad()
    def _score(self) -> dict[str, Any]:
        """Shares of right answers on scenes that training never draws, and their mean."""
        towers, team = self._kept().eval(), self.team
        batches = replace(self.batches, split="val", seed=0, pieces=1)
        right: dict[str, float] = {}
        asked: dict[str, float] = {}
        for step in range(self.run.eval_limit or SCORED):
            for part in batches[step]:
                found = towers(part.to(team.device))
                for name in found.right:
                    right[name] = right.get(name, 0.0) + float(found.right[name])
                    asked[name] = asked.get(name, 0.0) + float(found.asked[name])
        totals = team.total([*right.values(), *asked.values()])
        shares = {name: totals[i] / max(1.0, totals[i + len(right)]) for i, name in enumerate(right)}
        return {"mean": sum(shares.values()) / len(shares), **shares}

    def _write(self, folder: Path) -> None:
        save_encoders(folder, self._kept(), self.tokenizer, self.run.preset.name, self.state.record)

    def _result(self) -> Path:
        return self.run.out / "last"


def save_encoders(folder: Path, towers: Towers, tokenizer: Tokenizer, name: str, training: dict[str, Any]) -> None:
    """Writes pretrained encoders as float16: what `--encoders` reads below their name, and what ships.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: halved(x.detach().cpu()).contiguous() for key, x in towers.pretrained().items()}
    write_beside(folder / "model.safetensors", lambda beside: save_file(tensors, beside))
    tokenizer.save(folder / "tokenizer.json")
    config = {
        "format": FORMAT,
        "encoders": name,
        "training": training,
        "sha256": hash_of(folder / "model.safetensors"),
    }
    write_text_beside(folder / "config.json", json.dumps(config, indent=1) + "\n")
