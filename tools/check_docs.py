"""Looks over the built documentation; whatever is wrong with it is a line, and the exit code is 1.

Usage: python tools/check_docs.py [SITE [CONFIG]]      site and zensical.toml by default

- Every link, picture, script and anchor of every page leads to something in the site.
- Nothing is loaded from outside: no font, script, style or picture with an address of its own. Links that a reader
  clicks may lead out.
- Every page is in the navigation; pages of the source code are named by theirs.
- The index of the search is there, also for pages that are opened from a disk.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"(?:[a-z][a-z+.-]*:)?//", re.IGNORECASE)
LOADED_BY_STYLE = re.compile(r"@import\s+(?:url\()?[\"']?([^\"')\s;]+)|url\(\s*[\"']?([^\"')]+)", re.IGNORECASE)
LINKS = {("a", "href"), ("area", "href"), ("form", "action")}  # followed by a reader, and not loaded
LOADED = {"src", "href", "xlink:href", "poster", "data", "action", "background"}
FOLLOWED = {"canonical", "next", "prev", "alternate", "license", "author"}  # kinds of <link> that load nothing


class Page(HTMLParser):
    """What a page links, loads and can be linked by.

    Attributes:
        links: Addresses that a reader follows.
        loads: Addresses that a browser fetches by itself.
        anchors: Names inside the page.
        scripted: What a script of the builder would fetch from outside.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.scripted: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes in one element."""
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named[name] for name in ("id", "name") if named.get(name)}
        self._in_style = tag == "style"
        for name, value in named.items():
            if (tag, name) in LINKS or (tag == "link" and FOLLOWED & set(named.get("rel", "").split())):
                if name in ("href", "action"):
                    self.links.append(value)
            elif name in LOADED:
                self.loads.append(value)
            elif name == "srcset":
                self.loads += [part.split()[0] for part in value.split(",") if part.strip()]
            elif name == "style":
                self.loads += loaded_by_style(value)
        if "mermaid" in named.get("class", "").split():
            self.scripted.append("a figure in Mermaid, whose script the builder takes from outside")
        if tag == "meta" and named.get("http-equiv", "").lower() == "refresh":
            self.loads.append(named.get("content", "").partition("url=")[2])

    def handle_endtag(self, tag: str) -> None:
        """Ends one element."""
        self._in_style = False

    def handle_data(self, data: str) -> None:
        """Takes in text."""
        if self._in_style:
            self.loads += loaded_by_style(data)


def loaded_by_style(text: str) -> list[str]:
    """Addresses that a style sheet fetches."""
    return [first or second for first, second in LOADED_BY_STYLE.findall(text)]


def faults(site: Path, nav: list[str]) -> Iterator[str]:
    """What is wrong with a built site.

    Args:
        site: Its folder.
        nav: Its pages in the navigation, as paths of HTML files.
    """
    site = site.resolve()
    pages = {file.relative_to(site).as_posix(): Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: has no page"
    for name, page in pages.items():
        for address in page.loads:
            yield from _loaded(address, name, site)
        yield from (f"{name}: {said}" for said in page.scripted)
        for address in page.links:
            yield from _followed(address, name, site, pages)
    for file in sorted(site.rglob("*")):
        if file.suffix in (".css", ".svg") and file.is_file():
            place, text = file.relative_to(site).as_posix(), file.read_text()
            found = loaded_by_style(text) + (Page(text).loads if file.suffix == ".svg" else [])
            for address in found:
                yield from _loaded(address, place, site)
    known = {*nav, "404.html"}
    yield from (f"navigation: {name} is no page" for name in nav if name not in pages)
    source = (
        {link.partition("#")[0] for link in pages["source/index.html"].links} if "source/index.html" in pages else set()
    )
    for name in pages:
        if name not in known and name.removeprefix("source/") not in source:
            yield f"{name}: not in the navigation"
    yield from (f"{name} is missing, without which nobody finds anything" for name in ("search.js", "search.json")
                if not (site / name).is_file())  # fmt: skip


def _loaded(address: str, name: str, site: Path) -> Iterator[str]:
    address = _from_root(address, name)
    if address.startswith(("data:", "#")) or not address:
        return
    if OUTSIDE.match(address) or address.startswith("/"):
        yield f"{name}: loads {address}, which is not in the site"
    elif not _goal(address, name, site).is_file():
        yield f"{name}: loads {address}, which is not there"


def _followed(address: str, name: str, site: Path, pages: dict[str, Page]) -> Iterator[str]:
    address = _from_root(address, name)
    if re.match(r"(?:https|mailto):", address):
        return
    if OUTSIDE.match(address) or address.startswith("/") or re.match(r"[a-z]+:", address):
        yield f"{name}: links {address}; addresses with https: and paths from the page on are accepted"
        return
    anchor = unquote(urlsplit(address).fragment)
    goal = _goal(address, name, site)
    if goal.is_dir():
        goal /= "index.html"
    if not goal.is_file():
        yield f"{name}: links {address}, which is not there"
    elif anchor and goal.suffix == ".html":
        there = goal.relative_to(site).as_posix()
        if anchor not in pages[there].anchors and anchor != "__top":
            yield f"{name}: links {address}, and there is no {anchor} in {there}"


def _from_root(address: str, name: str) -> str:
    """The address from the page on. The page of what is not found may be shown anywhere: its begin at the root."""
    return address.lstrip("/") if name == "404.html" and not OUTSIDE.match(address) else address


def _goal(address: str, name: str, site: Path) -> Path:
    path = unquote(urlsplit(address).path)
    return ((site / name).parent / path).resolve() if path else (site / name).resolve()


def pages_of(nav: list[object]) -> Iterator[str]:
    """The HTML files of the pages of a navigation, as the builder's configuration has it."""
    for entry in nav:
        if isinstance(entry, dict):
            for inner in entry.values():
                yield from pages_of(inner if isinstance(inner, list) else [inner])
        else:
            yield str(entry).removesuffix(".md") + ".html"


def main(site: str = "site", config: str = "zensical.toml") -> None:
    """Prints the faults."""
    nav = list(pages_of(tomllib.loads((ROOT / config).read_text())["project"]["nav"]))
    found = list(faults(ROOT / site, nav))
    good = f"{len(nav)} pages in the navigation; every link leads somewhere, nothing comes from outside"
    print("\n".join(found) or good)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
