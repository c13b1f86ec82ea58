"""The weights that a run begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from refseg.presets.base import Preset
from refseg.weights.pretrained import WORD_EMBEDDINGS, bare, match_words, seeded
from refseg.weights.store import Model, load_model


@dataclass(frozen=True)
class Start:
    """A model before its first step.

    Attributes:
        model: The model.
        source: Where its weights come from, in words.
        new: Tensors that `init` did not have, or had in another shape; they start at random. Of a table of words the
            number of new ones stands behind its name.
        of: How many tensors there are.
    """

    model: Model
    source: str
    new: tuple[str, ...] = ()
    of: int = 0


def fresh_start(preset: Preset, seed: int, encoders: Path | None, texts: Sequence[str]) -> Start:
    """What the preset itself starts from: published or packaged encoders, or nothing.

    Args:
        preset: What to train.
        seed: Seed of what is random.
        encoders: Folder of the published encoder weights.
        texts: Training sentences, whose words a compact version shall know.

    Raises:
        ValueError: Weights are missing or do not fit.
    """
    model = seeded(preset, seed, encoders, texts if preset.own_words else ())
    start = preset.encoders
    names = ", ".join(name for name in vars(start).values() if name) if start else ""
    return Start(model, f"encoders of {names}" if names else "trained from scratch")


def start_from(preset: Preset, seed: int, name: str, texts: Sequence[str]) -> Start:
    """Every weight that another model has under the same name and in the same shape; the rest starts at random.

    A model comes with its words: where its text encoder fits, its tokenizer is kept, and a preset that learns its own
    words adds those of the training sentences. The published encoders are not asked for.

    Args:
        preset: What to train.
        seed: Seed of what is random.
        name: Packaged model, folder, or `user/name` on the Hugging Face hub.
        texts: Training sentences.

    Raises:
        ValueError: There is no such model, it has another text encoder, or nothing of it fits.
    """
    source = load_model(name)
    given = source.network.state_dict()
    words = next((key for key in WORD_EMBEDDINGS if key in given), "")
    tokenizer = source.tokenizer.with_words(texts) if preset.own_words else source.tokenizer
    torch.manual_seed(seed)
    model = bare(preset, tokenizer)
    own = model.network.state_dict()
    fits = words in own and own[words].shape[1:] == given[words].shape[1:]
    if not fits and (words not in own or not preset.own_words):  # without its words a paper preset would be nothing
        raise ValueError(f"--init {name}: {source.method} reads words with another text encoder than {preset.name}; a "
                         "model with the same one is accepted")  # fmt: skip
    new = [key for key, tensor in own.items() if key not in given or given[key].shape != tensor.shape]
    taken = {key: tensor for key, tensor in given.items() if key in own and key not in new}
    if fits:
        taken[words], unknown = match_words(own[words], tokenizer, given[words], source.tokenizer)
        new = [key for key in new if key != words]
        if unknown:
            new.append(f"{words} ({unknown} of {tokenizer.size} words)")
    if all(key.endswith("num_batches_tracked") for key in taken):  # counters, which fit anywhere
        raise ValueError(f"--init {name}: none of its {len(given)} tensors fits {preset.name}; a model of the same "
                         "widths is accepted")  # fmt: skip
    model.network.load_state_dict(taken, strict=False)
    return Start(model, f"weights of {name}", tuple(new), len(own))
