"""Pages of reports, parsed, and that they need nothing beside themselves."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

HOSTILE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>&amp;", "{{ 7 * 7 }}", "$\\frac$"


class Page(html.parser.HTMLParser):
    """Elements, attributes and visible text of a page; checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def sections(self) -> list[str]:
        return [str(attributes["id"]) for tag, attributes in self.elements if tag == "section" and attributes.get("id")]


def assert_self_contained(page: Page) -> None:
    """Nothing is loaded from anywhere: no address but the names of XML's own vocabularies."""
    for tag, attributes in page.elements:
        for key in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:,", "data:image/png;base64,")), (tag, key, value)
        assert not any(key.startswith("on") for key in attributes)
        assert tag not in ("iframe", "object", "embed", "base", "form")
    assert not re.search(r"@import|url\((?![\"']?#)", page.source)
    addresses = set(re.findall(r"https?://[^\"'\s<)]+", page.source))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
