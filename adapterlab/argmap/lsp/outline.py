r"""Outline of a document: sections, and the claims and arguments that are defined in them.

>>> from adapterlab.argmap.lsp.document import Document
>>> [entry] = outline(Document("", "# Weather\n\n[Rain]: It rains.", 1).analysis)
>>> entry.name, [child.name for child in entry.children]
('Weather', ['[Rain]'])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from adapterlab.argmap.lsp.document import Analysis
from adapterlab.argmap.model.map import Argument, Claim
from adapterlab.argmap.tools.anchors import is_untitled

MAX_DEPTH = 50
"""Levels of an outline; deeper sections are listed on the last one."""
MAX_NAME = 80
"""Characters of the text of a claim without title."""


@dataclass
class Entry:
    """A section, claim or argument."""

    kind: Literal["section", "claim", "argument"]
    name: str
    detail: str
    start: int
    """Offset of its first character."""
    name_end: int
    """Offset behind its title or heading."""
    end: int = 0
    """Offset behind its last character."""
    children: list[Entry] = field(default_factory=list)


def outline(analysis: Analysis) -> list[Entry]:
    """Return the outline of a document.

    Args:
        analysis: The document.

    Returns:
        The entries of the top level, in the order of the text.
    """
    text, the_map = analysis.text.text, analysis.map
    lines = _line_starts(text)
    found: list[tuple[int, int, Entry]] = []
    for section in the_map.all_sections:
        start = lines[section.line - 1]
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        name = section.title or "#" * section.level
        found.append((start, section.level, Entry("section", name, "", start, end)))
    elements: list[Claim | Argument] = [*the_map.claims.values(), *the_map.arguments.values()]
    for element in elements:
        entry = _entry(element, isinstance(element, Claim))
        if entry:
            found.append((entry.start, 0, entry))
    found.sort(key=lambda item: item[0])
    return _nested(found, len(text))


def _entry(element: Claim | Argument, claim: bool) -> Entry | None:
    place = element.defined or next(iter(element.mentions), None)
    if place is None:
        return None
    if is_untitled(element) and element.text:
        name = element.text if len(element.text) <= MAX_NAME else element.text[: MAX_NAME - 1] + "…"
    else:
        name = f"[{element.title}]" if claim else f"<{element.title}>"
    end = max(place.end, place.data_end)
    return Entry("claim" if claim else "argument", name, element.text[:200], place.start, place.end, end)


def _nested(found: list[tuple[int, int, Entry]], size: int) -> list[Entry]:
    top: list[Entry] = []
    open_sections: list[tuple[int, Entry]] = []
    for start, level, entry in found:
        while level and open_sections and open_sections[-1][0] >= level:
            open_sections.pop()[1].end = start
        parents = open_sections[:MAX_DEPTH]
        (parents[-1][1].children if parents else top).append(entry)
        if level:
            open_sections.append((level, entry))
    for _, entry in open_sections:
        entry.end = size
    return top


def _line_starts(text: str) -> list[int]:
    starts, at = [0], text.find("\n")
    while at >= 0:
        starts.append(at + 1)
        at = text.find("\n", at + 1)
    return starts
