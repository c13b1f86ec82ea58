"""A checkpoint is what was written, or it is passed over."""

from __future__ import annotations

import random

import pytest
import torch
from child import run_in, weights

from refseg.training.checkpoint import checkpoints, load_checkpoint
from refseg.training.loop import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps with checkpoints of steps 2 and 4, and its weights."""
    run = run_in(tmp_path_factory.mktemp("run") / "out", steps=4, random=False)
    return run, weights(train(run))


def tensors_of(value, path=()):
    """Every tensor in a tree, with what holds it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        if isinstance(inner, torch.Tensor):
            yield value, key, (*path, key)
        else:
            yield from tensors_of(inner, (*path, key))


@pytest.mark.slow
def test_any_number_that_was_changed_is_noticed(trained, tmp_path):
    """The archive's own checksums are made anew here, as a faulty disk cache or another program would."""
    newest = checkpoints(trained[0].out)[-1]
    chance = random.Random(0)
    whole = torch.load(newest, weights_only=True)
    places = [place for place in tensors_of(whole) if place[1] is not None and place[0][place[1]].numel()]
    assert len(places) > 100
    for _, _, path in chance.sample(places, 12):
        content = torch.load(newest, weights_only=True)
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        tensor = holder[path[-1]]
        flat = tensor.reshape(-1).clone()
        bits = flat.view(torch.uint8)
        bits[chance.randrange(len(bits))] ^= 1 << chance.randrange(8)
        holder[path[-1]] = flat.reshape(tensor.shape)
        torch.save(content, tmp_path / newest.name)
        with pytest.raises(ValueError, match="is not what was written|not a checkpoint"):
            load_checkpoint(tmp_path / newest.name)


@pytest.mark.slow
def test_flipped_bits_of_the_file_are_noticed_or_change_nothing(trained, tmp_path):
    newest = checkpoints(trained[0].out)[-1]
    content, chance = newest.read_bytes(), random.Random(1)
    whole = load_checkpoint(newest)
    refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        (tmp_path / newest.name).write_bytes(damaged)
        try:
            found = load_checkpoint(tmp_path / newest.name)
        except ValueError as error:
            assert newest.name in str(error)
            refused += 1
            continue
        assert all(
            torch.equal(one[key], other[name])
            for (one, key, _), (other, name, _) in zip(tensors_of(found.parts), tensors_of(whole.parts), strict=True)
        )
    assert refused > 25


@pytest.mark.parametrize("part", ["run", "parts", "random", "hashes", "format"])
def test_without_a_part_it_is_none_and_the_one_before_is_taken(trained, tmp_path, part):
    run, expected = trained
    *_, newest = checkpoints(run.out)
    whole = newest.read_bytes()
    content = torch.load(newest, weights_only=True)
    content[part] = 5
    try:
        torch.save(content, newest)
        with pytest.warns(UserWarning, match="the one before it is taken"):
            assert torch.equal(weights(train(run, resume=True)), expected)
    finally:
        newest.write_bytes(whole)
