"""Every block of every page: Python is run, commands are parsed and run, numbers and lines of data are what they say.

The pages are run from their first block to their last in a small world (`blocks.make_world`), trainings for two steps
and those of the papers' size as plans. `NOT_RUN` lists what is only parsed; above each of these blocks stands why.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from blocks import BLOCK, COMMAND, PAGES, ROOT, blocks, hub_of_tiny_models, made_small, make_world, parsed, words
from refseg.presets import presets

LANGUAGES = {"", "python", "json", "csv", "text", "mermaid"}
NOT_RUN = [
    ("CONTRIBUTING.md", "refseg train lgformer-shapes --out runs/lgformer"),
    ("README.md", 'refseg segment IMAGE "the man in black on the left"'),
    ("docs/annotate.md", "import ray"),
    ("docs/annotate.md", "pip install 'refseg[ray]'"),
    ("docs/export.md", "import json, numpy as np, onnxruntime as ort"),
    ("docs/export.md", "pip install 'refseg[export]'"),
    ("docs/photos.md", "refseg convert lgformer model_refcoco.pth lgformer-refcoco"),
    ("docs/photos.md", "refseg train lgformer-released --init lgformer-refcoco --data own --out runs/own"),
    ("docs/quickstart.md", ". .venv/bin/activate"),
    ("docs/quickstart.md", "git clone REPOSITORY refseg"),
    ("docs/quickstart.md", "refseg serve"),
    ("docs/serve.md", "curl -F image=@photo.jpg"),
    ("docs/serve.md", 'pip install "refseg[web]"'),
    ("docs/serve.md", "python benchmarks/serve_load.py --seconds 3600"),
    ("docs/train.md", "refseg push runs/lgformer user/name --report"),
    ("docs/train.md", "accelerate launch --num_processes 4 -m refseg train lgformer"),
]
FAULTY = {"refseg data check datasets"}  # a miniature, which lacks most of what is published
QUICK = {"docs/index.md", "docs/data.md", "docs/predict.md", "docs/evaluate.md"}
EVERY = [block for page in PAGES for block in blocks(page)]
RUN = sorted({block.page for block in EVERY if not block.not_run and block.language in ("", "python")})


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def test_every_fence_is_a_block_of_a_known_kind():
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"^```", text, re.M)) == 2 * len(BLOCK.findall(text)), page
        assert len(re.findall(r"^<!-- (?:not run|file): ", text, re.M)) == sum(
            bool(block.not_run or block.file) for block in blocks(page)
        ), f"{page}: a mark that stands above no block"
    assert [block.name for block in EVERY if block.language not in LANGUAGES] == []
    assert [block.name for block in EVERY if block.file and not block.language] == []


def test_what_is_not_run_is_listed_and_says_why():
    found = [block for block in EVERY if block.not_run]
    firsts = sorted((name_of(block.page), (block.commands or block.body.splitlines())[0]) for block in found)
    assert len(firsts) == len(NOT_RUN)
    for (page, command), (listed, start) in zip(firsts, sorted(NOT_RUN), strict=True):
        assert page == listed and command.startswith(start)
    assert [block.name for block in found if len(block.not_run.split()) < 4] == []


def test_lines_without_a_language_are_commands():
    lines = [(block.name, line) for block in EVERY for line in block.commands if not COMMAND.match(line)]
    assert lines == [(name, ". .venv/bin/activate") for name, line in lines if line.startswith(". ")]


def test_every_command_is_one_that_the_command_line_takes():
    wrong, seen = [], 0
    for block in EVERY:
        for line in block.commands:
            for one in line.split("; "):
                parts = words(one)[1]
                if parts[:1] == ["accelerate"]:
                    parts = parts[parts.index("-m") + 1 :]
                if parts[:1] != ["refseg"]:
                    continue
                seen += 1
                try:
                    parsed(parts[1:])
                except Exception as error:
                    wrong.append(f"{block.name}: {one}: {getattr(error, 'message', error)}")
    assert wrong == [] and seen > 60


@pytest.mark.parametrize(
    "line", ["segment a.png x --thresold 0.3", "eval --limit many", "data exprt a b", "train a --gpus"]
)
def test_a_wrong_command_is_refused(line):
    with pytest.raises(Exception, match=r"(?i)no such|valid|requires|unexpected"):
        parsed(shlex.split(line))


def test_targets_extras_and_scripts_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {"make": set(), "python": set()}
    for block in EVERY:
        for line in block.commands:
            parts = words(line)[1]
            if parts[0] in named:
                named[parts[0]].add(parts[1])
        prose = [block.body] if not block.language else []
        assert {
            x for text in prose for found in re.findall(r"refseg\[([\w,]+)\]", text) for x in found.split(",")
        } <= extras
    assert {"demo", "test", "docs"} <= named["make"] <= targets
    assert named["python"] and all((ROOT / script).is_file() for script in named["python"])


def test_json_is_json_and_csv_has_whole_rows():
    for block in EVERY:
        if block.language == "json":
            try:
                json.loads(block.body)
            except ValueError:
                [json.loads(line) for line in block.body.splitlines()]
        if block.language == "csv":
            import csv

            assert len({len(row) for row in csv.reader(block.body.splitlines())}) == 1


def test_the_published_numbers_are_those_of_the_presets():
    """And every score of a main table for a split of the page's columns stands there."""
    text = (ROOT / "docs" / "protocols.md").read_text()
    splits = {"refcoco": "val testA testB", "refcoco+": "val testA testB", "refcocog-umd": "val test"}
    splits |= {"refcocog-google": "val"}
    columns = [f"{data} {split}" for data, named in splits.items() for split in named.split()]
    names = {"LAVT": "lavt", "AlignFormer": "alignformer", "LGFormer": "lgformer", "EAVL": "eavl", "JMCELN": "jmceln"}
    names |= {"CRFormer": "crformer"}
    for metric in ("oIoU", "mIoU"):
        table = text.split(f"\n## {metric}, %\n")[1].split("\n## ")[0]
        stated = {}
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("|") and cells[0] in names:
                assert len(cells) == 1 + len(columns)
                stated |= {
                    (names[cells[0]], column): cell for column, cell in zip(columns, cells[1:], strict=True) if cell
                }
        expected = {
            (name, column): f"{presets()[name].scores[f'{column} {metric}']:.2f}"
            for name in names.values() for column in columns if f"{column} {metric}" in presets()[name].scores
        }  # fmt: skip
        assert stated == expected


def test_the_walk_through_of_a_method_is_the_example():
    example = (ROOT / "examples" / "add_method.py").read_text()
    shown = [block.body for block in blocks(ROOT / "docs" / "add-method.md") if block.language == "python"]
    parts = [part.strip() for body in shown for part in body.split("\n\n\n")]
    defined = [part for part in parts if re.match(r"@dataclass|class |def ", part)]
    assert len(defined) == 3 and all(part in example for part in defined)


def check_predict(found, folder):
    assert (folder / "square.png").is_file() and (folder / "overlay.png").is_file()
    assert found["careful"].area < found["square"].area >= found["whole"].area > 0
    assert [len(part) for part in found["both"]] == [1, 2] and found["row"]["area"] == found["cyan"].area
    assert sorted(file.name for file in (folder / "out" / "list").glob("*.mask.png")) == [
        "beach.1.mask.png", "beach.2.mask.png", "scene.1.mask.png"
    ]  # fmt: skip


def check_evaluate(found, folder):
    assert found["took"]["expressions"] == 20 and 0.3 < found["summary"]["mIoU"] < 1
    assert (folder / "scores" / "lgformer" / "report.html").is_file()


def check_data(found, folder):
    assert found["sample"].mask(0).sum() == pytest.approx(800, abs=40)  # half of a square of 40 pixels


def check_train(found, folder):
    assert (folder / "runs" / "short" / "best" / "config.json").is_file()
    assert found["model"].training["steps"] == 2


def check_quickstart(found, folder):
    assert {"scene.1.mask.png", "scene.2.overlay.png"} <= {file.name for file in (folder / "out").iterdir()}
    assert (folder / "out" / "mine" / "scene.1.mask.png").is_file() and (folder / "striped.png").is_file()
    assert found["answer"].area == pytest.approx(8193, rel=0.01)


def check_own_data(found, folder):
    from refseg.data.sets import open_data

    rows = {expression.text: sample.mask(number).sum() for sample in open_data(str(folder / "lines"), "all")
            for number, expression in enumerate(sample.expressions)}  # fmt: skip
    assert len(rows) == 9 and rows["nothing that is in this image"] == 0
    assert rows["COCO's run-length code, packed"] == rows["COCO's run-length code, as a list"] == 160
    assert rows["one label of a picture with many"] == rows["a picture of the mask, black is background"] == 58 * 58
    assert rows["a polygon: the striped square"] == rows["one polygon without the outer list"] > 7000


def check_annotate(found, folder):
    assert [row["error"] is None for row in found["rows"]] == [True, True, True, False]
    assert found["rows"][0]["id"] == "scene-1" and found["mask"].shape == (340, 448)
    assert found["mask"].sum() == found["rows"][0]["area"] == pytest.approx(8193, rel=0.01)
    assert [file.name for file in sorted((folder / "answers").glob("part-*"))] == ["part-000000.parquet"]


CHECKS = {
    "docs/annotate.md": check_annotate,
    "docs/predict.md": check_predict,
    "docs/evaluate.md": check_evaluate,
    "docs/data.md": check_data,
    "docs/train.md": check_train,
    "docs/quickstart.md": check_quickstart,
    "docs/own-data.md": check_own_data,
}


def marked(page):
    return pytest.param(page, id=name_of(page), marks=() if name_of(page) in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("page", map(marked, RUN))
def test_a_page_runs_from_its_first_block_to_its_last(page, refseg, tmp_path, monkeypatch):
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub_of_tiny_models)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their own module up
    found = vars(module)
    for block in blocks(page):
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.body)
        elif block.language == "python" and not block.not_run:
            exec(compile("\n" * block.line + block.body, str(page), "exec", dont_inherit=True), found)
        elif not block.language and not block.not_run:
            for line in block.commands:
                run(line, refseg, monkeypatch)
    if name_of(page) in CHECKS:
        CHECKS[name_of(page)](found, tmp_path)


def run(line, refseg, monkeypatch):
    """Runs a command; `make` is `.ci/run`'s part."""
    given, (program, *arguments) = words(line)
    assert program in ("refseg", "make", "python"), line
    with monkeypatch.context() as changed:
        for name, value in given.items():
            changed.setenv(name, value)
        if program == "refseg":
            code, out, err = refseg(*made_small(arguments))
            assert code == (1 if line in FAULTY else 0), f"{line}: {out}{err}"
        elif program == "python":
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
            assert done.returncode == 0, f"{line}: {done.stderr}"


def example(name, *arguments):
    done = subprocess.run([sys.executable, ROOT / "examples" / name, *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_folder_becomes_results_that_pycocotools_loads_and_nothing_is_replaced(tmp_path):
    from pycocotools.coco import COCO

    make_world(tmp_path)
    out = tmp_path / "answers.json"
    images = tmp_path / "val2017"
    for extra in sorted(images.iterdir())[3:]:
        extra.unlink()
    (images / "note.txt").write_text("no photo")
    code, said, err = example("folder.py", images, "the dog", out)
    assert (code, err) == (0, "") and said == f"3 answers in {out}\n"
    coco = COCO()
    coco.dataset = {"images": [{"id": number} for number in (1, 2, 3)], "annotations": [], "categories": [{"id": 1}]}
    coco.createIndex()
    assert len(coco.loadRes(str(out)).anns) == 3
    before = out.read_text()
    code, said, err = example("folder.py", images, "the cat", out)
    assert code == 1 and "is there already" in err and out.read_text() == before
    (images / "000000000002.jpg").write_bytes(b"no picture")
    code, said, err = example("folder.py", images, "the dog", tmp_path / "more.json")
    assert code == 2 and "000000000002.jpg" in err and len(json.loads((tmp_path / "more.json").read_text())) == 2
    assert example("folder.py", tmp_path / "photo.jpg", "the dog", tmp_path / "no.json")[0] == 1
    assert not (tmp_path / "no.json").exists()


@pytest.mark.slow
def test_the_notebook_runs_and_holds_no_outputs(tmp_path, monkeypatch):
    cells = json.loads((ROOT / "examples" / "notebook.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5 and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path / "examples")
    found = {}
    for cell in code:
        exec("".join(cell["source"]), found)
    assert found["square"].area > 0 and found["sheet"].width > 300 and found["summary"]["mIoU"] < 30


def test_the_example_of_a_method_fulfils_the_contract(monkeypatch):
    """Padding changes nothing, several sentences are those asked alone, and every parameter learns."""
    import torch

    from gradients import check_gradients
    from refseg.encoders.bert import BertConfig
    from refseg.encoders.swin import SwinConfig
    from tiny import TOKENIZER, some_input

    spec = spec_from_file_location("add_method", ROOT / "examples" / "add_method.py")
    made = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "add_method", made)
    spec.loader.exec_module(made)
    swin = SwinConfig(8, (1, 1, 2, 1), (1, 2, 2, 2), window=4, patch=4, mlp_ratio=4.0, drop_path=0.0)
    bert = BertConfig(TOKENIZER.size, width=24, layers=2, heads=2, ffn=32, positions=32, dropout=0.0, trained_layers=2,
                      train_embeddings=True)  # fmt: skip
    network = made.Gated(made.GatedConfig(swin=swin, bert=bert, width=8)).eval()
    pixels, tokens, mask, index, _ = some_input()
    together = network(network.encode_image(pixels), network.encode_text(tokens, mask), index).logits
    for row in range(len(tokens)):
        real = int(mask[row].sum())
        image = network.encode_image(pixels[index[row] : index[row] + 1])
        text = network.encode_text(tokens[row : row + 1, :real], mask[row : row + 1, :real])
        alone = network(image, text, torch.zeros(1, dtype=torch.long)).logits
        assert torch.allclose(together[row : row + 1], alone, atol=1e-4)
    check_gradients(network)
