"""The weights that a run begins with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from child import run_in

from refseg.encoders.tokenizer import Tokenizer
from refseg.presets import get_preset
from refseg.presets.base import override, shapes_tokenizer
from refseg.training.loop import train
from refseg.weights.start import WORD_EMBEDDINGS, bare, fresh_start, match_words, start_from
from refseg.weights.store import load_model, save_model
from tiny import tiny, tiny_model

WORDS = WORD_EMBEDDINGS[0]


@pytest.fixture
def source(tmp_path):
    """A model on disk."""
    save_model(tiny_model(), tmp_path / "source")
    return str(tmp_path / "source")


def test_the_same_method_starts_with_every_weight(source):
    start = start_from(tiny("lgformer-shapes"), 0, source, ())
    assert start.new == () and start.source == f"weights of {source}"
    own, given = start.model.network.state_dict(), load_model(source).network.state_dict()
    assert len(own) == start.of and all(torch.equal(own[name], given[name]) for name in given)


def test_another_method_takes_what_fits_and_says_what_is_new(source):
    start = start_from(tiny("lavt-shapes"), 0, source, ())
    own, given = start.model.network.state_dict(), load_model(source).network.state_dict()
    assert start.of == len(own) and 0 < len(start.new) < start.of
    for name, tensor in own.items():
        fits = name in given and given[name].shape == tensor.shape
        assert (name not in start.new) == fits
        assert not fits or torch.equal(tensor, given[name])
    assert WORDS not in start.new and any(name.startswith("decoder.") for name in start.new)
    again = start_from(tiny("lavt-shapes"), 0, source, ()).model.network.state_dict()
    assert all(torch.equal(own[name], again[name]) for name in own)  # what is random depends on the seed


def test_a_changed_width_is_new(source):
    preset = tiny("lgformer-shapes")
    wider = replace(preset, model=override(preset.model, {"generator.ffn": 48}))
    new = start_from(wider, 0, source, ()).new
    assert new and all(name.startswith("generator.") and ".ffn." in name for name in new)


def test_new_words_start_at_random_and_old_ones_keep_their_vectors(source):
    start = start_from(tiny("lgformer-shapes"), 0, source, ("the red zebra", "a Zebra crossing."))
    assert start.new == (f"{WORDS} (2 of {shapes_tokenizer().size + 2} words)",)
    tokenizer, table = start.model.tokenizer, start.model.network.state_dict()[WORDS]
    assert tokenizer(["zebra"], 5).mask.sum() == 3  # one word between the ends, and not five letters
    assert torch.equal(table[:-2], load_model(source).network.state_dict()[WORDS])


def test_words_are_matched_wherever_they_stand():
    def vocabulary(*words):
        return Tokenizer.from_json(shapes_tokenizer().with_words(words).to_json())

    own, theirs = vocabulary("zebra", "yak"), vocabulary("yak", "okapi")
    given = torch.arange(float(theirs.size))[:, None]
    table, unknown = match_words(torch.full((own.size, 1), -1.0), own, given, theirs)
    assert unknown == 1 and table[own.vocabulary["zebra"]] == -1
    for word in ("yak", "red", "[SEP]"):
        assert table[own.vocabulary[word]] == theirs.vocabulary[word]


@pytest.mark.parametrize("name", ["lgformer-shapes", "eavl-shapes"])
def test_a_compact_version_learns_the_words_of_its_data(name):
    """Those of RefShapes stay first; both kinds of text encoder."""
    preset = get_preset(name)
    start = fresh_start(preset, 0, None, ["a zebra next to a zebra", "the yak"])
    plain = fresh_start(preset, 0, None, ())
    assert start.model.tokenizer.size - plain.model.tokenizer.size == 3  # zebra, next, yak: "to" is known
    ids = start.model.tokenizer(["the zebra and the yak"], 20).ids[0]
    assert len(ids) == 7 if "and" in plain.model.tokenizer.vocabulary else 9
    if preset.encoders:  # what was packaged is taken over for the words that it knows
        states = [model.network.state_dict() for model in (start.model, plain.model)]
        words = next(key for key in WORD_EMBEDDINGS if key in states[0])
        tables = [state[words] for state in states]
        assert torch.equal(tables[0][:-3], tables[1]) and len(tables[0]) == len(tables[1]) + 3


def test_a_model_of_another_kind_is_refused(source):
    with pytest.raises(ValueError, match="lgformer reads words with another text encoder than eavl-shapes"):
        start_from(tiny("eavl-shapes"), 0, source, ())
    with pytest.raises(ValueError, match="lgformer reads words with another text encoder than lavt; a model with"):
        start_from(get_preset("lavt"), 0, source, ())  # batch norms' counters fit, and are nothing to start from
    with pytest.raises(ValueError, match="model 'nowhere': not found"):
        start_from(tiny("eavl-shapes"), 0, "nowhere", ())


def test_a_run_begins_there_says_what_is_new_and_remembers_it(source, tmp_path):
    said = []
    run = run_in(tmp_path / "run", 2, random=False, init=source)
    lavt = replace(run, preset=replace(tiny("lavt-shapes"), recipe=run.preset.recipe))
    model = train(lavt, say=said.append)
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0 and first["init"] == source and len(first["new_tensors"]) > 10
    count = f"--init {source}: {len(first['new_tensors'])} of {first['of']} tensors are new: "
    assert said[0].startswith(count + first["new_tensors"][0]) and said[0].endswith("log.jsonl names all")
    assert model.training["source"] == f"weights of {source}"
    with pytest.raises(ValueError, match="--init lavt-shapes: the run in .* began with another"):
        train(replace(lavt, init="lavt-shapes"), resume=True)
    train(replace(lavt, init=None), resume=True)  # the checkpoint has all that a stopped run needs
    assert load_model(str(tmp_path / "run" / "last")).training["source"] == f"weights of {source}"


def test_a_resumed_run_reads_its_words_from_the_checkpoint():
    preset = tiny("lgformer-shapes")
    tokenizer = shapes_tokenizer().with_words(["zebra"])
    assert bare(preset, tokenizer).network.config.bert.vocab == tokenizer.size
