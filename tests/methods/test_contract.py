"""The one contract, over every method, preset and ablation row, without a skip list."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradients import check_first_step, check_gradients
from refseg.methods import METHODS, Segmenter
from refseg.presets import presets
from refseg.types import Output
from refseg.weights.store import Model, load_model, save_model
from tiny import SIZE, TOKENIZER, some_input, tiny, tiny_network, wake

NAMES = list(presets())
pytestmark = pytest.mark.parametrize("name", NAMES)


def answer(network: Segmenter, pixels, tokens, mask, index, details=False) -> Output:
    return network(network.encode_image(pixels), network.encode_text(tokens, mask), index, details)


def test_shapes(name):
    network = tiny_network(name).eval()
    pixels, tokens, mask, index, targets = some_input()
    output = answer(network, pixels, tokens, mask, index, details=True)
    assert output.logits.shape[:2] == (3, 1)
    assert tuple(output.logits.shape[2:]) in [(SIZE[0] // stride, SIZE[1] // stride) for stride in (1, 2, 4)]
    assert output.logits.dtype == torch.float32
    assert output.details and not output.aux
    for term in network.loss(output, targets).values():
        assert term.shape == () and torch.isfinite(term)


def test_padding_changes_nothing(name):
    network = tiny_network(name).double().eval()
    wake(network)
    pixels, tokens, mask, index, _ = some_input()
    pixels = pixels.double()
    longer = torch.nn.functional.pad(tokens, (0, 5))
    longer_mask = torch.nn.functional.pad(mask, (0, 5))
    rubbish = torch.where(longer_mask, longer, 7)
    expected = answer(network, pixels, tokens, mask, index).logits
    for other in (longer, rubbish):
        torch.testing.assert_close(
            answer(network, pixels, other, longer_mask, index).logits, expected, rtol=1e-8, atol=1e-8
        )


def test_batch_equals_singles_and_shared_image_equals_separate_calls(name):
    network = tiny_network(name).eval()
    pixels, tokens, mask, index, _ = some_input(images=2, expressions=4)
    together = answer(network, pixels, tokens, mask, index).logits
    for t in range(4):
        one = answer(network, pixels[index[t]][None], tokens[t][None], mask[t][None], torch.zeros(1, dtype=torch.long))
        torch.testing.assert_close(one.logits[0], together[t], rtol=1e-4, atol=1e-5)


def test_other_image_sizes_work(name):
    network = tiny_network(name).eval()
    _, tokens, mask, _, targets = some_input()
    pixels = torch.randn(1, 3, 50, 93)
    output = answer(network, pixels, tokens, mask, torch.zeros(3, dtype=torch.long))
    assert tuple(output.logits.shape) in ((3, 1, 13, 24), (3, 1, 25, 47), (3, 1, 50, 93))
    resized = torch.nn.functional.interpolate(targets[:, None].float(), (50, 93))[:, 0].bool()
    assert all(torch.isfinite(x) for x in network.loss(output, resized).values())


def test_every_parameter_learns_or_is_known_not_to(name):
    check_gradients(tiny_network(name))


def test_every_parameter_learns_from_the_first_step(name):
    check_first_step(tiny_network(name))


def test_frozen_parameters_are_in_no_group_and_all_others_in_one(name):
    network = tiny_network(name)
    grouped = [id(p) for group in network.param_groups(1e-3, 0.01) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters() if p.requires_grad)


def test_saved_and_loaded_gives_the_same_bits(name, tmp_path: Path):
    network, preset = tiny_network(name).eval(), tiny(name)
    save_model(Model(preset.name, preset.method, network, preset.input, TOKENIZER, {}), tmp_path / "m")
    again = load_model(str(tmp_path / "m"))
    assert again.network.config == network.config and again.input == preset.input
    pixels, tokens, mask, index, _ = some_input()
    assert torch.equal(
        answer(network, pixels, tokens, mask, index).logits, answer(again.network, pixels, tokens, mask, index).logits
    )


def test_two_steps_under_bfloat16_stay_finite(name):
    network = tiny_network(name).train()
    optimiser = torch.optim.AdamW(network.param_groups(1e-3, 0.01))
    pixels, tokens, mask, index, targets = some_input()
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = network.loss(answer(network, pixels, tokens, mask, index), targets)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_config_survives_json(name):
    import json
    from dataclasses import asdict

    from refseg.weights.store import config_from_dict

    preset = presets()[name]
    stored = json.loads(json.dumps(asdict(preset.model)))
    assert config_from_dict(METHODS[preset.method][1], stored) == preset.model
