"""Builds the documentation: `docs/`, the pages of the root and the linked source files become `site/`.

Usage: python tools/build_docs.py

What is laid out below `build/docs` differs from `docs/` in its links alone, so that the same pages can be read in the
repository: a link to a file of Python leads to a page with its source, one to CONTRIBUTING.md to the page of that
name, and a figure written in Mermaid is the picture of it that `tools/figures.py` has drawn. The builder is then run
in its strict mode: a link or an anchor that is not there stops it. `tools/check_docs.py` looks over what it built.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")  # of the root, which the site has too
FENCED = re.compile(r"^( *)(```+|~~~+)[^\n]*\n.*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<text>\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s]+)\)")
MERMAID = re.compile(r"^```mermaid\n(?P<figure>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"\[`([\w.]+)`\]")


def figure_name(figure: str) -> str:
    """The file of a figure's picture; another figure has another."""
    return f"{sha256(figure.encode()).hexdigest()[:12]}.svg"


class Layout:
    """Lays the pages out.

    Args:
        root: Folder of the repository.
        folder: Where they go, which is emptied first: a folder that only this script writes.

    Attributes:
        source: Files of Python that pages link, with the page of each.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root.resolve(), folder.resolve()
        self.source: dict[Path, str] = {}

    def write(self) -> None:
        """Writes all of it.

        Raises:
            ValueError: A page links a file that is not there, or a figure has no picture.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        docs = self.root / "docs"
        pages = {file: file.relative_to(docs).as_posix() for file in docs.rglob("*.md")}
        pages |= {self.root / name: name.lower() for name in PAGES}
        self.pages = pages
        for file in docs.rglob("*"):
            if file.is_file() and file not in pages:
                self._copy(file, file.relative_to(docs).as_posix())
        for file, place in pages.items():
            self._put(place, self.page(file, place))
        for file, place in list(self.source.items()):
            self._put(place, source_page(file, self.root))
        self._put("source/index.md", self._index())

    def page(self, file: Path, place: str) -> str:
        """The text of a page as the site has it.

        Args:
            file: The page in the repository.
            place: Its place among the pages of the site.

        Raises:
            ValueError: See `write`.
        """
        text = MERMAID.sub(lambda found: self._figure(found["figure"], file, place), file.read_text())
        parts, last = [], 0
        for fence in FENCED.finditer(text):
            parts += [self._links(text[last : fence.start()], file, place), fence[0]]
            last = fence.end()
        return "".join((*parts, self._links(text[last:], file, place)))

    def _links(self, text: str, file: Path, place: str) -> str:
        def lead(found: re.Match[str]) -> str:
            return f"{found['text']}({self._target(found['target'], found['text'], file, place)})"

        return LINK.sub(lead, text)

    def _target(self, target: str, text: str, file: Path, place: str) -> str:
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return target
        goal = (file.parent / path).resolve()
        if not goal.is_file():
            raise ValueError(f"{file.relative_to(self.root)}: links {target}, which is no file")
        if goal in self.pages:
            there = self.pages[goal]
        elif goal.suffix == ".py":
            there = self.source.setdefault(goal, f"source/{shown(goal, self.root).removesuffix('.py')}.md")
            named = NAME.fullmatch(text)
            anchor = anchor or (named[1] if named else "")
        elif goal.is_relative_to(self.root / "docs"):
            there = goal.relative_to(self.root / "docs").as_posix()
        else:
            there = f"files/{goal.name}" if goal.suffix else f"files/{goal.name}.txt"
            self._copy(goal, there)
        return os.path.relpath(there, Path(place).parent).replace(os.sep, "/") + (f"#{anchor}" if anchor else "")

    def _figure(self, figure: str, file: Path, place: str) -> str:
        name = figure_name(figure)
        if not (self.root / "docs" / "images" / "figures" / name).is_file():
            raise ValueError(
                f"{file.relative_to(self.root)}: the picture docs/images/figures/{name} of a figure is missing; "
                "tools/figures.py draws it"
            )
        where = os.path.relpath(f"images/figures/{name}", Path(place).parent)
        return f'<div class="figure" markdown>\n\n![What goes where in this method]({where})\n\n</div>'

    def _index(self) -> str:
        rows = sorted(
            f"- [{shown(file, self.root)}]({place.removeprefix('source/')})" for file, place in self.source.items()
        )
        return (
            "# Source code\n\nThe files that these pages name, as they were when the site was built.\n\n"
            + "\n".join(rows)
        )

    def _copy(self, file: Path, place: str) -> None:
        goal = self.folder / place
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, goal)

    def _put(self, place: str, text: str) -> None:
        goal = self.folder / place
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_text(text)


def shown(file: Path, root: Path) -> str:
    """A file of Python as people call it: from the package on, or from the root of the repository."""
    package = root / "src"
    return file.relative_to(package if file.is_relative_to(package) else root).as_posix()


def source_page(file: Path, root: Path) -> str:
    """A page with a file's source, whose headings are its classes, functions and methods.

    Its parts one after the other are the file.
    """
    text = file.read_text()
    lines = text.splitlines(keepends=True)
    starts: list[tuple[int, str, int]] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            starts.append((_first(node), node.name, 2))
        if isinstance(node, ast.ClassDef):
            inner = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            starts += [(_first(part), f"{node.name}.{part.name}", 3) for part in inner]
    head = "---\nsearch:\n  exclude: true\n---\n"
    parts, seen, last, title = [f"{head}# {shown(file, root)}\n"], set(), 0, ""
    for line, name, level in [*sorted(starts), (len(lines), "", 0)]:
        body = "".join(lines[last:line])
        if title or body.strip():
            parts.append(f"{title}\n~~~~python\n{body}~~~~\n" if body else title)
        anchor = f" {{ #{name} }}" if name not in seen and "__" not in name else ""  # __init__ would be bold
        seen.add(name)
        last, title = line, f"{'#' * level} `{name}`{anchor}\n"
    return "\n".join(parts)


def _first(node: ast.ClassDef | ast.FunctionDef) -> int:
    """Index of a definition's first line, its decorators included."""
    return min(part.lineno for part in (node, *node.decorator_list)) - 1


def main() -> None:
    """Lays out and builds; a fault is told in one line, and the exit code is 1."""
    try:
        Layout(ROOT, ROOT / "build" / "docs").write()
    except ValueError as error:
        sys.exit(f"docs: {error}")
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(ROOT / "zensical.toml")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    said = re.sub(r"\x1b\[[\d;]*m", "", built.stdout + built.stderr)
    print(said.partition("Traceback (most recent call last)")[0] if "--strict flag" in said else said)
    if built.returncode or "No issues found" not in said:
        sys.exit("docs: the builder found what stands above")


if __name__ == "__main__":
    main()
