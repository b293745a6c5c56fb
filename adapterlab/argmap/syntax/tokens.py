"""Terminals of the grammar, and the paragraphs that they make."""

from __future__ import annotations

from dataclasses import dataclass, field


class Token:
    """A terminal of the grammar: its kind, its text and where it stands."""

    __slots__ = ("end", "start", "text", "type")

    # lark copies these to its own end token; offsets say all that they would.
    start_pos = line = column = end_line = end_column = end_pos = None

    def __init__(self, kind: str, text: str, start: int, end: int) -> None:
        self.type, self.text, self.start, self.end = kind, text, start, end

    def __repr__(self) -> str:
        return f"{self.type}({self.text!r})"


@dataclass
class Paragraph:
    """The tokens between two empty lines, and what went wrong in reading them."""

    tokens: list[Token] = field(default_factory=list)
    start: int = 0
    failed: bool = False


RELATIONS = {
    "+>": "RELATION",
    "->": "RELATION",
    "+": "RELATION",
    "<+": "RELATION",
    "-": "RELATION",
    "<-": "RELATION",
    "_>": "RELATION",
    "_": "UNDERCUT",
    "<_": "UNDERCUT",
    "><": "CONTRADICTION",
}
"""The kind of token that each relation sign makes."""
