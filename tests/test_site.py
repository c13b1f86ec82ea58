"""The documentation as a site: what is laid out, what the checks find, and what a browser makes of it."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILDER = runpy.run_path(str(ROOT / "tools" / "build_docs.py"))
CHECKER = runpy.run_path(str(ROOT / "tools" / "check_docs.py"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NAV = list(CHECKER["pages_of"](tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
THING = '''"""A thing."""

@property
def first():
    pass


class Thing:
    """It."""

    def go(self):
        pass
'''
FIGURE = "flowchart LR\n  a --> b\n"


@pytest.fixture
def repository(tmp_path):
    """A small repository with a page of each kind of link."""
    root = tmp_path / "repository"
    files = {
        "CONTRIBUTING.md": "# Contributing\n\nSee [pages](docs/page.md#one) and [licence](LICENSE).\n",
        "SECURITY.md": "# Security\n",
        "CHANGELOG.md": "# Changelog\n",
        "LICENSE": "all rights",
        "docs/page.md": (
            "# Page\n\n## One\n\n[`Thing.go`](../src/refseg/thing.py), [the file](../src/refseg/thing.py), "
            "[rules](../CONTRIBUTING.md), [out](https://example.org), [up](#one)\n\n"
            "```\n[not](a/link.md)\n```\n\n![picture](images/a.png)\n"
        ),
        "docs/api/inner.md": "[page](../page.md#one)\n",
        "docs/images/a.png": "",
        "src/refseg/thing.py": THING,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def laid_out(root):
    folder = root / "build" / "docs"
    BUILDER["Layout"](root, folder).write()
    return {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.*")}


def test_links_lead_to_pages_of_the_site(repository):
    found = laid_out(repository)
    assert set(found) == {
        "page.md", "api/inner.md", "contributing.md", "security.md", "changelog.md", "images/a.png",
        "files/LICENSE.txt", "source/index.md", "source/refseg/thing.md",
    }  # fmt: skip
    page = found["page.md"].read_text()
    assert "[`Thing.go`](source/refseg/thing.md#Thing.go)" in page and "[the file](source/refseg/thing.md)" in page
    assert "[rules](contributing.md)" in page and "[out](https://example.org)" in page and "[up](#one)" in page
    assert "```\n[not](a/link.md)\n```" in page and "![picture](images/a.png)" in page
    assert found["api/inner.md"].read_text() == "[page](../page.md#one)\n"
    assert "[pages](page.md#one) and [licence](files/LICENSE.txt)" in found["contributing.md"].read_text()
    assert "- [refseg/thing.py](refseg/thing.md)" in found["source/index.md"].read_text()
    source = found["source/refseg/thing.md"].read_text()
    assert re.findall(r"^#+ .*$", source, re.M) == [
        "# refseg/thing.py", "## `first` { #first }", "## `Thing` { #Thing }", "### `Thing.go` { #Thing.go }"
    ]  # fmt: skip
    assert "~~~~python\n@property\ndef first" in source


def test_what_was_laid_out_before_is_gone(repository):
    laid_out(repository)
    (repository / "docs" / "page.md").unlink()
    (repository / "docs" / "api" / "inner.md").unlink()
    (repository / "CONTRIBUTING.md").write_text("")
    assert set(laid_out(repository)) == {
        "contributing.md",
        "security.md",
        "changelog.md",
        "images/a.png",
        "source/index.md",
    }


def test_a_link_to_nothing_and_a_figure_without_picture_are_refused(repository):
    page = repository / "docs" / "page.md"
    page.write_text("[gone](../src/refseg/gone.py)")
    with pytest.raises(ValueError, match=r"^docs/page.md: links ../src/refseg/gone.py, which is no file$"):
        laid_out(repository)
    page.write_text(f"```mermaid\n{FIGURE}```\n")
    with pytest.raises(
        ValueError, match=r"^docs/page.md: the picture docs/images/figures/\w{12}.svg of a figure is missing"
    ):
        laid_out(repository)
    picture = repository / "docs" / "images" / "figures" / BUILDER["figure_name"](FIGURE)
    picture.parent.mkdir()
    picture.write_text("<svg/>")
    assert f"images/figures/{picture.name}" in laid_out(repository)["page.md"].read_text()


def test_the_parts_of_a_source_page_are_the_file():
    """Blank lines at the ends of the parts aside."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        page = BUILDER["source_page"](path, ROOT)
        parts = re.findall(r"^~~~~python\n(.*?)^~~~~$", page, re.M | re.S)
        assert "".join(parts).split() == path.read_text().split(), path
        anchors = re.findall(r"\{ #(.+) \}", page)
        assert len(anchors) == len(set(anchors)), path


def test_every_page_is_in_the_navigation():
    pages = {file.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert sorted(NAV) == sorted(pages | {"contributing.html", "security.html", "changelog.html", "source/index.html"})


def test_every_figure_has_its_picture_and_every_picture_its_figure():
    texts = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    named = {BUILDER["figure_name"](found["figure"]) for text in texts for found in BUILDER["MERMAID"].finditer(text)}
    assert len(named) == 6 and {file.name for file in (ROOT / "docs" / "images" / "figures").iterdir()} == named


GOOD = {
    "index.html": '<a href="sub/other.html#there">x</a><a href="https://example.org">x</a>'
    '<link rel="stylesheet" href="a.css"><link rel="canonical" href="https://example.org/index.html">'
    '<img src="data:image/png;base64,AA"><script src="search.js"></script>',
    "sub/other.html": '<h1 id="there">x</h1><a href="../index.html">x</a><a href="#there">x</a>',
    "source/index.html": '<a href="refseg/a.html">x</a>',
    "source/refseg/a.html": "x",
    "404.html": '<a href="/index.html">x</a>',
    "a.css": "b { background: url(data:image/png;base64,AA) }",
    "search.js": "",
    "search.json": "",
}
FAULTS = {
    "a dead link": ("index.html", '<a href="gone.html">', "index.html: links gone.html, which is not there"),
    "a missing anchor": ("index.html", '<a href="sub/other.html#no">',
                         "index.html: links sub/other.html#no, and there is no no in sub/other.html"),
    "an own anchor": ("index.html", '<a href="#no">', "index.html: links #no, and there is no no in index.html"),
    "a path of the server": ("index.html", '<a href="/index.html">', "index.html: links /index.html; addresses with"),
    "without encryption": ("index.html", '<a href="http://a.org">', "index.html: links http://a.org; addresses with"),
    "a font": ("index.html", '<link rel="stylesheet" href="https://fonts.example/f.css">',
               "index.html: loads https://fonts.example/f.css, which is not in the site"),
    "a script": ("index.html", '<script src="//cdn.example/x.js"></script>',
                 "index.html: loads //cdn.example/x.js, which is not in the site"),
    "a picture": ("index.html", '<img srcset="https://a.org/x.png 2x">',
                  "index.html: loads https://a.org/x.png, which is not in the site"),
    "a lost picture": ("sub/other.html", '<img src="x.png">', "sub/other.html: loads x.png, which is not there"),
    "a style": ("a.css", "@import url(https://a.org/b.css);",
                "a.css: loads https://a.org/b.css, which is not in the site"),
    "a style inside": ("index.html", '<p style="background: url(https://a.org/b.png)">',
                       "index.html: loads https://a.org/b.png, which is not in the site"),
    "a style of the page": ("index.html", "<style>@import 'https://a.org/b.css';</style>",
                            "index.html: loads https://a.org/b.css, which is not in the site"),
    "a drawing": ("b.svg", '<svg><image href="https://a.org/b.png"/></svg>',
                  "b.svg: loads https://a.org/b.png, which is not in the site"),
    "mermaid": ("index.html", '<pre class="mermaid">', "index.html: a figure in Mermaid"),
    "not in the navigation": ("more.html", "x", "more.html: not in the navigation"),
    "a source nobody names": ("source/refseg/b.html", "x", "source/refseg/b.html: not in the navigation"),
}  # fmt: skip


def made(folder, changes=()):
    for name, text in (*GOOD.items(), *changes):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return list(CHECKER["faults"](folder, ["index.html", "sub/other.html", "source/index.html"]))


def test_a_good_site_has_no_faults(tmp_path):
    assert made(tmp_path) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, tmp_path):
    name, text, said = FAULTS[fault]
    [found] = made(tmp_path, [(name, GOOD.get(name, "") + text)])
    assert found.startswith(said)


def test_a_missing_page_and_a_missing_search_are_found(tmp_path):
    made(tmp_path)
    (tmp_path / "search.js").unlink()
    (tmp_path / "sub" / "other.html").write_text('<h1 id="there">')
    assert list(CHECKER["faults"](tmp_path, ["index.html", "sub/other.html", "source/index.html", "gone.html"])) == [
        "index.html: loads search.js, which is not there",
        "navigation: gone.html is no page",
        "search.js is missing, without which nobody finds anything",
    ]
    assert list(CHECKER["faults"](tmp_path / "nowhere", []))[0].endswith("nowhere: has no page")


def copied(folder):
    """What the site is made of, somewhere else."""
    for name in ("docs", "src", "tools", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for file in [*ROOT.glob("*.md"), ROOT / "zensical.toml", ROOT / "LICENSE", ROOT / "CITATION.cff"]:
        shutil.copy(file, folder)
    return folder


def build(folder):
    return subprocess.run([sys.executable, folder / "tools" / "build_docs.py"], capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("zensical", reason="the extra `docs` is not installed")
    folder = copied(tmp_path_factory.mktemp("site"))
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_is_built_without_a_fault(site):
    assert list(CHECKER["faults"](site, NAV)) == []
    assert "from_pretrained" in (site / "api" / "predict.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "addition, said",
    [
        ("\n[gone](gone-page.md)\n", "docs/index.md: links gone-page.md, which is no file"),
        ("\n[gone](predict.md#no-such-heading)\n", "anchor does not exist"),
        ("\n::: refseg.NoSuchName\n", "Could not collect 'refseg.NoSuchName'"),
    ],
)
def test_what_leads_nowhere_stops_the_build(site, addition, said, tmp_path):
    folder = copied(tmp_path)
    page = folder / "docs" / "index.md"
    page.write_text(page.read_text() + addition)
    built = build(folder)
    assert built.returncode == 1 and said in built.stdout + built.stderr


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; `apt-get install chromium` brings one")
def test_a_browser_loads_every_page_from_the_disk_alone_and_finds_words(site):
    """Wide and on a phone no page is wider than the window, no script fails, and nothing comes from elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    wrong, home = [], (site.as_uri(), "data:", "about:", "blob:")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.extend([request.url] * (not request.url.startswith(home))))
        for name in NAV:
            page.goto(f"{site.as_uri()}/{name}")
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 844})
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    wrong.append(f"{name} is wider than {width} pixels")
        page.set_viewport_size({"width": 1280, "height": 844})
        page.goto(f"{site.as_uri()}/index.html")
        page.keyboard.press("Control+k")
        page.keyboard.type("bootstrap", delay=20)
        page.get_by_text(re.compile(r"^[1-9]\d* results?$")).wait_for(timeout=20_000)
        browser.close()
    assert wrong == []
