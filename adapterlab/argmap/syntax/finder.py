"""Ends of the long elements of a line: titles, links, tags, metadata, front matter, comments.

Each of these may extend to the end of its line or of the text. Every search remembers its result, so that no text
makes the lexer quadratic.

>>> Finder("[Rain]: It rains. {credence: 0.8}").element(0)
('STATEMENT_DEFINITION', 7)
"""

from __future__ import annotations

import re

_TAG = re.compile(r"#[a-zA-z0-9\-\u00A0-\uD7FF\uF900-\uFDCF\uFDF0-\uFFEF]+[ \t]?")
_DATA_STOP = re.compile(r"\}\s[^,}]|[\r\u2028\u2029]")
_DATA_CONTINUES = re.compile(r"\s*[,}]")
_LINE_BREAK = re.compile(r"[\n\r\u2028\u2029]")

Found = tuple[str, int]
"""A kind of token, and the offset behind it."""


def link_parts(link: str) -> tuple[str, str] | None:
    """Return the title and the address of a link.

    The rule is the reference's pattern: of several `](`, the last with an address behind it separates the two.

    Args:
        link: A link that `Finder` has found: it has one `)`, at its end or before one space.

    Returns:
        Title and address; None if one of them runs over a line break.
    """
    inside = link[: link.rindex(")")]
    separator = inside.rfind("](", 0, len(inside) - 1)
    if "\n" in inside[separator:]:
        return None
    start = inside.find("[", inside.rfind("\n", 0, separator) + 1, separator - 1)
    return (inside[start + 1 : separator], inside[separator + 2 :]) if start >= 0 else None


class NextMatch:
    """The next occurrence of a string or pattern. Searches with growing offsets read the text once in total.

    Args:
        text: The text to search.
        needle: The string or pattern to find.
    """

    def __init__(self, text: str, needle: str | re.Pattern[str]) -> None:
        self.text, self.needle = text, needle
        self.searched_from, self.found = 0, -1

    def after(self, start: int) -> int:
        """Return the offset of the first occurrence at or after `start`; the text's length if there is none.

        Args:
            start: Offset at which the search begins.
        """
        if start > self.found or start < self.searched_from:
            if isinstance(self.needle, str):
                at = self.text.find(self.needle, start)
                self.found = len(self.text) if at < 0 else at
            else:
                match = self.needle.search(self.text, start)
                self.found = match.start() if match else len(self.text)
            self.searched_from = start
        return self.found


class Finder:
    """Search for the elements of one text.

    Args:
        text: The text of a map.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.next = {name: NextMatch(text, name) for name in ("]", ")", "]:", ">", ">:", "===", "*/", "-->")}
        self.line_end = NextMatch(text, _LINE_BREAK)
        self.data_stop = NextMatch(text, _DATA_STOP)
        self.data_end: tuple[int, int] = (-1, -1)
        """Last result of `data`: the offset that limited the search, and the end of the metadata."""

    def element(self, at: int) -> Found | None:
        """Find the definition, reference, mention, link or tag that begins at a `[`, `<`, `@` or `#`.

        Args:
            at: Offset of that character.

        Returns:
            The kind of token and its end; None if no element begins there.
        """
        char = self.text[at]
        if char == "[":
            return self._link(at) or self._titled(at, "]", "STATEMENT")
        if char == "<":
            return self._titled(at, ">", "ARGUMENT")
        return self._tag(at) if char == "#" else self._mention(at)

    def _titled(self, at: int, closer: str, kind: str) -> Found | None:
        close = self.next[closer + ":"].after(at + 2)
        if close < self.line_end.after(at + 1):
            return f"{kind}_DEFINITION", close + 2
        if self.text[at + 1 : at + 2] in ("-", ""):
            return None
        close = self.next[closer].after(at + 2)
        return (f"{kind}_REFERENCE", close + 1) if close < self.line_end.after(at + 2) else None

    def _mention(self, at: int) -> Found | None:
        opener = self.text[at + 1 : at + 2]
        if opener not in ("[", "<"):
            return None
        close = self.next["]" if opener == "[" else ">"].after(at + 3)
        return ("MENTION", self._with_space(close + 1)) if close < self.line_end.after(at + 2) else None

    def _link(self, at: int) -> Found | None:
        close = self.next["]"].after(at + 1)
        if close == at + 1 or self.text[close + 1 : close + 2] != "(":
            return None
        return self._in_parentheses("LINK", close + 2)

    def _tag(self, at: int) -> Found | None:
        if self.text.startswith("#(", at):
            return self._in_parentheses("TAG", at + 2)
        match = _TAG.match(self.text, at)
        return ("TAG", match.end()) if match else None

    def _in_parentheses(self, kind: str, start: int) -> Found | None:
        close = self.next[")"].after(start)
        return (kind, self._with_space(close + 1)) if start < close < len(self.text) else None

    def _with_space(self, end: int) -> int:
        return end + (self.text[end : end + 1] in (" ", "\t"))

    def front_matter(self, at: int) -> Found | None:
        """Find the front matter that begins at `===`.

        Args:
            at: Offset of the first `=`.

        Returns:
            The kind of token and its end; None if no front matter begins there.
        """
        text, end = self.text, at
        while text.startswith("=", end):
            end += 1
        close = self.next["==="].after(end)
        if close == len(text):
            return ("FRONT_MATTER", end) if end - at >= 6 else None
        while text.startswith("=", close):
            close += 1
        return "FRONT_MATTER", close

    def data(self, at: int) -> Found | None:
        """Find the metadata that begins at a `{`.

        It ends at a `}` that is followed by white space and then by neither `,` nor `}`.

        Args:
            at: Offset of the `{`.

        Returns:
            The kind of token and its end; None if no metadata begins there.
        """
        stop = self.data_stop.after(at)
        if self.data_end[0] != stop:
            close = self.text.rfind("}", at, stop + 1)
            while close > at and _DATA_CONTINUES.match(self.text, close + 1):
                close = self.text.rfind("}", at, close)
            self.data_end = (stop, close + 1)
        return ("DATA", self.data_end[1]) if self.data_end[1] > at + 1 else None

    def comment_end(self, at: int) -> int | None:
        """Find the end of the comment that begins at `//`, `/*` or `<!--`.

        Args:
            at: Offset of the comment's first character.

        Returns:
            The offset behind the comment; None if no comment begins there. A `//` on a last line without a line break
            begins none.
        """
        text = self.text
        if text.startswith("//", at):
            end = self.line_end.after(at)
            return end if end < len(text) else None
        if text.startswith("/*", at):
            end = self.next["*/"].after(at + 2) + 2
        elif text.startswith("<!--", at):
            end = self.next["-->"].after(at + 4) + 3
        else:
            return None
        return end if end <= len(text) else None
