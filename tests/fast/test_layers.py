"""Every layer that only answers gives what the layer that learns gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import refseg.fast.convolution
import refseg.fast.linear
from naive_sampling import naive
from refseg.encoders.swin import SwinBlock
from refseg.fast.attention import ReadyAttention
from refseg.fast.choice import has_int8
from refseg.fast.convolution import ReadyConv, has_nnpack, ready_conv
from refseg.fast.deformable import ReadyDeformable, sum_of_rows
from refseg.fast.linear import HalfLinear, Int8Linear, ReadyLinear, has_onednn, ready_linear
from refseg.fast.windows import ReadyBlock
from refseg.layers.deformable import DeformableAttention, reference_points

needs_int8 = pytest.mark.skipif(not has_int8(), reason="this processor has no int8 instructions")
needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN")
needs_nnpack = pytest.mark.skipif(not has_nnpack(), reason="this torch or processor has no NNPACK")
KINDS = [
    pytest.param(ReadyLinear, 1e-6, marks=needs_onednn),
    pytest.param(HalfLinear, 6e-3),
    pytest.param(Int8Linear, 1.2e-2, marks=needs_int8),
]


@pytest.fixture(autouse=True)
def _answering():
    with torch.inference_mode():
        yield


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    """How far from it, as a share of its length."""
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (7, 40), (3, 5, 40)])
@pytest.mark.parametrize(("kind", "least"), KINDS)
def test_linear(kind, least, shape, bias):
    linear = nn.Linear(40, 24, bias=bias)
    x = torch.randn(shape) * 3 + 1
    found = kind(linear)(x)
    exact = x.double() @ linear.weight.double().t() + (linear.bias.double() if bias else 0)
    assert found.shape == (*shape[:-1], 24) and found.dtype == torch.float32
    assert off(found, exact) < least


@needs_int8
def test_int8_of_a_row_does_not_depend_on_the_rows_beside_it():
    layer = Int8Linear(nn.Linear(64, 32))
    row = torch.randn(1, 64)
    huge = torch.cat([row, 1000 * torch.randn(9, 64)])
    torch.testing.assert_close(layer(huge)[:1], layer(row), rtol=1e-6, atol=1e-6)


@needs_int8
def test_int8_of_nothing_and_of_what_is_no_number():
    linear = nn.Linear(16, 8)
    with torch.no_grad():
        linear.weight[3] = 0
    layer = Int8Linear(linear)
    torch.testing.assert_close(layer(torch.zeros(2, 16)), linear.bias.expand(2, -1))
    assert float(layer(torch.randn(5, 16))[:, 3].sub(linear.bias[3]).abs().max()) < 1e-6
    found = layer(torch.cat([torch.full((1, 16), torch.nan), torch.ones(1, 16)]))
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_a_small_or_another_linear_stays_as_it_is(monkeypatch):
    small, exact = nn.Linear(8, 8), nn.Linear(512, 512).double()
    assert ready_linear(small, "fp32") is small and ready_linear(exact, "bf16") is exact
    large = nn.Linear(512, 512)
    monkeypatch.setattr(refseg.fast.linear, "has_onednn", lambda: False)
    assert ready_linear(large, "fp32") is large


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("shift", [0, 2])
def test_block(images, shift):
    block = SwinBlock(24, 3, 4, shift, 2.0, 0.0).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    ready = ReadyBlock(block, "fp32")
    for size in ((8, 12), (9, 6), (3, 3), (8, 12)):  # whole windows, padded ones, less than one
        x = torch.randn(images, size[0] * size[1], 24)
        torch.testing.assert_close(ready(x, size), block(x, size), rtol=1e-4, atol=1e-4)


@needs_nnpack
@pytest.mark.parametrize("size", [(8, 8), (9, 17), (30, 31), (3, 40)])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(size, bias):
    conv = nn.Conv2d(64, 70, 3, padding=1, bias=bias)
    x = torch.randn(2, 64, *size)
    ready = ready_conv(conv)
    assert isinstance(ready, ReadyConv)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double() if bias else None, padding=1)
    assert off(ready(x), exact) < 1e-4


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 3, padding=1).double(),
        nn.Conv2d(8, 8, 3, padding=1),
    ],
)
def test_other_convolutions_stay_as_they_are(conv):
    assert ready_conv(conv) is conv


def test_a_build_without_nnpack_convolves_as_before(monkeypatch):
    monkeypatch.setattr(refseg.fast.convolution, "has_nnpack", lambda: False)
    conv = nn.Conv2d(64, 64, 3, padding=1)
    assert ready_conv(conv) is conv


def test_sum_of_rows_equals_published_numbers(reference):
    t = reference("deformable_attention")
    sizes = [tuple(size) for size in t["core.spatial_shapes"].tolist()]
    x, y = cells(t["core.sampling_locations"], sizes)
    found = sum_of_rows(t["core.value"], sizes, x, y, t["core.attention_weights"])
    torch.testing.assert_close(found, t["core.output"], rtol=1e-4, atol=1e-5)


def test_sum_of_rows_equals_a_naive_loop_also_outside_and_on_the_edge():
    sizes = [(3, 4), (2, 1)]
    value = torch.randn(2, 14, 2, 3)
    locations = torch.rand(2, 4, 2, 2, 2, 2) * 2.4 - 0.7
    locations[0, 0] = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5], [-9.0, 30.0]]])
    weights = torch.rand(2, 4, 2, 2, 2)
    found = sum_of_rows(value, sizes, *cells(locations, sizes), weights)
    torch.testing.assert_close(found, naive(value, sizes, locations, weights), rtol=1e-4, atol=1e-5)


def cells(locations, sizes):
    """(B, Q, N, V, K, 2) places between 0 and 1 to cells of their level."""
    side = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float32)[:, None]
    at = locations * side - 0.5
    return at[..., 0], at[..., 1]


@pytest.mark.parametrize("batch", [1, 2])
def test_deformable_attention(batch):
    module = DeformableAttention(32, 3, 4, 2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    sizes = [(2, 3), (4, 6), (8, 12)]
    places = reference_points(sizes, torch.device("cpu"))[None, :, None]
    query, value = torch.randn(batch, 126, 32), torch.randn(batch, 126, 32)
    found = ReadyDeformable(module, "fp32")(query, places, value, sizes)
    torch.testing.assert_close(found, module(query, places, value, sizes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 90), (90, 3), (40, 50), (2, 2)])
@pytest.mark.parametrize("width", [64, 48])
def test_attention(width, queries, keys, padded):
    module = nn.MultiheadAttention(64, 4, kdim=width, vdim=width, batch_first=True).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    padding = None
    if padded:
        padding = torch.rand(3, keys) > 0.5
        padding[:, 0] = False
    query, key, value = torch.randn(3, queries, 64), torch.randn(3, keys, width), torch.randn(3, keys, width)
    ready = ReadyAttention(module, "fp32")
    for asked in (False, True):
        expected = module(query, key, value, key_padding_mask=padding, need_weights=asked)
        found = ready(query, key, value, key_padding_mask=padding, need_weights=asked)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_threads_with_images_of_other_sizes_do_not_mix_their_masks():
    block = SwinBlock(24, 3, 4, 2, 2.0, 0.0).eval()
    ready = ReadyBlock(block, "fp32")
    asked = [(size, torch.randn(1, size[0] * size[1], 24)) for size in ((8, 12), (12, 8), (8, 8), (9, 7))]
    expected = [block(x, size) for size, x in asked]

    def ask(number):
        with torch.inference_mode():
            return [ready(asked[(number + k) % 4][1], asked[(number + k) % 4][0]) for k in range(40)]

    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(ask, range(4))):
            for k, each in enumerate(found):
                torch.testing.assert_close(each, expected[(number + k) % 4], rtol=1e-4, atol=1e-4)
