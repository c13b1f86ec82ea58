from __future__ import annotations

import re

import pytest

from refseg.pages import STYLE, facts, html_table, is_made_by, make_document, write_page

EVIL = "<script>&\"'"


def test_a_page_loads_nothing_and_escapes_all():
    page = make_document(EVIL, [html_table(("", EVIL), [(EVIL, EVIL)], EVIL), facts({EVIL: EVIL, "Command": EVIL})])
    assert "<script" not in page and page.count("&lt;script&gt;") == 9
    assert "default-src &#x27;none&#x27;" in page and "url(" not in page and "@import" not in page


def test_every_colour_is_known_in_both_schemes():
    light, dark, printed = re.findall(r":root \{([^}]*--ink[^}]*)\}", STYLE)
    names = [set(re.findall(r"(--\w+):", scheme)) for scheme in (light, dark, printed)]
    used = set(re.findall(r"var\((--\w+)\)", make_document("all", [])))
    assert names[0] == names[1] == names[2] >= used > {f"--k{i}" for i in range(6)}


def luminance(colour):
    """Of WCAG 2."""
    wide = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(wide[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_and_lines_can_be_seen_in_both_schemes(scheme):
    colours = dict(re.findall(r"--(\w+): (#\w+)", re.findall(r":root \{([^}]*--ink[^}]*)\}", STYLE)[scheme]))
    paper = luminance(colours["paper"])
    for name, least in {"ink": 7, "dim": 4.5, **{f"k{i}": 3 for i in range(6)}}.items():
        low, high = sorted((paper, luminance(colours[name])))
        assert (high + 0.05) / (low + 0.05) >= least, name


def test_only_a_page_of_the_same_command_is_replaced(tmp_path):
    path = tmp_path / "below" / "page.html"
    write_page(path, make_document("one", []), "refseg")
    write_page(path, make_document("two", []), "refseg")
    assert "<title>two" in path.read_text() and is_made_by(path, "refseg") and not is_made_by(path, "refseg report")
    path.write_text("a letter")
    with pytest.raises(ValueError, match="page.html: is there and no page of `refseg`; another name"):
        write_page(path, "three", "refseg")
    assert path.read_text() == "a letter"
    write_page(path, "three", "refseg", overwrite=True)
    assert path.read_text() == "three"
    with pytest.raises(ValueError, match="below: a folder; the name of a file"):
        write_page(path.parent, "x", "refseg", overwrite=True)
