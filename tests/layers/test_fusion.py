from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from published import PWAM_NAMES
from refseg.layers.fusion import PWAM, VLBA, VLF, Gate, instance_norm

VLBA_NAMES = {
    "query": "image_lang_att.query.0", "key": "image_lang_att.key", "word_value": "image_lang_att.value",
    "pixel_out": "image_lang_att.W.0", "pixel_value": "image_lang_att.sym_value.0",
    "word_out": "image_lang_att.sym_W", "pixel_branch": "vis_project.0", "word_branch": "lang_project.0",
    "pixel_fuse.0": "project_mm.0", "pixel_fuse.2": "project_mm.3", "word_fuse.0": "sym_project_mm.0",
    "word_fuse.2": "sym_project_mm.3", "pixel_gate.0": "res_gate.0", "pixel_gate.2": "res_gate.2",
    "word_gate.0": "sym_res_gate.0", "word_gate.2": "sym_res_gate.2",
}  # fmt: skip


def published(tensors, names):
    """Published 1x1 convolutions as Linear weights under our names."""
    found = {}
    for ours, theirs in names.items():
        for kind in ("weight", "bias"):
            tensor = tensors.get(f"weights.{theirs}.{kind}")
            if tensor is not None:
                found[f"{ours}.{kind}"] = tensor.squeeze(-1) if tensor.dim() == 3 else tensor
    return found


def test_vlba_equals_published_numbers(reference):
    t = reference("vlba")
    module = VLBA(12, 16)
    module.load_state_dict(published(t, VLBA_NAMES))
    fused = module(t["input.visual"], t["input.words"], t["input.word_mask"].bool())
    for ours, theirs in (
        (fused.pixels, "visual"), (fused.words, "words"), (fused.pixel_residual, "visual_fused"),
        (fused.word_residual, "words_fused"),
    ):  # fmt: skip
        torch.testing.assert_close(ours, t[f"output.{theirs}"], rtol=1e-4, atol=1e-5)


def test_pwam_equals_published_numbers(reference):
    t = reference("pwam")
    module = PWAM(16, 12)
    missing, unexpected = module.load_state_dict(published(t, PWAM_NAMES), strict=False)
    assert set(missing) == {"gate.0.weight", "gate.2.weight"} and not unexpected
    residual = module.attend(t["input.visual"], t["input.words"], t["input.word_mask"].bool())
    torch.testing.assert_close(residual, t["output"], rtol=1e-4, atol=1e-5)


def inputs():
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    return torch.randn(2, 20, 8), torch.randn(2, 5, 12), mask


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_padded_words_change_nothing_and_stay_zero(heads):
    pixels, words, mask = inputs()
    module = VLBA(8, 12, heads)
    first = module(pixels, words, mask)
    second = module(pixels, torch.where(mask[..., None], words, torch.full_like(words, 9.0)), mask)
    torch.testing.assert_close(first.pixels, second.pixels)
    torch.testing.assert_close(first.words, second.words)
    assert not first.words[1, 2:].any()


def test_closed_gates_leave_pixels_and_words_as_they_are():
    pixels, words, mask = inputs()
    module = VLBA(8, 12)
    for gate in (module.pixel_gate, module.word_gate):
        nn.init.zeros_(gate[2].weight)
    fused = module(pixels, words, mask)
    assert torch.equal(fused.pixels, pixels)
    assert torch.equal(fused.words, words * mask[..., None])


@pytest.mark.parametrize("module", [VLBA(8, 12), PWAM(8, 12)], ids=["vlba", "pwam"])
def test_gates_are_not_dead_after_initialisation(module):
    pixels, words, mask = inputs()
    fused = module(pixels, words, mask)
    (fused.pixels.square().sum() + fused.words.square().sum()).backward()
    for name, part in module.named_modules():
        if isinstance(part, Gate):
            assert float(part[0].weight.grad.abs().max()) > 0, name
            assert float(part[2].weight.grad.abs().max()) > 0, name


def test_gates_start_small_and_projections_as_convolutions_do():
    module = VLBA(256, 256)
    default = float(nn.Conv1d(256, 256, 1).weight.detach().std())
    assert float(module.pixel_gate[0].weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    for projection in (module.query, module.word_out, module.pixel_fuse[2]):
        assert float(projection.weight.detach().std()) == pytest.approx(default, rel=0.1)


def test_without_word_update_the_words_pass_through_and_their_half_is_not_built():
    pixels, words, mask = inputs()
    module = VLBA(8, 12, update_words=False)
    assert torch.equal(module(pixels, words, mask).words, words)
    assert not any(name.startswith("word_") and name != "word_value.weight" and name != "word_value.bias"
                   for name, _ in module.named_parameters())  # fmt: skip


def test_instance_norm_equals_torch():
    x = torch.randn(3, 50, 6) * 4 + 2
    expected = nn.InstanceNorm1d(6)(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(instance_norm(x), expected)


def normalised(x):
    """(P, C) over its pixels, written out."""
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


def read_by_heads(queries, keys, values, heads):
    """Attention of one expression, head by head: (X, C) queries, (L, C) keys and (L, D) values."""
    size, width = keys.shape[1] // heads, values.shape[1] // heads
    parts = []
    for head in range(heads):
        own, wide = slice(head * size, (head + 1) * size), slice(head * width, (head + 1) * width)
        scores = queries[:, own] @ keys[:, own].T / keys.shape[1] ** 0.5
        parts.append(scores.softmax(-1) @ values[:, wide])
    return torch.cat(parts, 1)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("pixels", [5, 40])  # fewer and more than there are channels
def test_what_is_normalised_without_being_made_equals_the_equations(heads, pixels):
    torch.manual_seed(heads + pixels)
    module, pwam = VLBA(8, 12, heads).double(), PWAM(8, 12, heads).double()
    visual, words = torch.randn(1, pixels, 8).double() * 3 + 1, torch.randn(1, 5, 12).double()
    mask = torch.tensor([[True, True, True, False, False]])
    fused, residual = module(visual, words, mask), pwam.attend(visual, words, mask)
    v, real = visual[0], words[0, :3]
    query = normalised(v @ module.query.weight.T)
    key = torch.cat([module.key(real), torch.zeros(2, 8).double()])  # padding takes part in no softmax over words
    gathered = read_by_heads(query, module.key(real), module.word_value(real), heads)
    gathered = normalised(gathered @ module.pixel_out.weight.T)
    joined = module.pixel_fuse(torch.cat([F.gelu(module.pixel_branch(v)), gathered], 1))
    torch.testing.assert_close(fused.pixel_residual[0], joined)
    seen = normalised(v @ module.pixel_value.weight.T)
    returned = module.word_out(read_by_heads(key, query, seen, heads))[:3]
    branch = F.gelu(module.word_branch(real))
    torch.testing.assert_close(fused.word_residual[0, :3], module.word_fuse(torch.cat([branch, returned], 1)))
    query = normalised(v @ pwam.query.weight.T)
    read = read_by_heads(query, pwam.key(real), pwam.value(real), heads)
    read = normalised(read @ pwam.out.weight.T)
    torch.testing.assert_close(residual[0], F.gelu(pwam.fuse(F.gelu(pwam.pixel_branch(v)) * read)))


def test_heads_must_divide_the_widths():
    with pytest.raises(ValueError, match="3 heads"):
        VLBA(8, 12, 3)
    with pytest.raises(ValueError, match="3 heads"):
        PWAM(8, 12, 3)


def attention_by_hand(query, key, words, mask, heads, normed):
    """softmax(QK^T / sqrt(C)) of each expression over its real words alone, the mean of the heads."""
    found = torch.zeros(query.shape[0], query.shape[1], words.shape[1])
    for t in range(len(words)):
        q, k = query[t], key[t][mask[t]]
        if normed:
            q = (q - q.mean(0)) / (q.var(0, correction=0) + 1e-5).sqrt()
        for one, other in zip(q.chunk(heads, 1), k.chunk(heads, 1), strict=True):
            shares = (one @ other.T / q.shape[1] ** 0.5).exp()
            found[t][:, mask[t]] += shares / shares.sum(1, keepdim=True) / heads
    return found


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("kind", [VLBA, PWAM, VLF])
@torch.no_grad()
def test_the_attention_that_is_shown_is_that_of_the_papers(kind, heads):
    if kind is VLF and heads > 1:
        return
    module = VLF(8, 12) if kind is VLF else kind(8, 12, heads)
    pixels, words, mask = inputs()
    for parameter in module.parameters():
        parameter.normal_(std=0.5)
    shown = module(pixels, words, mask, True)
    expected = attention_by_hand(
        pixels @ module.query.weight.T, module.key(words), words, mask, heads, normed=kind is not VLF
    )
    torch.testing.assert_close(shown.attention, expected, rtol=1e-4, atol=1e-5)
    plain = module(pixels, words, mask)
    assert plain.attention is None and torch.equal(plain.pixels, shown.pixels)
