"""The text of a statement, heading or description, with its tags, links, mentions and quotes.

>>> inline = read_inline([Token("TEXT", "It rains, see ", 0, 14), Token("TAG", "#weather", 14, 22)])
>>> inline.plain, inline.tags
('It rains, see', ['weather'])
"""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterlab.argmap.syntax.finder import link_parts
from adapterlab.argmap.syntax.nodes import Content
from adapterlab.argmap.syntax.tokens import Token


@dataclass(slots=True)
class InlineText:
    """The content of a statement, heading or description."""

    text: str | None = None
    """The text as the reference implementation gives it: tags, link titles and quotes included."""
    plain: str = ""
    """The text without tags, quotes, and lines that consist of links."""
    tags: list[str] = field(default_factory=list)
    """Tags without `#`, each once."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Title and address of each link."""
    mentions: list[str] = field(default_factory=list)
    """Titles mentioned by `@[Claim]` or `@<Argument>`, in their brackets."""
    quotes: list[str] = field(default_factory=list)
    """The block quotes (lines that begin with `>`); consecutive lines are joined to one quote."""


def read_inline(content: Content, reference: bool = False, without_tags: bool = False) -> InlineText:
    """Read the tokens of a statement, heading or description.

    Args:
        content: The tokens.
        reference: True if they follow a title without a colon (`[Title] #tag`).
        without_tags: Leave the tags out of `InlineText.text`.

    Returns:
        The text and everything that is marked in it.
    """
    if not content:
        return InlineText()
    first, rest = content[0], content[1:]
    alone = not rest or (len(rest) == 1 and _is_newline(rest[0]))
    if alone and isinstance(first, Token) and first.type == "TEXT" and not first.text.startswith(">"):
        return InlineText(first.text, _line(first.text, first.text))
    reader = _Reader(without_tags)
    reader.read(content, reference)
    return reader.result()


def _is_newline(item: Token | Content) -> bool:
    return isinstance(item, Token) and item.type == "NEWLINE"


def _line(words: str, bare: str) -> str:
    """Return the words of a line with single spaces; nothing if only punctuation is left without its links."""
    return " ".join(words.split()) if bare.strip(" ,;.()") else ""


class _Reader:
    """Collects the pieces of a text. They are joined at the end, since joining each time would take quadratic time."""

    def __init__(self, without_tags: bool) -> None:
        self.without_tags = without_tags
        self.text: list[str] = []
        self.tags: dict[str, None] = {}
        self.links: list[tuple[str, str]] = []
        self.mentions: list[str] = []
        self.lines: list[str] = []
        """The lines before the present one, without tags; lines of quotes and of links alone are left out."""
        self.quotes: list[list[str]] = []
        """The lines of each quote."""
        self.after_quote = False
        self._new_line()

    def _new_line(self) -> None:
        self.words: list[str] = []
        """Pieces of the present line without tags."""
        self.bare: list[str] = []
        """Pieces of the present line without tags and link titles."""
        self.line_start = len(self.text)
        self.quote = False

    def _end_line(self) -> None:
        if self.quote:
            words = "".join(self.text[self.line_start :]).lstrip().lstrip(">").strip()
            if not self.after_quote:
                self.quotes.append([])
            self.quotes[-1].append(words)
        elif line := _line("".join(self.words), "".join(self.bare)):
            self.lines.append(line)
        self.after_quote = self.quote

    def result(self) -> InlineText:
        """End the last line and return the text."""
        self._end_line()
        text = "".join(self.text) if self.text else None
        quotes = [" ".join(lines) for lines in self.quotes]
        return InlineText(text, " ".join(self.lines), list(self.tags), self.links, self.mentions, quotes)

    def read(self, content: Content, reference: bool) -> None:
        """Read tokens, and the lists of tokens inside bold or italic."""
        last = len(content) - 1
        for index, item in enumerate(content):
            if isinstance(item, list):
                self.read(item, reference=False)
            elif item.type == "NEWLINE":
                self._end_line()
                if (index != last or reference) and not (self.text and self.text[-1].endswith(" ")):
                    self.text.append(" ")
                self._new_line()
            else:
                self._token(item)

    def _token(self, token: Token) -> None:
        text = token.text
        if token.type == "TEXT":
            if text.startswith(">") and len(self.text) == self.line_start:
                self.quote = True
            self._append(text)
        elif token.type == "LINK":
            title, url = link_parts(text) or (text, "")
            self.links.append((title, url))
            title += " " if text.endswith(" ") else ""
            self.text.append(title)
            self.words.append(title)
        elif token.type == "TAG":
            name = text.rstrip(" \t")[1:]
            self.tags[name[1:-1] if name.startswith("(") else name] = None
            if not self.without_tags:
                self.text.append(text)
        elif token.type == "MENTION":
            self.mentions.append(text.strip(" \t")[1:])
            self._append(text)
        elif token.type.endswith("_END") and text.endswith(" "):
            self._append(" ")

    def _append(self, text: str) -> None:
        self.text.append(text)
        self.words.append(text)
        self.bare.append(text)
