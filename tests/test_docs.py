"""What docs/methods.md names exists, and what exists it names: presets, switches, scores, equations, code, figures.

Of every page the example runs, and links lead somewhere.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from pathlib import Path

import pytest

from refseg.methods import METHODS
from refseg.presets import presets

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "methods.md").read_text()
NAMES = {key: kind.__name__ for key, (kind, _) in METHODS.items()}
# Numbered equations of each paper, counted in the papers. LAVT's are listed by section.
EQUATIONS = {"alignformer": 13, "lgformer": 13, "eavl": 14, "jmceln": 4, "crformer": 15}
LAVT_SECTIONS = {"3.2", "3.3", "3.4"}
ENCODERS = ("swin", "bert", "vision", "text")
PAPER_SIZE = {name: preset for name, preset in presets().items() if "-shapes" not in name}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = FENCE.sub("", TEXT)
CODE_LINK = re.compile(r"\[`([\w.]+)`\]\(([^)]+)\)")  # the name of something in the code, linked to its file
CODE = re.compile(r"`([^`\n]+)`")


def section(method: str) -> str:
    """The text below a method's heading, without its fenced blocks."""
    return re.split(rf"^## {NAMES[method]}$", PROSE, flags=re.MULTILINE)[1].split("\n## ")[0]


def part(method: str, title: str) -> str:
    """The text below a heading inside a method's section."""
    return section(method).split(f"\n### {NAMES[method]}: {title}\n")[1].split("\n### ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of a text's only table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def switches(config) -> dict[str, object]:
    """All fields of a config by their dotted names; encoders stay whole."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and field.name not in ENCODERS:
            found |= {f"{field.name}.{inner}": x for inner, x in switches(value).items()}
        else:
            found[field.name] = value
    return found


def accepted(config, key: str) -> tuple:
    """The values that the type of a field names, or nothing if it is no Literal."""
    *outer, last = key.split(".")
    for name in outer:
        config = getattr(config, name)
    hint = typing.get_type_hints(type(config))[last]
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def written(value: object) -> str:
    """A value as the page writes it."""
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else repr(value)


def definitions(path: Path) -> set[str]:
    """Names of the functions and classes of a module, and of the methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_every_method_has_one_complete_section_and_a_row_in_the_comparison():
    assert set(re.findall(r"^## (.+)$", PROSE, re.MULTILINE)) == set(NAMES.values())
    compared = rows(PROSE.split("\n## ")[0])
    assert sorted(row[0] for row in compared) == sorted(f"[{name}](#{name.lower()})" for name in NAMES.values())
    assert all(len(row) == 8 and all(row) for row in compared)
    for method, name in NAMES.items():
        titles = re.findall(rf"^### {name}: (.+)$", section(method), re.MULTILINE)
        assert titles == ["equations", "ablations", "open points", "metric"]


@pytest.mark.parametrize("name", PAPER_SIZE)
def test_every_row_of_paper_size_stands_with_its_switches_and_scores(name):
    preset = PAPER_SIZE[name]
    [[_, changed, table, printed]] = [row for row in rows(part(preset.method, "ablations")) if row[0] == f"`{name}`"]
    base = switches(presets()[preset.method].model)
    own = {key: value for key, value in switches(preset.model).items() if value != base[key] and key not in ENCODERS}
    assert set(re.findall(r"`([^`]+)`", changed)) == {f"{key}={written(value)}" for key, value in own.items()}
    stated = {
        metric: [
            score for run in re.findall(rf"{metric} ([\d.]+(?: / [\d.]+)*)", printed) for score in run.split(" / ")
        ]
        for metric in ("oIoU", "mIoU")
    }
    scores = {
        metric: [f"{score:.2f}" for key, score in preset.scores.items() if re.fullmatch(rf"[^:]+ {metric}", key)]
        for metric in ("oIoU", "mIoU")
    }
    if "/" in name:
        # JMCELN has one table of ablations, whose rows are named in addition.
        assert table.split(", row")[0] == preset.source.split(" ", 1)[1]
        assert stated == scores
    elif name in METHODS:  # the full model, of whose scores those stand that the rows are compared with
        assert any(stated.values())
        assert all(set(stated[metric]) <= set(scores[metric]) for metric in stated)


def test_table_3_of_lgformer_stands_with_its_scores():
    stated = [row for row in rows(part("lgformer", "ablations")) if len(row) == 3]
    named = [presets()[name].scores for name in ("lgformer", "lgformer/query-learnable-10")]
    groups = {"1 or 2": "1-2", "3 to 7": "3-7", "8 to 12": "8-12", "13 or more": "13+"}
    expected = [
        [words, *(f"{scores[f'refcoco+ val:{group}-words oIoU']:.2f}" for scores in named)]
        for words, group in groups.items()
    ]
    assert [row for row in stated if row[0] in groups] == expected


def test_what_looks_like_a_preset_is_one():
    start = "|".join(METHODS)
    spans = set(CODE.findall(PROSE))
    named = {span for span in spans if re.fullmatch(rf"({start})|({start})[-/][\w./-]+", span)}
    named |= {span for span in spans if re.fullmatch(r"[a-z0-9-]+/[\w.-]+", span)}
    assert named >= set(PAPER_SIZE)
    assert named <= set(presets())
    trained = re.findall(r"^refseg train (\S+)", TEXT, re.MULTILINE)
    assert trained and set(trained) <= set(presets())


@pytest.mark.parametrize("method", METHODS)
def test_what_looks_like_a_switch_fits_the_config(method):
    config = presets()[method].model
    known = switches(config)
    named = [span.split("=", 1) for span in CODE.findall(section(method)) if re.match(r"[\w.]+=", span)]
    assert named or method == "lavt"
    for key, value in named:
        assert key in known, f"{key} of {method}"
        value = ast.literal_eval(value)
        number = isinstance(known[key], float) and type(value) is int
        assert number or type(value) is type(known[key]), f"{key}={value} of {method}"
        choices = accepted(config, key)
        assert isinstance(value, str) == bool(choices) and (not choices or value in choices)


@pytest.mark.parametrize("method", METHODS)
def test_every_equation_stands_with_what_implements_it(method):
    table = rows(part(method, "equations"))
    assert all(len(row) == 3 for row in table)
    for equation, _, code in table:
        assert CODE_LINK.search(code), f"{equation} of {method} names no code"
    if method == "lavt":
        assert {row[0].split(",")[0] for row in table} == LAVT_SECTIONS
        return
    numbers = [int(number) for row in table for number in re.findall(r"\((\d+)\)", row[0])]
    assert numbers == list(range(1, EQUATIONS[method] + 1))


def test_named_code_exists_in_the_linked_file():
    links = CODE_LINK.findall(PROSE)
    assert len(links) > 60
    assert {Path(target).suffix for _, target in links} == {".py"}
    for name, target in set(links):
        assert name in definitions(DOCS / target), f"{name} is not defined in {target}"


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", PROSE, re.M)
    }
    targets = re.findall(r"\]\(([^)]+)\)", PROSE)
    own = [target for target in targets if not target.startswith("https://")]
    assert len(own) > 60
    for target in own:
        file, _, anchor = target.partition("#")
        assert (DOCS / file).is_file() if file else anchor in headings, target


def test_the_example_in_python_runs():
    [example] = [body for language, body in FENCE.findall(TEXT) if language == "python"]
    found: dict[str, typing.Any] = {}
    exec(compile(example, "docs/methods.md", "exec"), found)
    assert (found["preset"].model.num_queries, found["preset"].model.calibration) == (4, False)


def test_the_readme_is_short_and_its_links_lead_somewhere():
    root = DOCS.parent
    assert len((root / "README.md").read_text().splitlines()) <= 160
    for page in (root / "README.md", root / "CONTRIBUTING.md", *DOCS.glob("*.md")):
        prose = FENCE.sub("", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            file = target.partition("#")[0]
            assert target.startswith("https://") or not file or (page.parent / file).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("method", METHODS)
def test_the_figure_is_a_closed_flowchart_of_both_paths(method):
    figures = FENCE.findall(re.split(rf"^## {NAMES[method]}$", TEXT, flags=re.MULTILINE)[1].split("\n## ")[0])
    [figure] = [body for language, body in figures if language == "mermaid"]
    head, *lines = figure.splitlines()
    assert head == "flowchart LR"
    assert not re.search(r"<(?!br/>|-)", figure)
    defined, used, classes, members = set(), set(), set(), {}
    for line in lines:
        assert line.count('"') % 2 == 0, line
        bare = re.sub(r'"[^"]*"', '""', line).strip()
        if bare.startswith("classDef"):
            classes.add(bare.split()[1])
            continue
        if bare.startswith("class "):
            _, nodes, name = bare.split()
            members[name] = set(nodes.split(","))
            continue
        shapes = re.findall(r'(\w+)(\(\[""\]\)|\[""\])', bare)
        defined |= {node for node, _ in shapes}
        bare = re.sub(r'(\w+)(\(\[""\]\)|\[""\])', r"\1", bare)
        edge = re.fullmatch(r'(\w+) (?:--> |-\.-> |-- "" --> |-\. "" \.-> )(\w+)', bare)
        assert edge, f"not a labelled edge with quoted labels: {line}"
        used |= set(edge.groups())
    assert len(defined) > 8 and used == defined
    assert classes == set(members) == {"language", "vision", "joint", "out"}
    everyone = [node for nodes in members.values() for node in nodes]
    assert sorted(everyone) == sorted(defined)
    assert {"sentence"} <= members["language"] and {"image"} <= members["vision"]
