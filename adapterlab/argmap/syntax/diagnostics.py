r"""Errors and warnings about a map, shown with the source line and a caret, or as JSON for editors.

>>> source = Source("[Rain]: It rains.\n[Wet] is so", "weather.argdown")
>>> print(source.at("error", "text-place", "text follows a title", 24, 29, "add a colon").render(source))
weather.argdown:2:7: error: text follows a title [text-place]
    2 | [Wet] is so
              ^~~~~
      = add a colon
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
"""The character with which some editors begin a UTF-8 file."""


@dataclass(frozen=True)
class Diagnostic:
    """One error or warning."""

    severity: Severity
    code: str
    """Short name of the kind of problem, for example `missing-inference`."""
    message: str
    line: int
    """Line number, from 1."""
    column: int = 1
    """Column number, from 1."""
    length: int = 1
    """Number of characters that the caret underlines."""
    fix: str = ""
    """Suggested fix; empty if the message already contains it."""
    file: str = ""
    """Name of the included file that contains the place; empty for the map's own file."""

    @property
    def order(self) -> tuple[str, int, int, str]:
        """Key to sort by: the map's own file first, each file in the order of its text."""
        return self.file, self.line, self.column, self.code

    def render(self, source: Source | None = None) -> str:
        """Return the diagnostic as a compiler would print it: place, message, source line, caret, fix.

        Args:
            source: The text that the diagnostic is about; without it, the source line is left out.
        """
        name = self.file or (source.name if source else "<map>")
        parts = [f"{name}:{self.line}:{self.column}: {self.severity}: {self.message} [{self.code}]"]
        text = source.line(self.line, self.file) if source else ""
        if text.strip():
            gutter = f"{self.line:>5} | "
            start = min(self.column - 1, len(text))
            window = max(0, start - 100)  # a quote may be a thousand characters long
            shown = text[window : window + 140].replace("\t", " ")
            width = max(1, min(self.length, len(shown) - (start - window)))
            parts.append(f"{gutter}{shown}")
            parts.append(" " * (len(gutter) + start - window) + "^" + "~" * (width - 1))
        if self.fix:
            parts.append(f"      = {self.fix}")
        return "\n".join(parts)

    def to_json(self) -> dict[str, object]:
        """Return the fields as a JSON object with the same names."""
        return asdict(self)


@dataclass(frozen=True)
class Segment:
    """A part of a text that comes from one file."""

    start: int
    """Offset of the part in the text."""
    source: Source
    """The file."""
    offset: int
    """Offset of the part in the file."""
    fixed: bool = False
    """True if the whole part stands for the character at `offset`."""


@dataclass
class Source:
    """The text of a map, with the offsets of its lines."""

    text: str
    name: str = "<map>"
    """Name of the text in messages, usually its path."""
    segments: list[Segment] = field(default_factory=list, repr=False)
    """The files that the text consists of, if it includes others; the first is the map's own."""
    _starts: list[int] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        starts, at = [len(self.byte_order_mark)], self.text.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = self.text.find("\n", at + 1)
        self._starts = starts

    @property
    def files(self) -> dict[str, Source]:
        """The files that the text consists of, by name; the first is the map's own."""
        return {segment.source.name: segment.source for segment in self.segments} or {self.name: self}

    def origin(self, offset: int) -> tuple[Source, int]:
        """Return the file that contains a character, and the character's offset in it.

        Args:
            offset: The character's offset in the text.
        """
        if not self.segments:
            return self, offset
        segment = self.segments[max(0, bisect_right(self.segments, offset, key=lambda s: s.start) - 1)]
        return segment.source, segment.offset + (0 if segment.fixed else offset - segment.start)

    @property
    def byte_order_mark(self) -> str:
        """The byte order mark at the start of the text, which belongs to no line; empty if there is none."""
        return BYTE_ORDER_MARK if self.text.startswith(BYTE_ORDER_MARK) else ""

    def place(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 1, of a character in the file that contains it.

        Args:
            offset: The character's offset in the text.
        """
        if self.segments:
            source, offset = self.origin(offset)
            return source.place(offset)
        index = max(0, bisect_right(self._starts, offset) - 1)
        return index + 1, max(0, offset - self._starts[index]) + 1

    def line(self, number: int, file: str = "") -> str:
        """Return a line without its line break; an empty string outside the text.

        Args:
            number: Line number, from 1.
            file: Name of an included file; empty for the map's own.
        """
        if self.segments:
            source = self.files.get(file or self.name)
            return source.line(number) if source else ""
        if not 1 <= number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def at(
        self, severity: Severity, code: str, message: str, offset: int, end: int | None = None, fix: str = ""
    ) -> Diagnostic:
        """Return a diagnostic about a range of characters.

        Args:
            severity: `error` or `warning`.
            code: Short name of the kind of problem.
            message: The problem.
            offset: Offset of the first character.
            end: Offset behind the last character; one character if None.
            fix: How to fix the problem.
        """
        source, start = self.origin(min(offset, len(self.text)))
        line, column = source.place(start)
        file = "" if source.name == self.name else source.name
        return Diagnostic(severity, code, message, line, column, max(1, (end or offset + 1) - offset), fix, file)


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the errors, without the warnings, in the order of the text.

    Args:
        diagnostics: Errors and warnings.
    """
    return sorted((d for d in diagnostics if d.severity == "error"), key=lambda d: d.order)
