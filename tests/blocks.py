"""The blocks of the documentation's pages, and a small world in which they are run.

Above a block may stand, in an HTML comment, `not run: REASON`, or `file: PATH` for one that is the content of a file.
"""

from __future__ import annotations

import json
import pickle
import re
import shlex
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|file): (?P<told>[^\n]+?) -->\n)?"
    r"(?P<fence>```+)(?P<language>\w*)\n(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:refseg|make|pip|python|accelerate|curl|git|cd|chromium)\b")
_FEW = "--steps 2 --eval-every 2 --workers 0 --set recipe.images_per_batch=2 --set recipe.warmup=0"
SMALL = {"train": f"{_FEW} --eval-limit 2", "pretrain": _FEW,
         "eval": "--limit 3", "data export": "--limit 2"}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The file.
        line: Where it begins.
        language: What stands behind the fence.
        body: Its text.
        not_run: Why it is not run; empty for one that is.
        file: The file whose content it is; empty for none.
    """

    page: Path
    line: int
    language: str
    body: str
    not_run: str
    file: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its lines without comments; of one that is no list of commands, nothing."""
        if self.language:
            return []
        lines = [re.sub(r"(?:^|\s+)#(?:\s.*|$)", "", line).rstrip() for line in self.body.splitlines()]
        return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("fence")) + 1, found["language"], found["body"],
              found["told"] if found["mark"] == "not run" else "", found["told"] if found["mark"] == "file" else "")
        for found in BLOCK.finditer(text)
    ]  # fmt: skip


def words(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables in front of a command, and its words."""
    parts = shlex.split(command)
    given = {}
    while parts and re.fullmatch(r"[A-Z_]+=\S*", parts[0]):
        name, _, value = parts.pop(0).partition("=")
        given[name] = value
    return given, parts


def parsed(arguments: list[str]) -> dict[str, object]:
    """The values that the command line makes of arguments; it raises what it says of wrong ones."""
    command = _command_line()
    context = command.make_context("refseg", list(arguments))
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)
    return context.params


@cache
def _command_line() -> Any:
    import typer

    from refseg.cli.main import app

    return typer.main.get_command(app)


def made_small(arguments: list[str]) -> list[str]:
    """A command that takes seconds: two steps, three expressions; papers' sizes are planned."""
    name = " ".join(arguments[:2]) if arguments[0] == "data" else arguments[0]
    if name not in SMALL or "--plan" in arguments or "--resume" in arguments or "--predictions" in arguments:
        return arguments
    if name == "train" and "-shapes" not in arguments[1]:
        return [*arguments, "--plan"]
    added = shlex.split(SMALL[name])
    single = [option for option in added if option.startswith("--") and option != "--set"] + ["--epochs"]
    kept = []
    for place, word in enumerate(arguments):
        if word not in single and (place == 0 or arguments[place - 1] not in single):
            kept.append(word)
    return [*kept, *added]


def make_world(folder: Path) -> None:
    """What the pages speak of: examples, a photo, photos with masks in COCO's format, and the published layouts."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "photos/beach.jpg", "photos/street.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (60, 90, 3), np.uint8)).save(folder / name)
    write_lines(folder / "mine", rng)
    write_coco(folder / "instances_val2017.json", folder / "val2017", rng)
    write_refer(folder / "datasets", rng)


def _scene(rng: np.random.Generator, number: int, categories: list[str]) -> tuple[np.ndarray, list[dict]]:
    """A picture with a rectangle of each category, left to right."""
    picture = np.full((120, 200, 3), rng.integers(30, 90), np.uint8)
    annotations = []
    for place, category in enumerate(categories):
        x, y, side = 12 + 64 * place, int(rng.integers(10, 50)), int(rng.integers(36, 50))
        picture[y : y + side, x : x + side] = rng.integers(120, 255, 3)
        outline = [x, y, x + side, y, x + side, y + side, x, y + side]
        kind = 1 + ["dog", "cat", "bus"].index(category)
        annotations.append(
            {"id": 100 * number + place + 1, "image_id": number, "category_id": kind, "segmentation": [outline],
             "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
        )  # fmt: skip
    return picture, annotations


def write_lines(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    rows = []
    for number, split in enumerate(("train", "train", "val"), 1):
        picture, annotations = _scene(rng, number, ["dog", "cat"])
        Image.fromarray(picture).save(folder / f"{number}.png")
        for annotation, text in zip(annotations, ("the dog", "cat on the right"), strict=True):
            row = {"image": f"{number}.png", "expression": text, "mask": annotation["segmentation"], "split": split}
            rows.append(json.dumps(row))
    (folder / "data.jsonl").write_text("\n".join(rows) + "\n")


def write_coco(file: Path, images: Path, rng: np.random.Generator) -> None:
    images.mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [
        {"id": i + 1, "name": name} for i, name in enumerate(("dog", "cat", "bus"))]}  # fmt: skip
    for number in range(1, 25):
        picture, annotations = _scene(rng, number, ["dog", "cat", "bus"][: 2 + number % 2])
        name = f"{number:012}.jpg"
        Image.fromarray(picture).save(images / name)
        content["images"].append({"id": number, "file_name": name, "height": 120, "width": 200})
        content["annotations"] += annotations
    file.write_text(json.dumps(content))


def write_refer(root: Path, rng: np.random.Generator) -> None:
    """RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO with a few pictures, as they are published."""
    photos = root / "images" / "mscoco" / "images" / "train2014"
    photos.mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [
        {"id": i + 1, "name": name} for i, name in enumerate(("dog", "cat", "bus"))]}  # fmt: skip
    splits = ("train", "train", "val", "testA", "testB", "test")
    refs = []
    for number, split in enumerate(splits, 1):
        picture, annotations = _scene(rng, number, ["dog", "cat"])
        name = f"COCO_train2014_{number:012}.jpg"
        Image.fromarray(picture).save(photos / name)
        content["images"].append({"id": number, "file_name": name, "height": 120, "width": 200})
        content["annotations"] += annotations
        for annotation, text in zip(annotations, ("the dog", "cat on the right"), strict=True):
            ref_id = len(refs) + 1
            refs.append({
                "ref_id": ref_id, "ann_id": annotation["id"], "image_id": number, "split": split,
                "category_id": annotation["category_id"], "file_name": f"{name[:-4]}_{ref_id}.jpg",
                "sent_ids": [ref_id],
                "sentences": [{"sent_id": ref_id, "raw": text, "sent": text, "tokens": text.split()}],
            })  # fmt: skip
    for folder, by, kept in (
        ("refcoco", "unc", ("train", "val", "testA", "testB")),
        ("refcoco+", "unc", ("train", "val", "testA", "testB")),
        ("refcocog", "umd", ("train", "val", "test")),
        ("refcocog", "google", ("train", "val")),
    ):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "instances.json").write_text(json.dumps(content))
        (root / folder / f"refs({by}).p").write_bytes(pickle.dumps([ref for ref in refs if ref["split"] in kept], 2))
    (root / "grefcoco").mkdir()
    (root / "grefcoco" / "instances.json").write_text(json.dumps(content))
    several = [{**ref, "ann_id": [ref["ann_id"]]} for ref in refs if ref["split"] != "test"]
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(several))


TINY = {"florence": "florence-2", "mm_grounding": "grounding-dino", "grounding": "grounding-dino", "owlv2": "owlv2",
        "clipseg": "clipseg", "sam2": "sam2", "sam3": "sam3", "sam-vit": "sam"}  # fmt: skip


def hub_of_tiny_models(repository: str, **_: object) -> str:
    """Stands in for the hub's download: a tiny model of the same family."""
    from hub import tiny_hub

    return str(next(tiny_hub(tiny) for part, tiny in TINY.items() if part in repository.lower()))
