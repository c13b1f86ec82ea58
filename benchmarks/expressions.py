"""Several expressions about one image at paper size: seconds of each, against the least that the products allow.

    python -m benchmarks.expressions --against ../refseg-before --json

`floor` is the share of a single call's multiply-adds that an expression needs when the image is encoded once for all:
(I + T * E) / (T * (I + E)) for T expressions, I and E being the products of the image and of an expression.
`share` is what an expression took of a single call, so that `share / floor` is 1 where only products count.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from benchmarks.inference import WORDS, answer
from benchmarks.side_by_side import ROOT, Version, in_turn, machine, say, told
from torch.utils.flop_counter import FlopCounterMode

COUNTS = (1, 2, 4, 8, 16)


def answers(network: Any, pixels: torch.Tensor, tokens: torch.Tensor, at_once: int) -> None:
    """Encodes an image once and answers expressions about it, some at a time, as a predictor does."""
    encoded = network.encode_image(pixels)
    for some in tokens.split(at_once):
        text = network.encode_text(some, torch.ones_like(some, dtype=torch.bool))
        network(encoded, text, torch.zeros(len(some), dtype=torch.long))


def products(network: Any, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[int, int]:
    """Multiply-adds of the image and of one expression; products of a fixed size per call count as the image's."""
    network.requires_grad_(False)  # which the counter would follow

    def counted(many: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            answer(network, pixels, tokens[:1].expand(many, -1))
        return int(counter.get_total_flops()) // 2

    one, two = counted(1), counted(2)
    return 2 * one - two, two - one


def measure(preset: str, this: Version, before: Version | None, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds by number of expressions, now and before."""
    network, config = this.network(preset, given.seed)
    with this:
        from refseg.fast.choice import answers_alone
        from refseg.fast.prepare import prepared

        ready = prepared(network, given.precision)
        at_once = 1 if answers_alone(network, torch.device("cpu")) else max(COUNTS)
    networks: dict[str, tuple[Version, Any]] = {"now": (this, ready)}
    if before is not None:
        networks["before"] = before, before.network(preset, given.seed)[0]
    torch.manual_seed(given.seed)
    pixels = torch.randn(1, 3, *config.size)
    tokens = torch.randint(1000, 20000, (max(COUNTS), WORDS))
    with this:
        image, each = products(network, pixels, tokens)
    contestants = {}
    for name, (version, its) in networks.items():
        for count in given.count or COUNTS:

            def run(name: str = name, version: Version = version, its: Any = its, count: int = count) -> None:
                with version, torch.inference_mode():
                    answers(its, pixels, tokens[:count], at_once if name == "now" else count)

            contestants[f"{name} {count}"] = run
    seconds = in_turn(contestants, given.times, given.clock)
    single = told(seconds["now 1"])["median"]
    rows = {}
    for count in given.count or COUNTS:
        row: dict[str, Any] = {"now": told(seconds[f"now {count}"], seconds.get(f"before {count}"))}
        if before is not None:
            row["before"] = told(seconds[f"before {count}"])
        row["floor"] = round((image + count * each) / (count * (image + each)), 4)
        row["share"] = round(row["now"]["median"] / count / single, 4)
        rows[str(count)] = row
    return {"preset": preset, "gmacs_image": round(image / 1e9, 2), "gmacs_expression": round(each / 1e9, 2),
        "at_once": at_once,
            "precision": given.precision, "expressions": rows}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another commit of this project")
    parser.add_argument("--preset", action="append", help="all six methods by default")
    parser.add_argument("--count", action="append", type=int, help="numbers of expressions; 1 is among them")
    parser.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.count:
        given.count = sorted({1, *given.count})
    torch.set_num_threads(given.threads)
    this, before = Version(ROOT), None if given.against is None else Version(given.against.resolve())
    for preset in given.preset or ["lavt", "alignformer", "lgformer", "crformer", "eavl", "jmceln"]:
        found = measure(preset, this, before, given)
        where = machine(given.threads, given.clock) | {"seed": given.seed}
        if before is not None:
            where["against"] = before.commit
        say({"benchmark": "expressions", **found, **where}, given.json)


if __name__ == "__main__":
    main()
