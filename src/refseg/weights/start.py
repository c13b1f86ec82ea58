"""The weights that a run, or a preset that is only built, begins with; `first_weights` decides for a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refseg.encoders.clip import ClipResNet
from refseg.encoders.clip_resnet import positions_for
from refseg.encoders.tokenizer import Tokenizer
from refseg.fields import as_record, parse_json, read_text
from refseg.methods import build_network
from refseg.presets.base import Preset, compact_tokenizer, with_vocabulary
from refseg.weights.folders import PACKAGED
from refseg.weights.pretrained import (
    find_clip,
    find_clip_tokenizer,
    find_encoder,
    load_bert,
    load_clip_resnet,
    load_clip_text,
    load_clip_vit,
    load_swin,
    load_tokenizer,
)
from refseg.weights.store import Model, check_hash, load_model, load_strictly, read_tensors

WORD_EMBEDDINGS = (  # of BERT and of CLIP
    "text_encoder.model.embeddings.word_embeddings.weight",
    "text_encoder.model.text_model.embeddings.token_embedding.weight",
)


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


def first_weights(
    preset: Preset,
    seed: int,
    texts: Sequence[str],
    encoders: Path | None = None,
    init: str | None = None,
    words: str | None = None,
) -> Start:
    """The one place that decides what a run begins with.

    Args:
        preset: What to train.
        seed: Seed of what is random.
        texts: Training sentences.
        encoders: Folder of the published encoder weights; see `fresh_start`.
        init: A model to start from instead; see `start_from`.
        words: The tokenizer of a run that goes on; its weights come from its checkpoint.

    Raises:
        ValueError: Weights are missing or do not fit.
    """
    if words is not None:
        return Start(bare(preset, Tokenizer.from_json(words)), "")
    if init is not None:
        return start_from(preset, seed, init, texts)
    return fresh_start(preset, seed, encoders, texts)


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
    names = _names(preset, encoders)
    return Start(model, f"encoders of {', '.join(names)}" if names else "trained from scratch")


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


def build(preset: Preset, encoders: Path | None = None, texts: Sequence[str] = ()) -> Model:
    """Builds a preset, with the weights in its encoders that it starts from.

    Args:
        preset: What to build.
        encoders: Folder that holds the encoder checkpoints by name; without it they come from the hub.
        texts: Sentences whose words a compact version shall know beside those of RefShapes.

    Raises:
        ValueError: A checkpoint is missing or does not fit.
    """
    found = preset.encoders
    if found is None or found.packaged:
        folders = [find_pretrained(name, encoders) for name in _names(preset, encoders)]
        tokenizer = compact_tokenizer(preset, texts)
        network: Any = build_network(preset.method, with_vocabulary(preset, tokenizer).model, preset.name)
        for folder in folders:
            load_pretrained(network, tokenizer, folder)
    elif found.clip:  # whatever is missing is found before the network is built
        clip = find_clip(found.clip, encoders)
        tokenizer = load_tokenizer(find_clip_tokenizer(found, clip, encoders))
        network = build_network(preset.method, preset.model, preset.name)
        load_clip_text(network.text_encoder, clip)
        load_image_tower = load_clip_resnet if isinstance(network.encoder, ClipResNet) else load_clip_vit
        load_image_tower(network.encoder, clip)
    else:
        swin, bert = (find_encoder(hub_id, encoders) for hub_id in (found.swin, found.bert))
        tokenizer = load_tokenizer(bert)
        network = build_network(preset.method, preset.model, preset.name)
        load_swin(network.encoder.swin, swin)
        load_bert(network.text_encoder.model, bert, getattr(network, "pooler", None))
    return Model(preset.name, preset.method, network, preset.input, tokenizer, {})


def seeded(preset: Preset, seed: int, encoders: Path | None = None, texts: Sequence[str] = ()) -> Model:
    """`build` with initial weights that depend on nothing but the seed and the words."""
    torch.manual_seed(seed)
    return build(preset, encoders, texts)


def bare(preset: Preset, tokenizer: Tokenizer) -> Model:
    """A preset with random weights and a tokenizer that is there already; reads no file.

    Raises:
        ValueError: The tokenizer does not fit.
    """
    network = build_network(preset.method, with_vocabulary(preset, tokenizer).model, preset.name)
    return Model(preset.name, preset.method, network, preset.input, tokenizer, {})


def _names(preset: Preset, encoders: Path | None) -> list[str]:
    """What a preset's encoders start from: those of its kind in a folder that is given, or what it names itself."""
    start = preset.encoders
    if start is not None:
        return list(start.packaged) or [name for name in vars(start).values() if name]
    return [] if encoders is None else ["clip-vit-shapes"]  # the one kind that nothing ships for


def find_pretrained(name: str, folder: Path | None) -> Path:
    """The folder of pretrained compact encoders.

    Args:
        name: One of `refseg.weights.folders.ENCODERS`.
        folder: Where they are; None for those that ship.

    Raises:
        ValueError: The folder does not hold them.
    """
    if folder is None:
        return PACKAGED / "encoders" / name
    if not (folder / name / "model.safetensors").is_file():
        raise ValueError(f"--encoders {folder}: holds no {name}/model.safetensors; what `refseg pretrain {name}` wrote "
                         f"into best or last is accepted in a folder {name}")  # fmt: skip
    return folder / name


def load_pretrained(network: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Loads the towers of a folder into a network of the same kind; words they do not know keep their start.

    Raises:
        ValueError: They have another shape there.
    """
    about = folder / "config.json"
    if about.is_file():
        stated = as_record(parse_json(read_text(about), str(about)), str(about))
        check_hash(folder / "model.safetensors", stated.get("sha256"))
    tensors = read_tensors(folder / "model.safetensors")
    words = next((key for key in WORD_EMBEDDINGS if key in tensors), None)
    if words is not None and tensors[words].shape[1:] == network.state_dict()[words].shape[1:]:
        theirs = Tokenizer.from_file(folder / "tokenizer.json")
        tensors[words], _ = match_words(network.state_dict()[words], tokenizer, tensors[words], theirs)
    vision = "encoder.swin." if hasattr(network.encoder, "swin") else "encoder."
    towers = {vision: getattr(network.encoder, "swin", network.encoder), "text_encoder.": network.text_encoder}
    for part, module in towers.items():
        kept = {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
        if getattr(module, "attnpool", True) is None:  # a method that does not read the pool does not build it
            kept = {k: v for k, v in kept.items() if not k.startswith("attnpool.")}
        places = "attnpool.positional_embedding"
        if places in kept:  # it may have seen pictures of another size
            kept[places] = positions_for(kept[places].float(), (module.attnpool.grid, module.attnpool.grid))
        if kept:
            load_strictly(module, kept, f"{part[:-1]} of {folder.name}")


def match_words(own: Tensor, tokenizer: Tokenizer, given: Tensor, theirs: Tokenizer) -> tuple[Tensor, int]:
    """An embedding table with the rows of the words that two vocabularies share, wherever they stand in each.

    Args:
        own: (V, D) the table as it starts.
        tokenizer: Its vocabulary.
        given: (V', D) the other table.
        theirs: Its vocabulary.

    Returns:
        (V, D) as float32, and how many rows of `own` were kept because the other has no such word.
    """
    known = theirs.vocabulary
    pairs = [(row, known[word]) for word, row in tokenizer.vocabulary.items() if word in known]
    rows, places = torch.tensor(pairs).T
    table = own.detach().clone().float()
    table[rows] = given[places].float()
    return table, tokenizer.size - len(pairs)
