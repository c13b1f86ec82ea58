"""One step of every method: divided, in lower precision, clipped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refseg.methods import METHODS
from refseg.training.processes import Processes
from refseg.training.step import Trainee, leaves_out, take_step
from refseg.types import Batch
from tiny import some_input, tiny_network


def batch(expressions=4):
    pixels, tokens, mask, index, targets = some_input(2, expressions)
    order = index.argsort(stable=True)
    ids = tuple(str(i) for i in range(expressions))
    return Batch(pixels, tokens[order], mask[order], index[order], targets[order], ids)


def halves(whole):
    """The same images and expressions in two batches, one image each."""
    parts = []
    for image in range(2):
        chosen = whole.image_index == image
        kept = [name for name, own in zip(whole.ids, chosen.tolist(), strict=True) if own]
        parts.append(Batch(whole.pixels[image : image + 1], whole.tokens[chosen], whole.token_mask[chosen],
                           torch.zeros(len(kept), dtype=torch.long), whole.targets[chosen], tuple(kept)))  # fmt: skip
    return parts


def one_step(method, parts, precision="fp32", clip=0.0, train=True):
    network = tiny_network(method).train(train)
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=16.0)
    losses = take_step(Trainee(network, "cpu", precision), optimiser, scaler, parts, clip, Processes("cpu"))
    return losses, torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("method", ["lgformer", "alignformer"])
def test_a_divided_step_equals_a_whole_one(method):
    """Of the methods without batch statistics; the halves have 2 and 3 expressions, so that shares matter."""
    whole = batch(5)
    losses, weights = one_step(method, [whole])
    divided, same = one_step(method, halves(whole))
    assert [len(part.ids) for part in halves(whole)] == [3, 2]
    assert divided == pytest.approx(losses, rel=1e-4, abs=1e-7)
    torch.testing.assert_close(same, weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_in_lower_precision(method, precision):
    network = tiny_network(method).train()
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=256.0)
    trainee = Trainee(network, "cpu", precision)
    losses = [take_step(trainee, optimiser, scaler, [batch()], 1.0, Processes("cpu"))["loss"] for _ in range(10)]
    assert losses[-1] < 0.95 * losses[0]
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(("method", "expected"), [("lgformer", False), ("lgformer-released", True), ("eavl", False)])
def test_what_never_has_a_gradient_is_found(method, expected):
    """In the released LGFormer the last stage's gates are not read."""
    network = tiny_network(method).train()
    assert leaves_out(Trainee(network, "cpu", "fp32"), batch()) == expected
    sum(Trainee(network, "cpu", "fp32")(batch()).values()).backward()
    assert any(p.requires_grad and p.grad is None for p in network.parameters()) == expected


def test_precisions_differ_in_rounding_alone():
    exact, _ = one_step("lgformer", [batch()])
    for precision in ("bf16", "fp16"):
        rounded, _ = one_step("lgformer", [batch()], precision)
        assert rounded["loss"] != exact["loss"]
        assert rounded == pytest.approx(exact, rel=0.02)


def test_the_gradient_is_clipped_and_its_norm_before_that_is_said():
    losses, free = one_step("lgformer", [batch()])
    clipped, bound = one_step("lgformer", [batch()], clip=losses["gradient"] / 4)
    start = torch.cat([p.detach().flatten() for p in tiny_network("lgformer").parameters()])
    assert clipped["gradient"] == losses["gradient"]
    torch.testing.assert_close(bound - start, (free - start) / 4, rtol=1e-3, atol=3e-7)


def test_float16_leaves_out_a_step_whose_gradient_overflows():
    """Inside the scaled range of float16 the gradient is infinite: the weights stay, the scale shrinks."""
    network = tiny_network("lgformer").train()
    before = [p.detach().clone() for p in network.parameters()]
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    take_step(Trainee(network, "cpu", "fp16"), optimiser, scaler, [batch()], 1.0, Processes("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert scaler.get_scale() == 2.0**59
    small = torch.amp.GradScaler("cpu", init_scale=0.5)  # where the scale is not to blame, it stops as elsewhere
    optimiser.param_groups[0]["params"][0].register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match="^gradient nan on 0, 1, 2, 3$"):
        take_step(Trainee(network, "cpu", "fp16"), optimiser, small, [batch()], 1.0, Processes("cpu"))


def test_expressions_with_a_bad_loss_are_named():
    network = tiny_network("lgformer").train()
    good, bad = halves(replace(batch(), ids=("a", "b", "c", "d")))
    bad = replace(bad, pixels=bad.pixels * float("nan"))
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(FloatingPointError, match="^loss nan on c, d$"):
        take_step(Trainee(network, "cpu", "fp32"), optimiser, torch.amp.GradScaler("cpu", enabled=False), [good, bad],
                  0.0, Processes("cpu"))  # fmt: skip
