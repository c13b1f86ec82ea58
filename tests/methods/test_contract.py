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


def test_details_are_what_they_say(name):
    """Shapes, shares that add up to 1 over real words alone, and the answer made of its parts."""
    network = tiny_network(name).eval()
    pixels, tokens, mask, index, _ = some_input()
    text = network.encode_text(tokens, mask)
    image = network.encode_image(pixels)
    output, plain = network(image, text, index, True), network(image, text, index)
    torch.testing.assert_close(output.logits, plain.logits, rtol=1e-5, atol=1e-6)
    assert not plain.details
    found, length = output.details, text.mask.shape[1]
    assert all(len(each) == 3 and torch.isfinite(each).all() for each in found.values())
    fusions = getattr(network.encoder, "fusions", ())
    fused = {
        f"fusion_attention_{n}" for n, fusion in enumerate(fusions, 1) if not isinstance(fusion, torch.nn.Identity)
    }
    assert {key for key in found if key.startswith("fusion_attention_")} == fused
    for key in fused:
        side = SIZE[0] // 2 ** (1 + int(key[-1]))
        assert found[key].shape == (3, length, side, side)
        torch.testing.assert_close(found[key].sum(1), torch.ones(3, side, side))
        assert found[key].transpose(0, 1)[~text.mask.T].max() < 1e-6
    for key in ("masks_by_layer", "masks_by_stage"):
        if key in found:
            assert torch.equal(found[key][:, -1:], output.logits)
    if "query_scores" in found:
        weighted = sum(
            found["query_scores"][:, q, None, None] * m for q, m in enumerate(found["query_masks"].unbind(1))
        )
        torch.testing.assert_close(weighted, output.logits[:, 0], rtol=1e-4, atol=1e-5)
    if "similarity" in found:
        assert found["similarity"].shape[2:] == output.logits.shape[2:] and found["similarity"].abs().max() <= 1 + 1e-5
    for key in ("word_attention", "word_attention_by_layer"):
        if key in found and found[key].ndim < 4 + (key == "word_attention_by_layer"):
            torch.testing.assert_close(found[key].sum(-1), torch.ones(found[key].shape[:-1]))
    if "query_maps_by_layer" in found:
        assert found["query_maps_by_layer"].shape[:3] == found["word_attention_by_layer"].shape[:3]


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
