"""What inline tokens say: the text of a statement, its tags, links and quotes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from adapterlab.argmap.syntax.grammar import Content
from adapterlab.argmap.syntax.tokens import Token

_LINK = re.compile(r"\[(.+)\]\((.+)\)")


@dataclass
class InlineText:
    """The outcome of `read_inline`."""

    text: str | None = None
    tags: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)
    """Titles named in passing, in their brackets: `[Claim]`, `<Argument>`."""
    lines: list[_Line] = field(default_factory=list)

    @property
    def plain(self) -> str:
        """The words, without tags, quotes, and lines that hold links alone."""
        spoken = (line.words for line in self.lines if not line.quote and line.bare.strip(" ,;.()"))
        return " ".join(" ".join(words.split()) for words in spoken)

    @property
    def quotes(self) -> list[str]:
        """The block quotes (lines that begin with `>`); lines of one quote are joined."""
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
    bare: str = ""
    """The words without titles of links."""
    whole: str = ""
    quote: bool = False


def read_inline(content: Content, reference: bool = False) -> InlineText:
    """Read the tokens of a statement, heading or description; `reference`: of what follows a title alone."""
    written = InlineText(lines=[_Line()])
    _write(content, written, reference)
    return written


def _write(content: Content, written: InlineText, reference: bool) -> None:
    last = len(content) - 1
    for index, item in enumerate(content):
        if isinstance(item, list):
            _write(item, written, reference=False)
        elif item.type == "NEWLINE":
            if (index != last or reference) and not (written.text or "").endswith(" "):
                written.text = (written.text or "") + " "
            written.lines.append(_Line())
        else:
            _token(item, written)


def _token(token: Token, written: InlineText) -> None:
    line = written.lines[-1]
    if token.type == "TEXT":
        if not line.whole and token.text.startswith(">"):
            line.quote = True
        _append(written, token.text, token.text, token.text)
    elif token.type == "LINK":
        match = _LINK.search(token.text)
        title, url = (match.group(1), match.group(2)) if match else (token.text, "")
        written.links.append((title, url))
        title += " " if token.text.endswith(" ") else ""
        _append(written, title, title, "")
    elif token.type == "TAG":
        name = token.text.rstrip(" \t")[1:]
        name = name[1:-1] if name.startswith("(") else name
        if name not in written.tags:
            written.tags.append(name)
        _append(written, token.text, "", "")
    elif token.type == "MENTION":
        written.mentions.append(token.text.strip(" \t")[1:])
        _append(written, token.text, token.text, token.text)
    elif token.type.endswith("_END") and token.text.endswith(" "):
        _append(written, " ", " ", " ")


def _append(written: InlineText, text: str, words: str, bare: str) -> None:
    written.text = (written.text or "") + text
    line = written.lines[-1]
    line.whole += text
    line.words += words
    line.bare += bare
