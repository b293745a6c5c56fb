r"""Completion of `[titles]`, `<titles>` and `#tags`.

>>> from adapterlab.argmap.lsp.document import Document
>>> document = Document("", "[Rain]: It rains.\n\n[Wet]: It is wet.\n  + [R", 1)
>>> [proposal.name for proposal in proposals(document, 3, 6)]
['Rain']
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from adapterlab.argmap.lsp.document import Document
from adapterlab.argmap.lsp.occurrences import Kind

_OPEN_TITLE = re.compile(r"(?P<open>[\[<])(?P<part>[^\[\]<>]*)\Z")
_OPEN_TAG = re.compile(r"#(?P<part>\([^()]*|[^\s#()]*)\Z")
MOST = 200
"""Proposals in one answer; with more letters an editor asks again."""


@dataclass(frozen=True)
class Proposal:
    """A title or tag to insert."""

    kind: Kind
    name: str
    detail: str
    """The text of the claim or argument; empty for a tag."""
    insert: str
    """The characters to insert, with the closing bracket if it is missing."""
    start: int
    """Offset of the first character to replace."""
    end: int
    """Offset behind the last character to replace."""


def proposals(document: Document, line: int, column: int) -> list[Proposal]:
    """Return the titles or tags that continue the text before a position, those that begin with it first.

    Args:
        document: The document.
        line: Line, from 0.
        column: Column, from 0, in the units of the document.
    """
    text = document.analysis.text
    offset = text.offset(line, column)
    before = text.text[text.starts[min(line, len(text.starts) - 1)] : offset]
    title = _OPEN_TITLE.search(before)
    if title:
        return _titles(document, title["open"], title["part"], offset)
    tag = _OPEN_TAG.search(before)
    return _tags(document, tag["part"], offset) if tag else []


def _titles(document: Document, opening: str, part: str, offset: int) -> list[Proposal]:
    the_map, rest = document.read.map, document.analysis.text.text[offset:]
    kind: Kind = "claim" if opening == "[" else "argument"
    known = the_map.claims if kind == "claim" else the_map.arguments
    closing = "]" if kind == "claim" else ">"
    insert_closing = "" if rest.startswith(closing) else closing
    start = offset - len(part) - 1
    # The unfinished title is an occurrence itself if a bracket closes it later in the line.
    named = [title for title in known if any(o.start != start for o in document.read.by_name.get((kind, title), ()))]
    names = _matching(named, part)
    return [Proposal(kind, n, known[n].text[:200], n + insert_closing, offset - len(part), offset) for n in names]


def _tags(document: Document, part: str, offset: int) -> list[Proposal]:
    letters = part.removeprefix("(")
    found = []
    for name in _matching([tag for tag in document.read.map.tags if tag != letters], letters):
        insert = (
            name if re.fullmatch(r"[A-Za-z0-9\-\u00a0-\ud7ff_]+", name) and not part.startswith("(") else f"({name})"
        )
        found.append(Proposal("tag", name, "", insert, offset - len(part), offset))
    return found


def _matching(names: list[str], part: str) -> list[str]:
    letters = part.casefold()
    matching = [name for name in names if letters in name.casefold()]
    return sorted(matching, key=lambda name: not name.casefold().startswith(letters))[:MOST]
