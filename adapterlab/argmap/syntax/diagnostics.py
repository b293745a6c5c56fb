"""What is wrong with a map, where, and how to mend it: with the source line and a caret, or as JSON for editors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Diagnostic:
    """One finding. `line` and `column` count from 1; `length` is how many characters the caret underlines."""

    severity: Severity
    code: str
    message: str
    line: int
    column: int = 1
    length: int = 1
    fix: str = ""
    """What to do about it; empty where the message already says so."""

    def render(self, source: Source | None = None) -> str:
        """The finding as a compiler would print it: place, message, source line, caret, mend."""
        name = source.name if source else "<map>"
        parts = [f"{name}:{self.line}:{self.column}: {self.severity}: {self.message} [{self.code}]"]
        text = source.line(self.line) if source else ""
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
        """The finding as a JSON object with the same field names."""
        return asdict(self)


@dataclass
class Source:
    """A map's text, with its lines."""

    text: str
    name: str = "<map>"
    _starts: list[int] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        starts, at = [0], self.text.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = self.text.find("\n", at + 1)
        self._starts = starts

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character offset."""
        index = bisect_right(self._starts, offset) - 1
        return index + 1, offset - self._starts[index] + 1

    def line(self, number: int) -> str:
        """The text of a line, without its line break; empty outside the file."""
        if not 1 <= number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def at(
        self, severity: Severity, code: str, message: str, offset: int, end: int | None = None, fix: str = ""
    ) -> Diagnostic:
        """A diagnostic for the characters from `offset` to `end`."""
        line, column = self.place(min(offset, len(self.text)))
        return Diagnostic(severity, code, message, line, column, max(1, (end or offset + 1) - offset), fix)


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Those that are errors, in the order of the file."""
    return sorted((d for d in diagnostics if d.severity == "error"), key=lambda d: (d.line, d.column))
