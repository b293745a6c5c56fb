"""One place in the text where a claim or an argument stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterlab.argmap.model.map import Argument, Claim, Mention
from adapterlab.argmap.syntax.diagnostics import Source
from adapterlab.argmap.syntax.grammar import Content, Element
from adapterlab.argmap.syntax.inline import read_inline
from adapterlab.argmap.syntax.tokens import Token


def mention_of(element: Element, role: str, source: Source) -> Mention:
    """What an element of the text says, its metadata still unread."""
    written = read_inline(element.head.content, reference=element.head.form == "reference")
    tokens = [token for token in (element.head.title, *_flat(element.head.content)) if token]
    first = next((token for token in tokens if token.type != "NEWLINE"), tokens[0])
    line, _ = source.place(first.start)
    mention = Mention(line, tokens[0].start, tokens[-1].end, role, element.head.form == "reference")
    mention.text, mention.plain, mention.tags = written.text, written.plain, written.tags
    mention.links, mention.quotes, mention.named = written.links, written.quotes, written.mentions
    if element.data:
        mention.data_start, mention.data_end = element.data.start, element.data.end
    return mention


def title_of(token: Token) -> str | None:
    """The title in a definition, reference or mention."""
    title = token.text[1 : -2 if token.type.endswith("DEFINITION") else -1]
    return None if "\n" in title else title


def add_mention(holder: Claim | Argument, mention: Mention) -> None:
    """Let a claim or argument have what one more mention says of it."""
    holder.tags.extend(tag for tag in mention.tags if tag not in holder.tags)
    if mention.data:
        _merge(holder.data, mention.data)
    holder.mentions.append(mention)
    grouped = mention.data.get("isInGroup")
    if grouped is True or (not mention.reference and grouped is None and holder.section is None):
        holder.section = mention.section


def _flat(content: Content) -> Iterator[Token]:
    for item in content:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    """Deep, as the reference merges what several mentions say: mappings by key, lists by place."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            into[key] = [*value, *old[len(value) :]]
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value)
        elif isinstance(value, list):
            into[key] = list(value)
        else:
            into[key] = value
