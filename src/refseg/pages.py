"""Pages as one HTML file each: no scripts, nothing loaded from elsewhere, every text escaped.

They are read on a phone and on paper too, and in the light or dark scheme that a reader's system asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from refseg.charts import STYLE as CHARTS
from refseg.files import write_text_beside

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LIGHT = (
    "--ink: #1b1b1b; --dim: #5c5c5c; --paper: #fff; --card: #f6f6f4; --line: #dcdcdc; --k0: #0072b2; --k1: #d55e00; "
    "--k2: #008f68; --k3: #b45a92; --k4: #a87400; --k5: #555"
)
_DARK = (
    "--ink: #e9e9e7; --dim: #a9adb2; --paper: #16181b; --card: #202327; --line: #3b4046; --k0: #56b4e9; --k1: #f28e4b; "
    "--k2: #2cc79b; --k3: #e29bc4; --k4: #e6b032; --k5: #bbb"
)
STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 73rem;
  margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: anywhere }}
h1 {{ font-size: 1.6rem; line-height: 1.25 }} h2 {{ font-size: 1.2rem; margin-top: 2.2rem }}
.scroll {{ overflow-x: auto }} .dim {{ color: var(--dim) }} .warn {{ border-left: 4px solid var(--k1);
  padding-left: .8rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
.table {{ margin: 0 }} .table > figcaption {{ color: var(--dim); margin-bottom: .3rem }}
th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0 }}
td.text, th.text {{ white-space: normal; text-align: left; min-width: 14rem }}
thead th {{ border-bottom: 2px solid var(--dim) }}
.wide {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.8rem 2rem;
  align-items: start }}
@media (min-width: 64rem) {{ .beside {{ display: grid; grid-template-columns: 22rem minmax(0, 1fr); gap: 2rem;
  align-items: start }} .beside table {{ font-size: .9rem }} .beside th, .beside td {{ padding: .25rem .4rem }} }}
@media (max-width: 63.99rem) {{ .beside > * + * {{ margin-top: .8rem }} }}
.figures {{ display: flex; flex-wrap: wrap; gap: .4rem 2.2rem; margin: 1rem 0 }} .figures div {{ min-width: 6rem }}
.figures b {{ display: block; font-size: 2rem; line-height: 1.2; font-variant-numeric: tabular-nums }}
.figures small {{ display: block; color: var(--dim) }}
dl {{ margin: 0 }} dt {{ font-weight: 600 }} dd {{ margin: 0 0 .5rem }}
@media (min-width: 44rem) {{ dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.5rem }}
  dd {{ margin: 0 }} }}
code {{ font: .9em ui-monospace, monospace }} code span {{ display: inline-block; max-width: 100% }}
summary {{ cursor: pointer; margin-top: 1rem }}
@media print {{ :root {{ color-scheme: light; {_LIGHT} }} body {{ font-size: 11px; margin: 0 }}
  .scroll {{ overflow: visible }} .wide {{ grid-template-columns: 1fr 1fr; gap: 1rem }}
  .beside .chart {{ max-width: 21rem }}
  .figures b {{ font-size: 1.5rem }} table {{ font-size: 10px }} th, td {{ padding: .15rem .35rem }}
  h2 {{ break-after: avoid; margin-top: 1.2rem }} figure, tr, .figures {{ break-inside: avoid }} }}
"""


def make_document(title: str, parts: Iterable[str], style: str = "", generator: str = "refseg") -> str:
    """A whole page.

    Args:
        title: Its title and first heading, as plain text.
        parts: What stands below, as HTML.
        style: CSS of this page alone.
        generator: The command that makes it, which `is_made_by` knows it by.
    """
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{escape(generator)}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{CHARTS}{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def is_made_by(path: Path, generator: str) -> bool:
    """Whether a file is a page of that command."""
    with path.open("rb") as file:
        return f'<meta name="generator" content="{escape(generator)}">'.encode() in file.read(400)


def write_page(path: Path, page: str, generator: str, overwrite: bool = False) -> None:
    """Writes a page, in the place of an earlier one of the same command alone.

    Raises:
        ValueError: Something else is there.
        OSError: It cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; the name of a file for the page is accepted")
    if path.exists() and not overwrite and not is_made_by(path, generator):
        raise ValueError(f"{path}: is there and no page of `{generator}`; another name is accepted, or --overwrite")
    write_text_beside(path, page)


def section(heading: str, *parts: str) -> str:
    """Parts below a heading."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "", texts: Sequence[int] = ()) -> str:
    """A table of plain texts, whose first column names its rows.

    Args:
        head: Names of the columns; the first may be empty.
        rows: Texts.
        note: What it is about, above it.
        texts: Numbers of the columns with sentences, which are broken into lines.
    """
    kinds = [' class="text"' if i in texts else "" for i in range(len(head))]
    top = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>' if name else "<td></td>"
        for name, kind in zip(head, kinds, strict=True)
    )

    def cell(i: int, value: str) -> str:
        if i == 0:
            return f'<th scope="row">{escape(value)}</th>'
        return f"<td{kinds[i]}>{escape(value)}</td>"

    lines = "\n".join("<tr>" + "".join(cell(i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    body = f"<thead><tr>{top}</tr></thead>\n<tbody>\n{lines}\n</tbody>"
    said = f"<figcaption>{escape(note)}</figcaption>\n" if note else ""
    return f'<figure class="table">{said}<div class="scroll"><table>\n{body}\n</table></div></figure>'


def facts(pairs: Mapping[str, str]) -> str:
    """Names with what they are; what is called `Command` is a line of a shell, and breaks between its words alone."""

    def told(name: str, value: str) -> str:
        if name != "Command":
            return escape(value)
        return f"<code>{' '.join(f'<span>{escape(word)}</span>' for word in value.split(' '))}</code>"

    listed = "\n".join(f"<dt>{escape(name)}</dt><dd>{told(name, value)}</dd>" for name, value in pairs.items())
    return f"<dl>\n{listed}\n</dl>"


def big_numbers(numbers: Iterable[tuple[str, str, str]]) -> str:
    """Few numbers that are seen first: what each is, the number, and a line below it."""
    cells = "".join(
        f"<div>{escape(name)}<b>{escape(value)}</b><small>{escape(note)}</small></div>" for name, value, note in numbers
    )
    return f'<div class="figures">{cells}</div>'
