"""One expression about one image at paper size: this version against another, in every precision, in turn.

    python -m benchmarks.inference --against ../refseg-before --json

Weights are random (seed 0) and the same for all where the other version can load them, which changes no time. `before`
is the network of the other checkout as its predictor ran it, `plain` this one's before it is made ready to answer,
`fp32`, `bf16` and `int8` what `refseg.fast` makes of it. `off` is how far the log-odds are from `plain`'s, as a share
of their spread over the pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from benchmarks.side_by_side import ROOT, Version, in_turn, machine, rate_of_products, say, told

WORDS = 8


def answer(network: Any, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The log-odds of expressions about one image, which is encoded for them."""
    index = torch.zeros(len(tokens), dtype=torch.long)
    text = network.encode_text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    return network(network.encode_image(pixels), text, index).logits


def measure(
    preset: str, this: Version, before: Version | None, times: int, clock: str, seed: int, parts: bool
) -> dict[str, Any]:
    """Seconds of every contestant, and how far their answers are off."""
    network, config = this.network(preset, seed)
    networks: dict[str, tuple[Version, Any]] = {"plain": (this, network)}
    if before is not None:
        networks = {"before": (before, before.network(preset, seed)[0]), **networks}
    with this:
        from refseg.fast.choice import has_int8
        from refseg.fast.prepare import FORMS, prepared

        for precision in ("fp32", "bf16", *(("int8",) if has_int8() else ())):
            networks[precision] = this, prepared(network, precision)
        for kind, form in FORMS.items() if parts else ():
            networks[f"fp32 {kind.__name__}"] = this, prepared(network, "fp32", {kind: form})
    torch.manual_seed(seed)
    pixels, tokens = torch.randn(1, 3, *config.size), torch.randint(1000, 20000, (1, WORDS))
    logits: dict[str, torch.Tensor] = {}

    def contestant(name: str) -> Any:
        version, its = networks[name]

        def run() -> None:
            with version, torch.inference_mode():
                logits[name] = answer(its, pixels, tokens)

        return run

    seconds = in_turn({name: contestant(name) for name in networks}, times, clock)
    exact, found = logits["plain"], {}
    for name, each in seconds.items():
        found[name] = told(each, seconds["before" if before else "plain"])
        if name != "before":
            found[name]["off"] = round(float((logits[name] - exact).std() / exact.std()), 7)
    return {"preset": preset, "size": list(config.size), "contestants": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another commit of this project")
    parser.add_argument("--preset", action="append", help="lavt and lgformer by default")
    parser.add_argument("--parts", action="store_true", help="also every fast form alone, in fp32")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    this, before = Version(ROOT), None if given.against is None else Version(given.against.resolve())
    for preset in given.preset or ["lavt", "lgformer"]:
        found = measure(preset, this, before, given.times, given.clock, given.seed, given.parts)
        where = machine(given.threads, given.clock) | {"gmacs_per_second": rate_of_products(), "seed": given.seed}
        if before is not None:
            where["against"] = before.commit
        say({"benchmark": "inference", **found, **where}, given.json)


if __name__ == "__main__":
    main()
