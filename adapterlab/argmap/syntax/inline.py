"""The text of a statement, heading or description, with its tags, links, mentions and quotes.

>>> inline = read_inline([Token("TEXT", "It rains, see ", 0, 14), Token("TAG", "#weather", 14, 22)])
>>> inline.plain, inline.tags
('It rains, see', ['weather'])
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from adapterlab.argmap.syntax.grammar import Content
from adapterlab.argmap.syntax.tokens import Token

_LINK = re.compile(r"\[(.+)\]\((.+)\)")


@dataclass
class InlineText:
    """The content of a statement, heading or description."""

    text: str | None = None
    """The text as the reference implementation gives it: tags, link titles and quotes included."""
    tags: list[str] = field(default_factory=list)
    """Tags without `#`, each once."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Title and address of each link."""
    mentions: list[str] = field(default_factory=list)
    """Titles mentioned by `@[Claim]` or `@<Argument>`, in their brackets."""
    lines: list[_Line] = field(default_factory=list)

    @property
    def plain(self) -> str:
        """The text without tags, quotes, and lines that consist of links."""
        kept = (line.words for line in self.lines if not line.quote and line.bare.strip(" ,;.()"))
        return " ".join(" ".join(words.split()) for words in kept)

    @property
    def quotes(self) -> list[str]:
        """The block quotes (lines that begin with `>`); consecutive lines are joined to one quote."""
        quotes: list[str] = []
        following = False
        for line in self.lines:
            if line.quote:
                words = line.whole.lstrip().lstrip(">").strip()
                quotes = [*quotes[:-1], f"{quotes[-1]} {words}"] if following else [*quotes, words]
            following = line.quote
        return quotes


@dataclass
class _Line:
    words: str = ""
    """The line without tags."""
    bare: str = ""
    """The line without tags and link titles."""
    whole: str = ""
    quote: bool = False


def read_inline(content: Content, reference: bool = False) -> InlineText:
    """Read the tokens of a statement, heading or description.

    Args:
        content: The tokens.
        reference: True if they follow a title without a colon (`[Title] #tag`).

    Returns:
        The text and everything that is marked in it.
    """
    inline = InlineText(lines=[_Line()])
    _read(content, inline, reference)
    return inline


def _read(content: Content, inline: InlineText, reference: bool) -> None:
    last = len(content) - 1
    for index, item in enumerate(content):
        if isinstance(item, list):
            _read(item, inline, reference=False)
        elif item.type == "NEWLINE":
            if (index != last or reference) and not (inline.text or "").endswith(" "):
                inline.text = (inline.text or "") + " "
            inline.lines.append(_Line())
        else:
            _token(item, inline)


def _token(token: Token, inline: InlineText) -> None:
    line = inline.lines[-1]
    if token.type == "TEXT":
        if not line.whole and token.text.startswith(">"):
            line.quote = True
        _append(inline, token.text, token.text, token.text)
    elif token.type == "LINK":
        match = _LINK.search(token.text)
        title, url = (match.group(1), match.group(2)) if match else (token.text, "")
        inline.links.append((title, url))
        title += " " if token.text.endswith(" ") else ""
        _append(inline, title, title, "")
    elif token.type == "TAG":
        name = token.text.rstrip(" \t")[1:]
        name = name[1:-1] if name.startswith("(") else name
        if name not in inline.tags:
            inline.tags.append(name)
        _append(inline, token.text, "", "")
    elif token.type == "MENTION":
        inline.mentions.append(token.text.strip(" \t")[1:])
        _append(inline, token.text, token.text, token.text)
    elif token.type.endswith("_END") and token.text.endswith(" "):
        _append(inline, " ", " ", " ")


def _append(inline: InlineText, text: str, words: str, bare: str) -> None:
    inline.text = (inline.text or "") + text
    line = inline.lines[-1]
    line.whole += text
    line.words += words
    line.bare += bare
