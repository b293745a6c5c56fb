r"""Positions in a document: lines and columns of the language server protocol, and offsets in the text.

The protocol counts columns in UTF-16 code units unless client and server agree on another encoding, and ends lines at
`\n`, `\r\n` and `\r`, and at no other character.

>>> text = Text("[😀 Rain]: It rains.\n[Wet]")
>>> text.position(4), text.offset(1, 1)
((0, 5), 21)
"""

from __future__ import annotations

import re
from bisect import bisect_right

_LINE_END = re.compile(r"\r\n|\n|\r")
_UNIT = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
"""Codec of each encoding, and the bytes of its code units."""


class Text:
    """A text with the places of its lines.

    Args:
        text: The text.
        encoding: Unit of columns: `utf-16`, `utf-8` or `utf-32`.
    """

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.text = text
        self.codec, self.size = _UNIT[encoding]
        self.starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
        """Offset of each line."""
        self.ascii = text.isascii()

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 0, of an offset; the end of the text for a larger one.

        Args:
            offset: Offset of a character.
        """
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self.starts, offset) - 1
        return line, self._units(self.text[self.starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position; the end of the line or of the text for a position behind it.

        Args:
            line: Line, from 0.
            column: Column, from 0.
        """
        if line >= len(self.starts):
            return len(self.text)
        start = self.starts[line]
        content = self.text[start : self.line_end(line)]
        if self.ascii:
            return start + min(column, len(content))
        units = 0
        for index, character in enumerate(content):
            units += self._units(character)
            if units > column:
                return start + index
        return start + len(content)

    def line_end(self, line: int) -> int:
        """Return the offset of the line break that ends a line, or of the end of the text.

        Args:
            line: Line, from 0.
        """
        if line + 1 >= len(self.starts):
            return len(self.text)
        end = self.starts[line + 1] - 1
        return end - 1 if self.text[end - 1 : end + 1] == "\r\n" else end

    def _units(self, text: str) -> int:
        return len(text) if self.ascii else len(text.encode(self.codec, "surrogatepass")) // self.size
