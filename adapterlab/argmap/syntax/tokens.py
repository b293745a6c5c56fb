"""Tokens (the terminals of the grammar) and paragraphs of tokens.

>>> Token("TEXT", "It rains", 8, 16)
TEXT('It rains')
>>> RELATIONS["><"]
'CONTRADICTION'
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Token:
    """A terminal of the grammar.

    Args:
        kind: Name of the terminal in the grammar, for example `TEXT`; kept as `type`, the name that lark reads.
        text: The token's characters, with escapes and shortcodes replaced.
        start: Offset of its first character in the source.
        end: Offset behind its last character.
    """

    __slots__ = ("end", "start", "text", "type")

    # lark copies these to the end token that it makes; `start` and `end` replace them here.
    start_pos = line = column = end_line = end_column = end_pos = None

    def __init__(self, kind: str, text: str, start: int, end: int) -> None:
        self.type, self.text, self.start, self.end = kind, text, start, end

    def __repr__(self) -> str:
        return f"{self.type}({self.text!r})"


@dataclass
class Paragraph:
    """The tokens between two empty lines."""

    tokens: list[Token] = field(default_factory=list)
    start: int = 0
    """Offset of the paragraph in the source."""
    failed: bool = False
    """True if the lexer has reported an error in it."""


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
"""Kind of token for each relation sign."""
