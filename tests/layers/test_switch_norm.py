from __future__ import annotations

import math

import pytest
import torch

from refseg.layers.switch_norm import SwitchNorm2d


def published(tensors):
    norm = SwitchNorm2d(6)
    norm.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
    return norm


def test_equals_published_numbers_in_training_and_in_evaluation_behind_it(reference):
    t = reference("switch_norm")
    norm = published(t).train()
    torch.testing.assert_close(norm(t["input"]), t["output.train"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, t["after_train.running_mean"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, t["after_train.running_var"], rtol=1e-5, atol=1e-6)
    norm.eval()
    torch.testing.assert_close(norm(t["input"]), t["output.eval_after_train"], rtol=1e-4, atol=1e-5)


def test_buffers_have_the_published_shape_and_start_at_zero():
    norm = SwitchNorm2d(5)
    for buffer in (norm.running_mean, norm.running_var):
        assert buffer.shape == (1, 5, 1) and not buffer.any()
    assert norm.mean_weight.tolist() == norm.var_weight.tolist() == [1.0, 1.0, 1.0]
    assert norm.weight.shape == norm.bias.shape == (1, 5, 1, 1)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["instance", "layer", "batch"])
def test_one_hot_weights_give_instance_layer_or_batch_norm_with_unbiased_instances(kind):
    """The variance of a pool of instances: mean of their unbiased variances plus the variance of their means."""
    norm = SwitchNorm2d(3).train()
    chosen = torch.full((3,), -200.0)
    chosen[kind] = 200.0
    norm.mean_weight.data.copy_(chosen)
    norm.var_weight.data.copy_(chosen)
    x = torch.randn(4, 3, 5, 2) * 3 + torch.randn(4, 3, 1, 1) * 2 + 1
    found = norm(x)
    for n in range(4):
        for c in range(3):
            pool = {0: x[n : n + 1, c : c + 1], 1: x[n : n + 1], 2: x[:, c : c + 1]}[kind]
            instances = pool.flatten(0, 1).flatten(1).tolist()
            means = [sum(pixels) / 10 for pixels in instances]
            unbiased = [sum((v - m) ** 2 for v in pixels) / 9 for pixels, m in zip(instances, means, strict=True)]
            mean = sum(means) / len(means)
            variance = sum(unbiased) / len(means) + sum((m - mean) ** 2 for m in means) / len(means)
            expected = (x[n, c] - mean) / math.sqrt(variance + 1e-5)
            torch.testing.assert_close(found[n, c], expected, rtol=1e-4, atol=1e-5)
    if kind == 2:  # and that is nearly the batch norm everybody knows: with N large maps the factor HW/(HW-1) goes to 1
        large = torch.randn(2, 3, 60, 60)
        torch.testing.assert_close(norm(large), torch.nn.BatchNorm2d(3)(large).detach(), rtol=1e-3, atol=1e-3)


def test_means_and_variances_are_mixed_before_the_division():
    norm = SwitchNorm2d(2).train()
    norm.mean_weight.data.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    norm.var_weight.data.copy_(torch.tensor([0.1, 0.2, 0.7]).log())
    norm.weight.data.fill_(2.0)
    norm.bias.data.fill_(-1.0)
    # Two items, two channels, two pixels: instance means 1 3 / 5 7, unbiased variances 2 2 / 2 2.
    x = torch.tensor([[[0.0, 2.0], [2.0, 4.0]], [[4.0, 6.0], [6.0, 8.0]]])[:, :, None]  # (2, 2, 1, 2)
    # Layer of item 0: mean 2, variance 2 + 1. Batch of channel 0: mean 3, variance 2 + 4.
    mean, variance = 0.5 * 1 + 0.3 * 2 + 0.2 * 3, 0.1 * 2 + 0.2 * 3 + 0.7 * 6
    expected = [2 * (value - mean) / math.sqrt(variance + 1e-5) - 1 for value in (0.0, 2.0)]
    assert norm(x)[0, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert norm.running_mean.flatten().tolist() == pytest.approx([0.1 * 3, 0.1 * 5])
    assert norm.running_var.flatten().tolist() == pytest.approx([0.1 * 6, 0.1 * 6])


def test_evaluation_treats_every_item_alone_and_leaves_the_buffers():
    norm = SwitchNorm2d(4).train()
    norm(torch.randn(3, 4, 6, 6) + 2)
    norm.eval()
    before = norm.running_mean.clone(), norm.running_var.clone()
    x = torch.randn(3, 4, 6, 6)
    torch.testing.assert_close(norm(x)[1:2], norm(x[1:2]))
    assert torch.equal(norm.running_mean, before[0]) and torch.equal(norm.running_var, before[1])
    norm.train()
    assert not torch.allclose(norm(x)[1:2], norm(x[1:2]), atol=1e-3)


@pytest.mark.parametrize("items", [1, 2])
def test_one_item_constant_maps_and_bfloat16_stay_finite(items):
    for x in (torch.full((items, 3, 4, 4), 300.0), torch.randn(items, 3, 4, 4) * 1e-6 + 1000):
        norm = SwitchNorm2d(3).train()
        x = x.bfloat16().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = norm(x)
        found.float().square().sum().backward()
        assert found.dtype == torch.bfloat16 and torch.isfinite(found).all()
        assert all(torch.isfinite(p.grad).all() for p in (x, *norm.parameters()))
        assert norm.running_mean.dtype == torch.float32 and torch.isfinite(norm.running_var).all()


def test_bfloat16_is_normalised_in_float32():
    norm = SwitchNorm2d(2).train()
    x = (torch.randn(2, 2, 40, 40) * 0.1 + 100).bfloat16()
    exact = norm(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(norm(x).float(), exact, rtol=1e-2, atol=1e-2)


def test_a_double_network_is_computed_in_double():
    norm, x = SwitchNorm2d(2).double().train(), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    moved = norm(x + 1e6)  # what float32 could not tell apart
    torch.testing.assert_close(moved, SwitchNorm2d(2).double().train()(x), rtol=1e-6, atol=1e-6)
    assert moved.dtype == norm.running_mean.dtype == torch.float64


def test_a_single_pixel_has_no_variance():
    with pytest.raises(ValueError, match="at least 2 pixels"):
        SwitchNorm2d(3)(torch.randn(2, 3, 1, 1))
