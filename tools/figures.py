"""Draws the figures that pages write in Mermaid, so that the built documentation needs no script for them.

Usage: python tools/figures.py MERMAID.js       (`npm pack mermaid` has it as dist/mermaid.min.js; needs Chromium)

Each becomes `docs/images/figures/HASH.svg`, with the hash of its text; pictures of figures that no page has go.
"""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

TOOLS = Path(__file__).parent
DOCS = TOOLS.parent / "docs"
# Downwards: a page is narrower than it is long.
DRAW = """async (text) => (await mermaid.render("figure", text.replace("flowchart LR", "flowchart TB"))).svg"""
SETTINGS = """{startOnLoad: false, theme: "neutral", fontFamily: "sans-serif", htmlLabels: false,
               flowchart: {htmlLabels: false, useMaxWidth: false}}"""


def smaller(drawn: str) -> str:
    """The picture without what only scripts read, in tenths of a pixel."""
    drawn = re.sub(r'(<svg[^>]*?) style="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r' data-[\w-]+="[^"]*"', "", drawn)
    drawn = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), drawn)
    return drawn + "\n"


def main(library: str) -> None:
    """Draws all figures of all pages."""
    from playwright.sync_api import sync_playwright

    builder = runpy.run_path(str(TOOLS / "build_docs.py"))
    figures = [
        found["figure"]
        for page in sorted(DOCS.rglob("*.md"))
        for found in builder["MERMAID"].finditer(page.read_text())
    ]
    folder = DOCS / "images" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    names = {builder["figure_name"](figure): figure for figure in figures}
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<!doctype html><body></body>")
        page.add_script_tag(path=library)
        page.evaluate(f"() => mermaid.initialize({SETTINGS})")
        for name, figure in names.items():
            drawn = page.evaluate(DRAW, figure)
            (folder / name).write_text(smaller(drawn))
        browser.close()
    for old in folder.glob("*.svg"):
        if old.name not in names:
            old.unlink()
    print(f"{len(names)} figures in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
