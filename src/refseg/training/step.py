"""One step of the optimiser, over the batches of one process and together with the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from refseg.methods import Segmenter
from refseg.training.checkpoint import random_state
from refseg.training.processes import Processes
from refseg.types import Batch, Output

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainee(nn.Module):
    """A method from a batch to the named terms of its loss: the one module whose gradients are averaged.

    Args:
        network: The method.
        device_type: "cpu" or "cuda".
        precision: What the network computes in; the loss is computed in float32.
    """

    def __init__(self, network: Segmenter, device_type: str, precision: Precision) -> None:
        super().__init__()
        self.network, self.device_type, self.dtype = network, device_type, PRECISIONS[precision]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms for T expressions, each a mean over them."""
        network = self.network
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            image = network.encode_image(batch.pixels)
            output = network(image, network.encode_text(batch.tokens, batch.token_mask), batch.image_index)
        aux = {name: x.float() if x.is_floating_point() else x for name, x in output.aux.items()}
        return network.loss(Output(output.logits.float(), aux), batch.targets)


def leaves_out(trainee: nn.Module, batch: Any) -> bool:
    """Whether a trainable parameter has no part in the loss; of those the processes must not wait for a gradient."""
    loss = sum(trainee(batch).values())
    assert isinstance(loss, Tensor)
    seen, reached, ahead = set(), set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            reached.add(getattr(node, "variable", None))
            ahead += [following for following, _ in node.next_functions]
    return any(parameter.requires_grad and parameter not in reached for parameter in trainee.parameters())


def take_step(
    trainee: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: Sequence[Any],
    clip: float,
    team: Processes,
) -> dict[str, float]:
    """One step over the expressions of all processes.

    Every part counts by its share of all expressions, so that losses and gradients are those of the whole step however
    it is divided, as far as a loss is a mean over expressions.

    Args:
        trainee: What `Processes.share` made of a `Trainee`.
        optimiser: Over its parameters.
        scaler: For float16; switched off otherwise.
        parts: This process's batches of the step.
        clip: Largest norm of the gradient; 0 is no limit.
        team: The processes.

    Returns:
        `loss`, its terms, the `gradient`'s norm before it is clipped, and the learning `rate` of the first group.

    Raises:
        FloatingPointError: The loss or the gradient is not finite; the weights are as they were.
    """
    total = team.total([sum(len(part.ids) for part in parts)])[0]
    optimiser.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    bad: list[str] = []
    for number, part in enumerate(parts):
        share = len(part.ids) / total
        with team.alone(trainee) if number + 1 < len(parts) else nullcontext():
            terms = trainee(part.to(team.device))
            loss = sum(terms.values())
            assert isinstance(loss, Tensor)
            # The processes' gradients are averaged, but the shares are of the sum.
            scaler.scale(loss * (share * team.count)).backward()
        for name, term in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0.0) + share * float(term.detach())
        if not math.isfinite(float(loss.detach())):
            bad += part.ids
    losses = dict(zip(sums, team.total(list(sums.values())), strict=True))
    if not math.isfinite(losses["loss"]):
        raise FloatingPointError(f"loss {losses['loss']} on {_names(bad, team)}")
    scaler.unscale_(optimiser)
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(parameters, clip or math.inf))
    # With float16 the scaler leaves such a step out and shrinks its scale, but below 1 that is not what was wrong.
    if not math.isfinite(norm) and (not scaler.is_enabled() or scaler.get_scale() < 1):
        raise FloatingPointError(f"gradient {norm} on {_names([name for part in parts for name in part.ids], team)}")
    scaler.step(optimiser)
    scaler.update()
    return {**losses, "gradient": norm, "rate": optimiser.param_groups[0]["lr"]}


def _names(ids: Sequence[str], team: Processes) -> str:
    """The expressions that every process names; all of them must ask."""
    return ", ".join(name for own in team.gather(list(ids)) for name in own)


class Before:
    """What a step changes in a network before the optimiser does: running means, and what was drawn at random."""

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self.random = random_state(device)
        self._buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]

    def put_back(self) -> None:
        """Undoes what the step changed; random states are the caller's to put back."""
        for buffer, value in self._buffers:
            buffer.copy_(value)
