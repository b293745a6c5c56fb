r"""Occurrences of titles and tags in a text, with their places.

>>> from adapterlab.argmap.syntax.diagnostics import Source
>>> [(found.kind, found.name, found.start) for found in occurrences(Source("[Wet]: wet #seen\n  + [Rain]"))]
[('claim', 'Wet', 0), ('tag', 'seen', 11), ('claim', 'Rain', 21)]
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.argmap.syntax.lexer import Lexer
from adapterlab.argmap.syntax.tokens import Paragraph, Token

Kind = Literal["claim", "argument", "tag"]


@dataclass(frozen=True)
class Occurrence:
    """A title or a tag in the text."""

    kind: Kind
    name: str
    """The title, or the tag without `#`."""
    start: int
    """Offset of its first character, brackets included."""
    end: int
    """Offset behind its last character, brackets included, colon excluded."""
    name_start: int
    """Offset of the title or tag itself."""
    name_end: int
    """Offset behind the title or tag itself."""
    defines: bool = False
    """True for `[Title]:` and `<Title>:`, and for an argument's title above its premises."""


def occurrences(source: Source) -> list[Occurrence]:
    """Return all occurrences in the order of the text.

    Args:
        source: The text.
    """
    paragraphs = Lexer(source).read()
    found: list[Occurrence] = []
    for paragraph, following in zip_longest(paragraphs, paragraphs[1:]):
        heads = _heads_structure(paragraph, following)
        for token in paragraph.tokens:
            occurrence = _occurrence(token, source.text, heads)
            if occurrence:
                found.append(occurrence)
                heads = False
    return found


def _heads_structure(paragraph: Paragraph, following: Paragraph | None) -> bool:
    first = paragraph.tokens[0].type
    return first.startswith("ARGUMENT") and following is not None and following.tokens[0].type == "NUMBER"


def _occurrence(token: Token, text: str, heads: bool) -> Occurrence | None:
    kind, start, end = token.type, token.start, token.end
    if kind == "TAG":
        end -= text[end - 1] in " \t"
        inner = 2 if text.startswith("#(", start) else 1
        last = end - 1 if inner == 2 else end
        return Occurrence("tag", text[start + inner : last], start, end, start + inner, last)
    if kind == "MENTION":
        end -= text[end - 1] in " \t"
        opening, inner, closing = start + 1, start + 2, end - 1
    elif kind.startswith(("STATEMENT_", "ARGUMENT_")):
        end -= kind.endswith("_DEFINITION")
        opening, inner, closing = start, start + 1, end - 1
    else:
        return None
    name = text[inner:closing]
    if "\n" in name:
        return None
    defines = kind.endswith("_DEFINITION") or (heads and kind == "ARGUMENT_REFERENCE")
    return Occurrence("claim" if text[opening] == "[" else "argument", name, start, end, inner, closing, defines)
