"""Data flows one way: no module imports from a room above its own, nothing imports in a circle, no method another."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "refseg"
GROUND = {
    "types",
    "checked",
    "precision",
    "geometry",
    "protocols",
    "losses",
    "progress",
    "files",
    "heap",
    "device",
    "masks",
    "visualize",
    "charts",
    "pages",
    "fields",
    "ledger",
}
ROOMS = [
    GROUND,
    {"encoders", "data"},
    {"layers"},
    {"methods", "fast"},
    {"presets"},
    {"weights", "prediction"},
    {"answers"},
    {"hub_models", "export"},
    {"predictor"},
    {"annotate"},
    {"segment", "scoring"},
    {"training", "explain"},
    {"web"},
    {"cli"},
]
# Rooms inside `data`: what a room may use of `data` beside itself.
DATA = {
    "formats": set(),
    "shapes": set(),
    "describe": {"formats", "reading", "shapes"},
    "checks": {"formats", "shapes", "index", "sets", "reading"},
}
RESERVED = {"hub_models", "explain", "export", "annotate", "web"}  # nothing else may take these names
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
TOP = {SOURCE / "__init__.py", SOURCE / "__main__.py"}  # the public names, which lie in front of the rooms
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path not in TOP)
FORBIDDEN = {"torchvision", "timm"}
HOMES = {"Predictor": "refseg.predictor", "Prediction": "refseg.prediction", "list_models": "refseg.weights.folders"}


def name_of(path: Path) -> str:
    """The full name of a module."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("refseg", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Full names of all modules imported in a file, except for type checking alone.

    Args:
        path: The file.
        top_only: Only what is imported when the module is, not inside its functions.
    """
    tree = ast.parse(path.read_text())
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {id(inner) for node in guarded for inner in ast.walk(node)}
    if top_only:
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        skipped |= {id(inner) for node in functions for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "refseg":
                found |= {HOMES.get(alias.name, "refseg") for alias in node.names}
            else:
                found |= {f"{node.module}.{alias.name}" for alias in node.names} & NAMES or {node.module or ""}
    return found


NAMES = {name_of(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    own = name_of(path).split(".")[1:]
    for name in imports(path):
        top, *parts = name.split(".")
        assert top not in FORBIDDEN
        if top != "refseg" or not parts:
            continue
        assert RANK[parts[0]] < RANK[own[0]] or parts[0] == own[0] or GROUND >= {parts[0], own[0]}, f"imports {name}"
        if own[0] == parts[0] == "methods" and len(own) > 1:
            assert parts[1:] == ["base"], f"method {own[1]} imports {name}"
        if own[0] == parts[0] == "data" and own[1:2] and own[1] in DATA and parts[1:]:
            assert parts[1] in DATA[own[1]] | {own[1]}, f"imports {name}"


def test_nothing_imports_in_a_circle():
    """Neither when modules are imported nor later, inside functions."""
    below = {name_of(path): imports(path) & NAMES - {name_of(path)} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle of imports: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for other in sorted(below[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(below):
        visit(name, ())


def test_every_module_has_a_room():
    assert {name_of(path).split(".")[1] for path in MODULES} <= set(RANK)
    assert not [path for path in SOURCE.rglob("*.py") if path.stem in ("utils", "misc", "common")]
    assert {name for name in RESERVED if (SOURCE / f"{name}.py").exists()} == set()


def test_every_room_says_what_lives_there():
    for folder in {path.parent for path in MODULES} - {SOURCE}:
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert len(said.splitlines()[0]) > 20, folder


def test_files_are_short():
    assert [path for path in MODULES if len(path.read_text().splitlines()) > 400] == []


def test_tests_mirror_the_source():
    """A folder of tests has the name of a room."""
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    folders.discard(Path("fuzz"))  # of every reader, wherever it lives
    assert [folder for folder in folders if not (SOURCE / folder).is_dir()] == []


def test_training_on_refshapes_needs_only_the_small_set_of_packages():
    allowed = {
        "torch",
        "tokenizers",
        "safetensors",
        "numpy",
        "PIL",
        "rich",
        "huggingface_hub",
        "refseg",
    }
    parts = ("training", "scoring", "predictor", "weights", "presets", "methods", "layers", "encoders",
             "data/shapes", "data/loader", "data/transforms", "data/sets", *GROUND)  # fmt: skip
    for path in MODULES:
        if str(path.relative_to(SOURCE)).startswith(parts):
            found = {name.split(".")[0] for name in imports(path)}
            launched = {"accelerate"} if path.stem == "processes" else set()  # when a launcher started several
            assert found <= allowed | launched | set(sys.stdlib_module_names), path
