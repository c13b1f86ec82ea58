"""A page as the tests read it."""

from __future__ import annotations

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects what a browser would load or run, and checks that tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.addresses, self.tags, self.text, self.charts, self.pictures = [], [], [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not [name for name in values if name.startswith("on")]
        if tag == "svg" and "aria-label" in values:
            self.charts.append(values["aria-label"])
        if tag == "img":
            assert values["alt"]
            self.pictures.append(values["src"])
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def said(self):
        return " ".join(self.text)
