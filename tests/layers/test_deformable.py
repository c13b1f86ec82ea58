from __future__ import annotations

import torch

from naive_sampling import naive
from refseg.layers.deformable import DeformableAttention, deformable_attention, reference_points


def test_core_equals_published_numbers_in_values_and_gradients(reference):
    t = reference("deformable_attention")
    sizes = [tuple(size) for size in t["core.spatial_shapes"].tolist()]
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = (t[f"core.{name}"].clone().requires_grad_() for name in names)
    output = deformable_attention(value, sizes, locations, weights)
    torch.testing.assert_close(output, t["core.output"], rtol=1e-4, atol=1e-5)
    output.backward(t["core.grad_output"])
    for tensor, name in zip((value, locations, weights), names, strict=True):
        torch.testing.assert_close(tensor.grad, t[f"core.grad_{name}"], rtol=1e-4, atol=1e-5)


def test_module_equals_published_numbers(reference):
    t = reference("deformable_attention")
    module = DeformableAttention(32, levels=3, heads=4, points=4)
    prefix = "module.weights."
    module.load_state_dict({k.removeprefix(prefix): v for k, v in t.items() if k.startswith(prefix)})
    sizes = [tuple(size) for size in t["module.spatial_shapes"].tolist()]
    output = module(t["module.query"], t["module.reference_points"], t["module.input_flatten"], sizes)
    torch.testing.assert_close(output, t["module.output"], rtol=1e-4, atol=1e-5)


def test_core_equals_a_naive_loop_also_outside_the_map():
    sizes = [(3, 4), (2, 2)]
    value = torch.randn(1, 16, 2, 3)
    locations = torch.rand(1, 3, 2, 2, 2, 2) * 1.6 - 0.3
    weights = torch.rand(1, 3, 2, 2, 2)
    expected = naive(value, sizes, locations, weights)
    torch.testing.assert_close(deformable_attention(value, sizes, locations, weights), expected)


def test_starts_nearly_uniform_on_the_compass():
    module = DeformableAttention(16, levels=3, heads=8, points=4)
    bias = module.sampling_offsets.bias.detach().view(8, 3, 4, 2)
    assert not module.sampling_offsets.weight.any() and not module.attention_weights.bias.any()
    # Not exactly: with weights of 0 the query would learn nothing in the first step.
    assert 0 < module.attention_weights.weight.abs().max() < 0.1
    for point in range(4):
        lengths = bias[:, :, point].abs().amax(-1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, point + 1.0))
    assert len({tuple(round(x, 3) for x in row) for row in bias[:, 0, 0].tolist()}) == 8


def test_reference_points_are_pixel_centres_x_first():
    points = reference_points([(1, 2), (2, 1)], torch.device("cpu"))
    torch.testing.assert_close(points, torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]))


def test_stays_float32_under_autocast():
    module = DeformableAttention(16, levels=1, heads=2, points=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(1, 4, 16)
        assert module(x, reference_points([(2, 2)], x.device)[None, :, None], x, [(2, 2)]).dtype == torch.float32
