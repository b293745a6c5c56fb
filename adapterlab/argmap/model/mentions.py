"""Mentions: occurrences of a claim or an argument in the text.

>>> from adapterlab.argmap.syntax.tokens import Token
>>> title_of(Token("STATEMENT_DEFINITION", "[Rain]:", 0, 7))
'Rain'
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterlab.argmap.model.map import Argument, Claim, Mention
from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.argmap.syntax.inline import read_inline
from adapterlab.argmap.syntax.metadata import Metadata
from adapterlab.argmap.syntax.nodes import Content, Element
from adapterlab.argmap.syntax.tokens import Token


def mention_of(element: Element, role: str, source: Source, without_tags: bool = False) -> Mention:
    """Return the mention of a syntax node; its metadata is located but not read.

    Args:
        element: The node of a statement or argument.
        role: Role of the mention, see `Mention.role`.
        source: The text of the map.
        without_tags: As in `read_inline`.
    """
    head, content = element.head, element.head.content
    inline = read_inline(content, head.form == "reference", without_tags)
    first = head.title or next(_flat(content))
    last = content[-1] if content else first
    # The line is that of the first character that is no line break.
    visible = first if first.type != "NEWLINE" else next((t for t in _flat(content) if t.type != "NEWLINE"), first)
    line, _ = source.place(visible.start)
    end = last.end if isinstance(last, Token) else first.end
    mention = Mention(line, first.start, end, role, head.form == "reference")
    mention.text, mention.plain, mention.tags = inline.text, inline.plain, inline.tags
    mention.links, mention.quotes, mention.named = inline.links, inline.quotes, inline.mentions
    if element.data:
        mention.data_start, mention.data_end = element.data.start, element.data.end
    return mention


def title_of(token: Token) -> str | None:
    """Return the title in a definition, reference or mention; None if it contains a line break.

    Args:
        token: The token with its brackets.
    """
    title = token.text[1 : -2 if token.type.endswith("DEFINITION") else -1]
    return None if "\n" in title else title


def add_mention(element: Claim | Argument, mention: Mention) -> None:
    """Add a mention to a claim or argument, and merge its metadata.

    Args:
        element: The claim or argument; changed in place.
        mention: The mention.
    """
    if mention.data:
        _merge(element.data, mention.data)
    element.mentions.append(mention)
    grouped = mention.data.get("isInGroup")
    if grouped is True or (not mention.reference and grouped is None and element.section is None):
        element.section = mention.section


def _flat(content: Content) -> Iterator[Token]:
    for item in content:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _merge(into: Metadata, new: Metadata) -> None:
    """Merge metadata deeply, as the reference does: mappings by key, lists by position."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            into[key] = [*value, *old[len(value) :]]
        elif isinstance(value, dict):
            copy: Metadata = {}
            into[key] = copy
            _merge(copy, value)
        elif isinstance(value, list):
            into[key] = list(value)
        else:
            into[key] = value
