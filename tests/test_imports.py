"""Data flows one way: no module imports from a layer above its own, and no method imports another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "refseg"
LAYERS = [
    {"types", "protocols", "geometry", "progress"},
    {"encoders", "layers", "losses", "metrics", "data"},
    {"methods"},
    {"presets"},
    {"weights"},
    {"pretrained"},
    {"predictor", "visualize"},
    {"evaluation", "segment"},
    {"predictions", "saved_scores"},
    {"reporting"},
    {"training", "report", "compare", "convert"},
    {"cli_data", "web"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = [
    path for path in SOURCE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py") or path.parent != SOURCE
]
FORBIDDEN = {"torchvision", "timm"}


def imports(path: Path, only_runtime: bool = True) -> set[str]:
    """Full names of all modules imported anywhere in a file, except for type checking alone."""
    found = set()
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if only_runtime and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "refseg":
                homes = {"Predictor": "refseg.predictor", "Prediction": "refseg.types", "list_models": "refseg.weights"}
                found |= {homes.get(alias.name, "refseg") for alias in node.names}
            else:
                found |= {node.module or ""}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    own = path.relative_to(SOURCE).with_suffix("").parts
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in FORBIDDEN
        if parts[0] != "refseg" or len(parts) == 1:
            continue
        rank, mine = RANK[parts[1]], RANK[own[0]]
        assert rank < mine or parts[1] == own[0], f"{own} imports {name}"
        if own[0] == "methods" and own[1:] not in ((), ("__init__",)) and parts[1] == "methods":
            assert parts[2:] == ["base"], f"method {own[1]} imports {name}"


def test_every_module_has_a_place():
    assert {path.relative_to(SOURCE).with_suffix("").parts[0] for path in MODULES} <= set(RANK)
    assert not [path for path in SOURCE.rglob("*.py") if path.stem in ("utils", "misc", "common")]


def test_training_on_refshapes_needs_only_the_small_set_of_packages():
    allowed = {
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "numpy",
        "PIL",
        "rich",
        "huggingface_hub",
        "refseg",
    }
    import sys

    parts = ("training", "evaluation", "predictor", "weights", "pretrained", "presets", "methods", "layers", "encoders",
             "data/shapes", "data/loader", "data/transforms", "data/images", "data/sets", "losses", "metrics",
             "geometry", "types")  # fmt: skip
    for path in MODULES:
        if str(path.relative_to(SOURCE)).startswith(parts):
            top = {name.split(".")[0] for name in imports(path)}
            launched = {"accelerate"} if path.stem == "processes" else set()  # when a launcher started several
            assert top <= allowed | launched | set(sys.stdlib_module_names), path
