"""The tables of an HTML page as text, with the standard library alone."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

Table = list[list[str]]


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self._cell: list[str] | None = None

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag in ("br", "div", "a") and self._cell is not None:
            self._cell.append("\n")

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            text = "".join(self._cell).replace("\xa0", " ")
            self.tables[-1][-1].append("\n".join(line.strip() for line in text.split("\n") if line.strip()))
            self._cell = None


def tables(page: str) -> list[Table]:
    """Every table as rows of cells; a line break in a cell is a new line."""
    parser = _Tables()
    parser.feed(page)
    return parser.tables


def table_with(page: str, heading: str) -> Table:
    """The rows below the header of the first table that has a heading."""
    return next(t[1:] for t in tables(page) if any(heading in cell.replace("\n", " ") for cell in t[0]))


def paragraphs(page: str) -> list[str]:
    """The text of every paragraph."""
    found = re.findall(r"<p[^>]*>(.*?)</p>", re.sub(r"<svg.*?</svg>", "", page, flags=re.S), flags=re.S)
    return [re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", text))).strip() for text in found]


def numbers(text: str) -> list[float]:
    """Every number in a text, without those in words such as `log10`."""
    return [float(found) for found in re.findall(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?![\w])", text.replace(",", ""))]
