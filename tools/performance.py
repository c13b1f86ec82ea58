"""The tables of docs/performance.md and docs/scale.md, made of what the benchmarks printed.

    python tools/performance.py

docs/performance/NAME.jsonl holds the lines that `python -m benchmarks.NAME ... --json` printed. What is between the
marks of the pages is written by this tool alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refseg.files import write_text_beside

ROOT = Path(__file__).parents[1]
PAGES, STORE = (ROOT / "docs/performance.md", ROOT / "docs/scale.md"), ROOT / "docs/performance"
NAMES = {
    "before": "before ({against})", "plain": "this version, not prepared", "fp32": "fp32", "bf16": "bf16",
    "int8": "int8", "fp32 Linear": "only Linear by oneDNN", "fp32 Conv2d": "only convolutions by NNPACK",
    "fp32 MultiheadAttention": "only attention's order of products", "fp32 SwinBlock": "only Swin's blocks",
    "fp32 DeformableAttention": "only deformable attention", "now": "now",
}  # fmt: skip


def lines(name: str) -> list[dict[str, Any]]:
    """What a benchmark printed."""
    text = (STORE / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, the first column to the left."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def where(found: dict[str, Any]) -> str:
    """The command, and what it ran on."""
    bound = f"; a plain convolution {found['gmacs_per_second']} GMAC/s" if "gmacs_per_second" in found else ""
    seed = f", seed {found['seed']}" if "seed" in found else ""
    return (
        f"`{found['command']}`, {found['date']}, commit {found['commit']}{seed}; {found['machine']}, "
        f"{found['threads']} of {found['cores']} threads, {found['clock']} seconds, torch {found['torch']}{bound}."
    )


def inference() -> str:
    """One expression about one image, a table a preset."""
    parts = []
    for found in lines("inference"):
        rows = []
        for name, told in found["contestants"].items():
            off = f"{told['off']:.1e}" if told.get("off") else ""
            spread = f"{told['least']:.2f} to {told['most']:.2f}"
            rows.append(
                [NAMES[name].format(**found), f"{told['median']:.2f}", spread, f"{told['times_faster']:.2f}", off]
            )
        head = [f"{found['preset']}, {found['size'][0]} px", "s, median", "s, from to", "times faster", "off"]
        parts += [table(head, rows), where(found)]
    return "\n\n".join(parts)


def sourced(name: str, head: Sequence[str], rows_of: Callable[[dict[str, Any]], Sequence[Sequence[str]]]) -> str:
    """A table of all that a benchmark printed, and where its numbers come from."""
    printed = lines(name)
    rows = [row for found in printed for row in rows_of(found)]
    return "\n\n".join([table(head, rows), *dict.fromkeys(map(where, printed))])


def expressions() -> str:
    """Several expressions about one image, a row a method and number."""

    def rows(found: dict[str, Any]) -> list[list[str]]:
        return [
            [
                found["preset"], count, *([f"{row['before']['median']:.2f}"] if "before" in row else []),
                f"{row['now']['median']:.2f}", f"{row['floor']:.3f}", f"{row['share']:.3f}",
                f"{row['share'] / row['floor']:.3f}",
            ]
            for count, row in found["expressions"].items()
        ]  # fmt: skip

    head = ["preset", "expressions", "s before", "s now", "floor", "share", "share / floor"]
    return sourced("expressions", head, rows)


def agreement() -> str:
    """How well masks of every precision agree with the network's own."""
    rows, told = [], {}
    for found in lines("agreement"):
        agree, true = found["agreement"], found["mIoU"]
        cells = [f"{each['mean']:.4f} ({each['least']:.3f})" for each in agree.values()]
        rows.append([found["model"], *cells, *(f"{true[name]:.2f}" for name in ("plain", *agree))])
        told[f"{found['expressions']} expressions about {found['scenes']} scenes of val: {where(found)}"] = None
    names = list(lines("agreement")[0]["agreement"])
    return "\n\n".join([table(["model", *names, "mIoU, itself", *(f"mIoU, {name}" for name in names)], rows), *told])


def opening() -> str:
    """What opening large data sets costs, a row a data set."""

    def rows(found: dict[str, Any]) -> list[list[str]]:
        before, now = found["rows"]
        return [[
            found["data"], f"{found['expressions']:,}", f"{before['median']:.1f}", f"{now['median']:.1f}",
            f"{now['times_faster']:.2f}", str(before["mib"]), str(now["mib"]),
        ]]  # fmt: skip

    head = ["data", "sentences", "s before", "s now", "times faster", "MiB before", "MiB now"]
    return sourced("opening", head, rows)


def loading() -> str:
    """What feeding a training costs, a row a version."""

    def rows(found: dict[str, Any]) -> list[list[str]]:
        return [
            [NAMES[row["name"]].format(**found), f"{1000 * row['median']:.1f}", f"{row['photos_a_second']}"]
            for row in found["rows"]
        ]

    side = lines("loading")[0]["side"]
    return sourced("loading", [f"photos at {side} px", "ms a photo", "photos a second"], rows)


def evaluating() -> str:
    """What of an evaluation is not the model."""

    def rows(found: dict[str, Any]) -> list[list[str]]:
        share = {name: f"{100 * value:.1f}" for name, value in found["outside"].items()}
        return [[
            found["model"], f"{found['images']:,}", f"{found['expressions']:,}", f"{found['seconds']['median']:.1f}",
            f"{share['median']} % ({share['least']} to {share['most']})",
        ]]  # fmt: skip

    return sourced("evaluating", ["model", "scenes", "sentences", "s", "outside the network"], rows)


def training() -> str:
    """What a step of training costs, a row a version."""

    def rows(found: dict[str, Any]) -> list[list[str]]:
        return [
            [
                f"{found['preset']}, {found['images']} images, {NAMES[row['name']].format(**found)}",
                *(f"{row[part]:.1f}" for part in ("forward", "backward", "optimiser", "median")),
                f"{row.get('times_faster', 1.0):.2f}", f"{row['gib']}",
            ]
            for row in found["rows"]
        ]  # fmt: skip

    head = ["step", "forward", "backward", "optimiser", "s together", "times faster", "GiB"]
    return sourced("training", head, rows)


def scale() -> str:
    """What a million photos cost with one expression each and with eight."""
    rows = []
    for found in lines("expressions"):
        image, each = found["gmacs_image"], found["gmacs_expression"]
        hours = [found["expressions"][count]["now"]["median"] * 10**6 / 3600 for count in ("1", "8")]
        rows.append([
            found["preset"], f"{image:.1f} + {each:.1f}", f"{found['expressions']['1']['now']['median']:.2f}",
            *(f"{round(each_hour, -1):,.0f}" for each_hour in hours), f"{(image + each) / 6:.0f}",
        ])  # fmt: skip
    head = [
        "preset", "GMACs, image + expression", "s a photo on a core", "core-hours, 1 expression", "8 expressions",
        "minutes at 100 TMAC/s",
    ]  # fmt: skip
    return table(head, rows)


PARTS = {
    "inference": inference, "expressions": expressions, "agreement": agreement, "opening": opening, "loading": loading,
    "evaluating": evaluating, "training": training, "scale": scale,
}  # fmt: skip


def written(page: str) -> str:
    """The page with everything between its marks made anew.

    Raises:
        ValueError: The page names a part that there is not.
    """

    def part(found: re.Match[str]) -> str:
        if found[1] not in PARTS:
            raise ValueError(f"a mark {found[1]!r}; {', '.join(PARTS)} are accepted")
        return f"<!-- made: {found[1]} -->\n{PARTS[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- made: (\w+) -->.*?<!-- end -->", part, page, flags=re.S)


if __name__ == "__main__":
    for page in PAGES:
        write_text_beside(page, written(page.read_text(encoding="utf-8")))
